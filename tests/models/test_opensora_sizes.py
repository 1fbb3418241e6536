"""Open-Sora at other sizes than the references': 1 to 68 frames, non-square, padded, batches.

What must hold at any size: shapes, and that a clip's result does not depend on the clips beside it.
"""

from __future__ import annotations

import pytest
import torch

from pisa.diffusion.noise_levels import inference_noise_levels
from pisa.models.generate import generate
from pisa.models.opensora.temporal_vae import TemporalVAE
from pisa.types import Condition
from tests.models.test_opensora_adapter import tiny_model, tiny_vae

# Batches of another size round otherwise: at most 1.7e-5 on five seeds.
CLOSE = {"rtol": 1e-4, "atol": 5e-5}
LATENT_FRAMES = {1: 1, 2: 1, 4: 1, 5: 2, 16: 4, 17: 5, 18: 6, 31: 9, 32: 9, 34: 10, 51: 15, 68: 20}
# clips, frames, height and width in pixels; 8 px are a latent position, 2 of these a patch
SIZES = [(1, 1, 8, 8), (2, 5, 24, 40), (3, 17, 16, 56), (4, 32, 40, 24), (1, 68, 32, 48)]


def video_of(clips: int, frames: int, height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(frames)
    return torch.rand(clips, 3, frames, height, width, generator=generator) * 2 - 1


@torch.no_grad()
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_encoding_and_decoding_go_clip_by_clip(size):
    clips, frames, height, width = size
    model = tiny_model(sample_posterior=False)
    video = video_of(*size)
    latents = model.encode(video)
    shape = model.latent_shape(frames, height, width)
    assert latents.shape == (clips, *shape)
    assert shape == (4, LATENT_FRAMES[frames], height // 8, width // 8)
    decoded = model.decode(latents, frames)
    assert decoded.shape == video.shape and decoded.isfinite().all()
    torch.testing.assert_close(model.encode(video[-1:]), latents[-1:], **CLOSE)
    torch.testing.assert_close(model.decode(latents[-1:], frames), decoded[-1:], **CLOSE)


@torch.no_grad()
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_velocity_goes_clip_by_clip_and_sees_every_position(size):
    clips, frames, height, width = size
    model = tiny_model()
    shape = model.latent_shape(frames, height, width)
    x = torch.randn(clips, *shape, generator=torch.Generator().manual_seed(1))
    level = torch.linspace(0.2, 0.9, clips)
    clean = torch.zeros(clips, shape[1], dtype=torch.bool)
    clean[:, 0] = shape[1] > 1
    captions = model.encode_captions(["a", "a red ball", "two heavy books", "it falls"][:clips])

    def velocity(x: torch.Tensor, rows: slice) -> torch.Tensor:
        condition = Condition(captions.embedding[rows], captions.mask[rows])
        return model.velocity(x[rows], level[rows], condition, clean[rows], fps_hz=16.0)

    everything = velocity(x, slice(None))
    assert everything.shape == x.shape and everything.isfinite().all()
    torch.testing.assert_close(velocity(x, slice(-1, None)), everything[-1:], **CLOSE)
    corner = x.clone()
    corner[..., -1, -1] += 1.0  # in the padded row and column where the sides are odd
    changed = (velocity(corner, slice(None)) - everything).abs()
    assert (changed[:, :, -1, 0, 0].amax(dim=1) > 0).all()


@torch.no_grad()
@pytest.mark.parametrize("size", [(1, 1, 8, 8), (2, 20, 24, 40)], ids=str)
def test_generation_keeps_the_size_and_the_first_latent(size):
    clips, frames, height, width = size
    model = tiny_model(sample_posterior=False)
    first = video_of(*size)[:, :, 0]
    options = {"num_frames": frames, "fps_hz": 16.0, "num_steps": 2, "guidance": 4.0}
    generator = torch.Generator().manual_seed(0)
    made = generate(model, first, ["a ball"] * clips, **options, noise=generator)
    assert made.shape == (clips, 3, frames, height, width) and made.isfinite().all()
    if frames == 1:  # all is given
        expected = model.decode(model.encode_first_frame(first), 1)
        torch.testing.assert_close(made, expected, **CLOSE)


@pytest.mark.parametrize("frames", range(1, 69))
def test_every_length_has_noise_levels_and_latent_frames(frames):
    model = tiny_model()
    whole, rest = divmod(frames, 17)
    assert model.latent_shape(frames, 64, 64)[1] == 5 * whole + -(-rest // 4)
    levels = inference_noise_levels(4, model.noise_schedule_shift(frames, 64, 64))
    assert levels.isfinite().all() and (levels.diff() < 0).all()


@torch.no_grad()
def test_the_temporal_vae_is_causal_but_for_its_group_norms():
    vae = TemporalVAE(filters=4, num_res_blocks=1, num_groups=1)
    for module in list(vae.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, torch.nn.GroupNorm):
                setattr(module, name, torch.nn.Identity())
    x = torch.randn(1, 4, 8, 3, 5)
    later = x.clone()
    later[:, :, 4:] += 1
    first, second = vae.encode(x).mean, vae.encode(later).mean
    torch.testing.assert_close(first[:, :, 0], second[:, :, 0])
    assert not torch.allclose(first[:, :, 1], second[:, :, 1])


def test_wrong_numbers_of_latent_frames_are_refused():
    with pytest.raises(ValueError, match="do not decode to 32 frames"):
        tiny_vae().decode(torch.zeros(1, 4, 8, 2, 2), 32)
