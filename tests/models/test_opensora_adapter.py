"""The adapter's conventions, with a tiny random network, VAE and caption encoder."""

from __future__ import annotations

import pytest
import torch

from pisa.diffusion.noise_levels import inference_noise_levels
from pisa.diffusion.path import interpolate, velocity_target
from pisa.errors import PisaError
from pisa.models.generate import generate
from pisa.models.opensora import OpenSoraVAE, STDiT3
from pisa.models.opensora.adapter import OpenSoraModel
from pisa.types import Condition

torch.set_num_threads(1)


class Captions:
    """Five tokens of which as many are real as the caption has words."""

    def __call__(self, captions):
        words = torch.tensor([len(caption.split()) for caption in captions])
        mask = torch.arange(5)[None] < words[:, None]
        return Condition(words[:, None, None].float().expand(-1, 5, 16), mask)


def tiny_vae() -> OpenSoraVAE:
    spatial = {
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "block_out_channels": (8, 8, 8, 8),
        "layers_per_block": 1,
        "norm_num_groups": 4,
    }
    temporal = {"filters": 8, "num_res_blocks": 1, "num_groups": 4}
    return OpenSoraVAE(spatial, temporal)


def tiny_model(**options) -> OpenSoraModel:
    torch.manual_seed(0)
    denoiser = STDiT3(hidden_size=32, depth=1, num_heads=2, caption_channels=16, model_max_length=5)
    torch.nn.init.normal_(denoiser.final_layer.linear.weight, std=0.1)
    torch.manual_seed(1)  # the VAE's weights do not depend on how the denoiser is initialised
    return OpenSoraModel(denoiser, tiny_vae(), Captions(), **options).eval()


class Oracle(torch.nn.Module):
    """In place of STDiT3: knows the clip, answers in Open-Sora's convention, keeps its input."""

    def __init__(self, x0, noise):
        super().__init__()
        self.x0, self.noise = x0, noise
        self.inputs: dict = {}

    def forward(self, x, timestep, y, **inputs):
        self.inputs = {"x": x, "timestep": timestep, "y": y, **inputs}
        return torch.cat([self.x0 - self.noise, torch.full_like(x, torch.nan)], dim=1)


def test_round_trip_of_the_convention():
    """One Euler step along the adapter's velocity from pure noise gives back the clip."""
    x0, noise = torch.randn(2, 4, 9, 4, 4), torch.randn(2, 4, 9, 4, 4)
    model = tiny_model()
    model.denoiser = Oracle(x0, noise)
    condition = Captions()(["a ball", "two heavy books"])
    clean_frames = torch.zeros(2, 9, dtype=torch.bool)
    clean_frames[:, 0] = True
    s = torch.tensor([0.25, 1.0])
    x = interpolate(x0, noise, s)
    velocity = model.velocity(x, s, condition, clean_frames, fps_hz=16.0)
    torch.testing.assert_close(velocity, velocity_target(x0, noise))
    torch.testing.assert_close(x - s[:, None, None, None, None] * velocity, x0)
    seen = model.denoiser.inputs
    assert seen["timestep"].tolist() == [250.0, 1000.0]  # 1000 is noise
    assert torch.equal(seen["x_mask"], ~clean_frames)  # False where given clean
    assert (seen["fps"].item(), seen["height"].item(), seen["width"].item()) == (16, 32, 32)


def test_the_network_gives_the_opposite_of_the_velocity():
    model = tiny_model()
    x, s = torch.randn(1, 4, 2, 4, 4), torch.tensor([0.5])
    condition = model.encode_captions(["a ball"])
    frames = torch.zeros(1, 2, dtype=torch.bool)
    raw = model.denoiser(
        x,
        torch.tensor([500.0]),
        condition.embedding[:, None],
        mask=condition.mask,
        x_mask=~frames,
        fps=torch.tensor([16.0]),
        height=torch.tensor([32.0]),
        width=torch.tensor([32.0]),
    )
    velocity = model.velocity(x, s, condition, frames, fps_hz=16.0)
    assert velocity.abs().max() > 0
    torch.testing.assert_close(velocity, -raw[:, :4])


def test_shift_of_the_paper_s_clips():
    model = tiny_model()
    assert model.noise_schedule_shift(32, 256, 256) == pytest.approx(1.118, abs=1e-3)
    assert model.noise_schedule_shift(1, 512, 512) == pytest.approx(1.0)
    assert model.noise_schedule_shift(16, 512, 512) > 0  # the release gets 0 here
    assert inference_noise_levels(3, model.noise_schedule_shift(16, 64, 64)).isfinite().all()


def test_latent_shape_is_what_encode_makes():
    model = tiny_model()
    with torch.no_grad():
        latents = model.encode(torch.randn(1, 3, 18, 16, 24))
        assert model.decode(latents, 18).shape == (1, 3, 18, 16, 24)
    assert latents.shape[1:] == model.latent_shape(18, 16, 24) == (4, 6, 2, 3)
    with pytest.raises(PisaError, match="divisible by 8"):
        model.latent_shape(18, 15, 24)


def test_posterior_mean_is_repeatable_and_samples_are_not():
    frame = torch.randn(1, 3, 16, 16)
    mean, sampled = tiny_model(sample_posterior=False), tiny_model()
    with torch.no_grad():
        assert torch.equal(mean.encode_first_frame(frame), mean.encode_first_frame(frame))
        assert not torch.equal(sampled.encode_first_frame(frame), sampled.encode_first_frame(frame))


def test_only_the_denoiser_trains():
    model = tiny_model().train()
    assert model.denoiser.training and not model.vae.training
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert trained and all(name.startswith("denoiser.") for name in trained)


def test_null_prompt_takes_the_mask_of_the_caption():
    model = tiny_model()
    model.denoiser = Oracle(torch.zeros(4, 4, 2, 2, 2), torch.ones(4, 4, 2, 2, 2))
    model.denoiser.y_embedder = tiny_model().denoiser.y_embedder
    options = {"num_frames": 5, "fps_hz": 16.0, "num_steps": 1, "guidance": 4.0}
    captions = ["a ball", "two heavy books"]
    generate(model, torch.zeros(2, 3, 16, 16), captions, **options)
    mask = model.denoiser.inputs["mask"]
    assert mask.sum(1).tolist() == [2, 3, 2, 3]
    null = model.denoiser.inputs["y"][2:, 0]
    assert torch.equal(null, model.denoiser.y_embedder.y_embedding.expand(2, -1, -1))


def test_vae_checkpointing_gives_the_same_gradient():
    latents = torch.randn(1, 4, 2, 2, 2)
    grads = []
    for recompute in (False, True):
        model = tiny_model()
        model.vae.spatial_vae.grad_checkpoint = recompute
        given = latents.clone().requires_grad_()
        model.decode(given, 5).square().mean().backward()
        grads.append(given.grad)
    assert grads[0].any()
    torch.testing.assert_close(grads[0], grads[1])
