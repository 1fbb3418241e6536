"""The adapters sample what diffusers' own pipelines do, and train."""

from __future__ import annotations

import errno
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from huggingface_hub.errors import (
    GatedRepoError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn

from pisa.errors import PisaError
from pisa.models import diffusers_i2v as adapters
from pisa.models.base import VideoModel
from pisa.models.diffusers_i2v.base import to_images
from pisa.models.diffusers_i2v.ltx2 import Streams, join
from pisa.models.generate import generate
from pisa.ops.video import from_uint8
from pisa.tasks.oro import ORO
from pisa.tasks.psft import PSFT
from pisa.tasks.reward_task import ChainStart
from pisa.types import collate
from tests.models import tiny_hunyuan_cosmos
from tests.models import tiny_pipelines as tiny
from tests.models.tiny_ltx2 import ltx2
from tests.tasks.toy import falling_clip

NEGATIVE = "static blurry"
SIZE = 32
TOKENS = {"max_tokens": 16}
SHORT = {"max_sequence_length": 16}
TEMPLATE = {"prompt_template": tiny.TEMPLATE}
HUNYUAN = {**TOKENS, **TEMPLATE}

# name: pipeline, adapter, its options, frames, steps, guidance, the call's options
CASES = {
    "cogvideox": (
        tiny.cogvideox, adapters.CogVideoX, {**TOKENS, "sample_posterior": True}, 9, 4, 6.0, SHORT
    ),
    "cogvideox1_5": (
        lambda: tiny.cogvideox("1.5"), adapters.CogVideoX,
        {**TOKENS, "sample_posterior": True}, 9, 4, 6.0, SHORT,
    ),
    "wan2_1": (tiny.wan, adapters.Wan, TOKENS, 9, 3, 5.0, {}),
    "svd": (tiny.svd, adapters.StableVideoDiffusion, {}, 3, 3, 3.0, {}),
    "ltx": (
        tiny.ltx, adapters.LTXVideo, {**TOKENS, "sample_posterior": True}, 9, 3, 3.0, SHORT
    ),
    "ltx_0_9_5": (
        lambda: tiny.ltx(True), adapters.LTXVideo, {**TOKENS, "sample_posterior": True}, 9, 3, 3.0,
        {**SHORT, "decode_timestep": 0.05, "decode_noise_scale": 0.025},
    ),
    "ltx2": (
        ltx2, adapters.LTX2, {**TOKENS, "stg_blocks": (1,), "use_cross_timestep": False}, 9, 3, 3.0,
        {**SHORT, "spatio_temporal_guidance_blocks": [1], "use_cross_timestep": False},
    ),
    "ltx2_3": (
        lambda: ltx2("2.3"), adapters.LTX2, {**TOKENS, "stg_blocks": (1,)}, 9, 3, 3.0,
        {**SHORT, "spatio_temporal_guidance_blocks": [1]},
    ),
    "hunyuan": (
        tiny_hunyuan_cosmos.hunyuan, adapters.HunyuanVideo, HUNYUAN, 5, 3, 1.0,
        {**SHORT, **TEMPLATE},
    ),
    "hunyuan_33ch": (
        lambda: tiny_hunyuan_cosmos.hunyuan("latent_concat"), adapters.HunyuanVideo,
        HUNYUAN, 9, 3, 1.0,
        {**SHORT, **TEMPLATE},
    ),
    "cosmos2": (tiny_hunyuan_cosmos.cosmos2, adapters.Cosmos2, {}, 9, 3, 7.0, {}),
    "cosmos2_5": (tiny_hunyuan_cosmos.cosmos2_5, adapters.Cosmos2_5, {}, 9, 3, 7.0, {}),
    "hunyuan15": (tiny_hunyuan_cosmos.hunyuan15, adapters.HunyuanVideo15, {}, 5, 3, 3.0, {}),
    "wan2_2_a14b": (lambda: tiny.wan("a14b"), adapters.Wan, TOKENS, 9, 3, 3.5, {}),
    "wan2_2_5b": (lambda: tiny.wan("5b"), adapters.Wan, TOKENS, 9, 3, 5.0, {}),
}  # fmt: skip
NOT_TRAINED = ("ltx_0_9_5", "hunyuan_33ch")
CASES_TO_TRAIN = [name for name in CASES if name not in NOT_TRAINED]


def make(name):
    pipeline, adapter, options, *_ = CASES[name]
    if adapter is not adapters.StableVideoDiffusion:
        options = {**options, "negative_prompt": NEGATIVE}
    return adapter(pipeline(), **options)


def first_frame(rows=1):
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (rows, 3, SIZE, SIZE), generator=generator, dtype=torch.uint8)
    return from_uint8(pixels)


