"""LTX-2's sound: where it travels, that it matters to the picture, that training leaves it be."""

from __future__ import annotations

import pytest
import torch

from pisa.errors import PisaError
from pisa.models.diffusers_i2v import LTX2
from pisa.models.diffusers_i2v.loading import check_family
from pisa.models.diffusers_i2v.ltx2 import Guidance, Streams, join, split
from pisa.models.generate import generate
from pisa.tasks.psft import PSFT
from pisa.types import collate
from tests.models.tiny_ltx2 import ltx2
from tests.tasks.toy import falling_clip

FRAMES, SIZE = 9, 32


def tiny(version="2.0", **options):
    return LTX2(ltx2(version), max_tokens=16, stg_blocks=(1,), **options)


def made(model, noise, guidance=3.0):
    frame = falling_clip(0, frames=FRAMES, size=SIZE).video[None, :, 0]
    with torch.no_grad():
        return generate(
            model, frame, ["a red ball falls"], num_frames=FRAMES, fps_hz=16.0, num_steps=3,
            guidance=guidance, noise=noise,
        )  # fmt: skip


def noise_for(model):
    shape = (1, *model.latent_shape(FRAMES, SIZE, SIZE))
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_streams_survive_the_way_through_one_tensor():
    video, audio = torch.randn(2, 6, 3, 4, 4), torch.randn(2, 20, 5)
    joined = join(Streams(video, audio), frames=5)
    back = split(joined, frames=3, tokens=20, width=5)
    assert joined.shape == (2, 6, 5, 4, 4)
    assert torch.equal(back.video, video) and torch.equal(back.audio, audio)


def test_the_sound_changes_the_picture():
    model = tiny()
    noise = noise_for(model)
    other = noise.clone()
    other[:, :, -1] = -other[:, :, -1]
    unused = noise.clone()
    unused[:, :, -1].flatten(2)[:, :, model.audio_tokens(FRAMES, 16.0) :] = 7.0
    assert not torch.equal(noise, unused)
    assert (made(model, noise) - made(model, other)).abs().max() > 1e-4
    assert torch.equal(made(model, noise), made(model, unused))


@pytest.mark.parametrize("term", ["audio", "stg", "modality", "rescale"])
def test_every_guidance_term_counts(term):
    off = {"audio": 1.0, "stg": 0.0, "modality": 1.0, "rescale": 0.0}[term]
    model = tiny("2.3")
    noise = noise_for(model)
    full = made(model, noise)
    model.guidance = Guidance(**{term: off})
    assert (made(model, noise) - full).abs().max() > 1e-4


def test_training_leaves_the_sound_be_and_reaches_everything_else():
    model = tiny("2.3")
    clips = collate([falling_clip(i, frames=FRAMES, size=SIZE) for i in range(2)])
    task = PSFT(model, caption="a red ball falls")
    task.mean_loss(task.loss, clips, (0, "train")).backward()
    trained = {n: p for n, p in model.denoiser.named_parameters() if p.requires_grad}
    assert 0 < len(trained) < len(list(model.denoiser.parameters()))
    assert not [name for name in trained if "audio" in name]
    assert [name for name, p in trained.items() if p.grad is None] == []


def test_slow_clips_are_refused_in_one_sentence():
    model = tiny()
    with pytest.raises(PisaError, match=r"not 4: set model.min_fps_hz=4"):
        model.audio_tokens(FRAMES, 4.0)
    assert tiny(min_fps_hz=4.0).audio_tokens(FRAMES, 4.0) == 56


def test_ltx_video_weights_are_no_ltx2():
    with pytest.raises(PisaError, match="some/model is a LTXPipeline"):
        check_family("LTXPipeline", "LTX2ImageToVideoPipeline", "some/model")
    check_family("LTX2Pipeline", "LTX2ImageToVideoPipeline", "some/model")
