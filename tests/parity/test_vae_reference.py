"""The VAE against tensors recorded from the release, and the names of the released tensors."""

from __future__ import annotations

import pytest
import torch

from pisa.models.opensora import OpenSoraVAE, TemporalVAE
from tests.parity.opensora_reference import description, more_tensors

CLOSE = {"atol": 1e-4, "rtol": 1e-4}


@pytest.fixture(scope="module")
def pipeline() -> tuple[OpenSoraVAE, dict[str, torch.Tensor]]:
    recorded = description("vae_tiny")
    vae = OpenSoraVAE(spatial_cfg=recorded["spatial_cfg"], temporal_cfg=recorded["temporal_cfg"])
    vae.load_state_dict(more_tensors("vae_pipeline_tiny_state"), strict=True)
    return vae.eval().requires_grad_(False), more_tensors("vae_pipeline_tiny_io")


def test_full_size_has_the_released_tensors():
    expected = description("vae_v1_2_keys")
    with torch.device("meta"):
        vae = OpenSoraVAE()
    assert {k: list(v.shape) for k, v in vae.state_dict().items()} == expected["keys"]
    assert len(vae.state_dict()) == expected["n_keys"] == 517
    for num_frames, (latent_frames, _, _) in expected["get_latent_size_256"].items():
        assert vae.latent_frames(int(num_frames)) == latent_frames


def test_defaults_are_the_released_constants():
    expected = description("vae_v1_2_keys")
    recorded = description("vae_tiny")
    vae = OpenSoraVAE(recorded["spatial_cfg"], recorded["temporal_cfg"])
    torch.testing.assert_close(vae.shift.flatten(), torch.tensor(expected["shift"]))
    torch.testing.assert_close(vae.scale.flatten(), torch.tensor(expected["scale"]))
    assert vae.spatial_vae.scaling_factor == expected["spatial_scaling_factor"]
    assert vae.micro_frame_size == expected["micro_frame_size"]


@torch.no_grad()
@pytest.mark.parametrize("num_frames", [1, 5, 17, 32])
def test_temporal_vae(num_frames):
    vae = TemporalVAE(**description("vae_tiny")["temporal_cfg"])
    vae.load_state_dict(more_tensors("vae_temporal_tiny_state"), strict=True)
    recorded = more_tensors("vae_temporal_tiny_io")
    case = {k.split(".")[1]: v for k, v in recorded.items() if k.startswith(f"t{num_frames}.")}
    posterior = vae.encode(case["x"])
    torch.testing.assert_close(posterior.mean, case["mean"], **CLOSE)
    torch.testing.assert_close(posterior.std, case["std"], **CLOSE)
    sample = posterior.sample(lambda mean: case["sample_noise"])
    torch.testing.assert_close(sample, case["sample_seed77"], **CLOSE)
    torch.testing.assert_close(vae.decode(case["mean"], num_frames), case["dec_of_mean"], **CLOSE)


@torch.no_grad()
def test_pipeline_encodes_means(pipeline):
    vae, recorded = pipeline
    torch.testing.assert_close(vae.encode(recorded["x"], sample=False), recorded["z_mode"], **CLOSE)
    image = vae.encode(recorded["x"][:, :, :1], sample=False)
    torch.testing.assert_close(image, recorded["z_img_mode"], **CLOSE)


@torch.no_grad()
def test_pipeline_encodes_samples(pipeline):
    vae, recorded = pipeline
    temporal = [recorded["noise_temporal.0"], recorded["noise_temporal.1"]]
    noises = iter([*recorded["noise_spatial"].split(4), *temporal])
    actual = vae.encode(recorded["x"], draw_noise=lambda mean: next(noises))
    torch.testing.assert_close(actual, recorded["z_sampled"], **CLOSE)
    assert next(noises, None) is None


@torch.no_grad()
def test_pipeline_decodes(pipeline):
    vae, recorded = pipeline
    latents = recorded["z_mode"]
    torch.testing.assert_close(vae.decode(latents, 32), recorded["dec"], **CLOSE)
    between = vae.decode_time(latents, 32)
    torch.testing.assert_close(between, recorded["dec_temporal_only"], **CLOSE)


@torch.no_grad()
def test_a_frame_alone_differs_from_the_first_frame_of_a_clip(pipeline):
    """Group norms span time; training and inference of the release differ in this."""
    vae, recorded = pipeline
    within = vae.encode(recorded["x"], sample=False)[:, :, :1]
    alone = vae.encode(recorded["x"][:, :, :1], sample=False)
    assert float((alone - within).norm() / within.norm()) > 0.5