def run_pipeline(name, pipe, image, noise, prompt):
    """The pipeline's own output in [-1, 1], from given noise; the rest of its draws are seeded."""
    frames, steps, guidance, options = CASES[name][3:]
    pipe.set_progress_bar_config(disable=True)
    call = {
        "image": image, "height": SIZE, "width": SIZE, "num_frames": frames,
        "num_inference_steps": steps, "output_type": "pt", **options,
    }  # fmt: skip
    if name == "svd":
        call |= {"max_guidance_scale": guidance, "fps": 7, "latents": noise.transpose(1, 2)}
    else:
        call |= {"prompt": prompt, "negative_prompt": NEGATIVE, "guidance_scale": guidance}
        call["latents"] = noise.transpose(1, 2) if name.startswith("cogvideox") else noise
    if name.startswith("wan"):  # ftfy is no dependency of this project
        with torch.no_grad():
            embed = make(name)._embed
            call |= {"prompt_embeds": embed([prompt]).embedding}
            call |= {"negative_prompt_embeds": embed([NEGATIVE]).embedding}
        call["prompt"] = call["negative_prompt"] = None
    if name == "hunyuan15":
        for key in ("height", "width", "guidance_scale"):
            del call[key]
    elif name.startswith("hunyuan"):
        call |= {"guidance_scale": 6.0, "true_cfg_scale": 1.0, "negative_prompt": None}
    if name.startswith("ltx"):
        del call["latents"]  # it takes packed ones and then no image
        call["frame_rate"] = 16
    if name == "cosmos2":
        call |= {"fps": 16, "output_type": "latent"}  # its guardrail rounds the video to 8 bits
    torch.manual_seed(3)
    if name == "cosmos2":
        return pipe(**call).frames[0]
    return pipe(**call).frames[0].transpose(0, 1) * 2 - 1  # [3, T, H, W]


def noise_of_both(model, frames):
    """What LTX-2's pipeline draws for picture and sound from ``run_pipeline``'s seed."""
    torch.manual_seed(3)
    channels, latent_frames, rows, columns = model.latent_shape(frames, SIZE, SIZE)
    video = torch.randn(1, channels, model._video_frames(frames), rows, columns)
    audio = model.pipe._pack_audio_latents(torch.randn(1, 2, model.audio_tokens(frames, 16.0), 2))
    return join(Streams(video, audio), latent_frames)


@pytest.mark.parametrize("name", CASES)
def test_sampling_equals_the_pipeline(name):
    model = make(name)
    frames, steps, guidance, _ = CASES[name][3:]
    assert isinstance(model, VideoModel)
    image, prompt = first_frame(), "a red ball falls"
    shape = (1, *model.latent_shape(frames, SIZE, SIZE))
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    if name.startswith("ltx2"):  # it draws its noise itself, that of the sound last
        noise = noise_of_both(model, frames)
    elif name.startswith("ltx"):  # it draws its noise after the posterior of the first frame
        torch.manual_seed(3)
        model.encode_first_frame(image)
        noise = torch.randn(shape)
    expected = run_pipeline(name, model.pipe, to_images(image)[0], noise.clone(), prompt)
    torch.manual_seed(3)
    if name == "svd":
        model.told_fps_hz = 7
    if name == "ltx_0_9_5":  # its decoder draws as well, after the pipeline's initial noise
        encode = model.encode_first_frame
        model.encode_first_frame = lambda frame: (encode(frame), torch.randn(shape))[0]
    if name == "cosmos2":
        model.decode = lambda latents, num_frames: latents
    with torch.no_grad():
        made = generate(
            model, image, [prompt], num_frames=frames, fps_hz=16.0, num_steps=steps,
            guidance=guidance, noise=noise,
        )  # fmt: skip
    made = made[0] if name == "cosmos2" else made[0].clamp(-1, 1)
    if name == "hunyuan_33ch":
        made = made[:, 4:]
    assert made.shape == expected.shape
    assert expected.std() > 1e-3
    assert (made - expected).abs().max() < 1e-4


class Redness(nn.Module):
    name = "redness"

    def forward(self, generated, batch):
        return generated[:, 0].mean(dim=(1, 2, 3))


def gradient_norm(model, loss):
    loss.backward()
    squares = [p.grad.square().sum() for p in model.denoiser.parameters() if p.grad is not None]
    return torch.stack(squares).sum().sqrt()


def batch_of(frames):
    return collate([falling_clip(i, frames=frames, size=SIZE) for i in range(2)])


@pytest.mark.parametrize("name", CASES_TO_TRAIN)
def test_psft_and_oro_have_a_gradient(name):
    model = make(name)
    batch = batch_of(CASES[name][3])
    psft = PSFT(model, caption="a red ball falls", caption_dropout=0.5)
    oro = ORO(model, Redness(), num_steps=2, guidance=2.0, caption="a red ball falls")
    for task in (psft, oro):
        loss = loss_of(task, batch)
        norm = gradient_norm(model, loss)
        assert torch.isfinite(loss) and torch.isfinite(norm) and norm > 0
        model.denoiser.zero_grad(set_to_none=True)


def loss_of(task, batch):
    """The loss of the task's training step, without a trainer around it."""
    generator = torch.Generator().manual_seed(0)
    if isinstance(task, PSFT):
        return task.mean_loss(task.loss, batch, (0, "train"))
    shape = task.model.latent_shape(*batch.video.shape[2:])
    noise = torch.randn(len(batch), *shape, generator=generator)
    generated = task.generate(batch, ChainStart(noise), task.sampler([0, 1]))
    return -task.rewards(generated, batch).mean()


def test_frame_counts_and_sizes_are_refused_in_one_sentence():
    model = make("wan2_1")
    with pytest.raises(PisaError, match=r"Wan makes 4 k \+ 1 frames, not 32: set 29 or 33"):
        model.latent_shape(32, SIZE, SIZE)
    with pytest.raises(PisaError, match="Wan needs sides divisible by 16 px, not 33x32"):
        model.latent_shape(9, 33, 32)


@pytest.mark.parametrize("name", ["cogvideox", "cogvideox1_5"])
def test_cogvideox_makes_an_odd_number_of_latent_frames(name):
    """Of an even number its VAE makes 4 frames too many at the start."""
    model = make(name)
    with pytest.raises(PisaError, match=r"CogVideoX makes 8 k \+ 1 frames, not 29: set 25 or 33"):
        model.latent_shape(29, SIZE, SIZE)
    video = batch_of(9).video
    latents = model.encode(video)
    assert latents.shape[1:] == model.latent_shape(9, SIZE, SIZE)
    assert model.decode(latents, 9).shape == video.shape


def test_text_to_video_weights_are_refused_in_one_sentence():
    pipe = tiny.wan("5b")
    pipe.register_to_config(expand_timesteps=False)  # 16 channels: latents and nothing else
    with pytest.raises(PisaError, match="has no input for a first frame"):
        adapters.Wan(pipe)


@pytest.mark.parametrize(
    "error, sentence",
    [
        (GatedRepoError("403", response=Mock()), "set HF_TOKEN"),
        (RepositoryNotFoundError("404", response=Mock()), "no repository some/model"),
        (LocalEntryNotFoundError("no network, no cache"), "cannot reach the hub for some/model"),
        (OSError(errno.EIO, "Input/output error"), "cannot load some/model"),
    ],
)
def test_weights_that_cannot_be_had(monkeypatch, error, sentence):
    """The hub's errors as diffusers passes them on."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("diffusers.configuration_utils.hf_hub_download", Mock(side_effect=error))
    with pytest.raises(PisaError, match=sentence) as raised:
        adapters.Wan.from_pretrained("some/model")
    assert "\n" not in str(raised.value)


def test_a_folder_that_is_not_there_is_named():
    with pytest.raises(PisaError, match=r"no folder \./nowhere \(model\.repository\)"):
        adapters.Wan.from_pretrained("./nowhere")


def test_another_family_is_named(monkeypatch):
    config = {"_class_name": "LTXPipeline"}
    monkeypatch.setattr("diffusers.DiffusionPipeline.load_config", lambda *a, **k: config)
    with pytest.raises(PisaError, match=r"some/model is a LTXPipeline; .* needs a WanImageToVideo"):
        adapters.Wan.from_pretrained("some/model")


def test_offload_needs_a_gpu():
    model = adapters.Wan(tiny.wan(), offload="model")
    with pytest.raises(PisaError, match=r"model\.offload=none"):
        model.place(torch.device("cpu"))


YAMLS = {
    "cogvideox1_5_5b_i2v": lambda: tiny.cogvideox("1.5"),
    "cogvideox_5b_i2v": tiny.cogvideox,
    "cosmos2_5_predict": tiny_hunyuan_cosmos.cosmos2_5,
    "cosmos2_video2world": tiny_hunyuan_cosmos.cosmos2,
    "hunyuan_video": tiny_hunyuan_cosmos.hunyuan,
    "hunyuan_video15": tiny_hunyuan_cosmos.hunyuan15,
    "ltx": tiny.ltx,
    "ltx2": ltx2,
    "svd_xt": tiny.svd,
    "wan2_1_i2v": tiny.wan,
    "wan2_2_i2v": lambda: tiny.wan("a14b"),
    "wan2_2_ti2v_5b": lambda: tiny.wan("5b"),
}


def test_every_yaml_builds_its_model(monkeypatch):
    folder = Path(__file__).parents[2] / "configs" / "model"
    files = {p.stem: p for p in folder.glob("*.yaml") if "diffusers_i2v" in p.read_text()}
    assert files.keys() == YAMLS.keys()
    for name, path in files.items():
        pipe = YAMLS[name]()
        loaded = Mock(return_value=pipe)
        monkeypatch.setattr("pisa.models.diffusers_i2v.base.load_pipeline", loaded)
        shared = OmegaConf.load(folder / "base" / "diffusers.yaml")
        model = instantiate(OmegaConf.merge(shared, OmegaConf.load(path).model))
        assert isinstance(model, VideoModel) and model.pipe is pipe
        assert loaded.call_args.args[0] == type(pipe).__name__
