"""Depth-Anything: the real transformers classes with a tiny random configuration, offline."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers import (
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    Dinov2Config,
    DPTImageProcessor,
)

from pisa.errors import PisaError
from pisa.perception.depth_anything import DepthAnything

SIZE = 42  # three patches


@pytest.fixture(scope="module")
def network() -> DepthAnythingForDepthEstimation:
    torch.manual_seed(0)
    backbone = Dinov2Config(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=SIZE,
        out_indices=[1, 2, 3, 4],
        reshape_hidden_states=False,
        apply_layernorm=True,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=16,
        neck_hidden_sizes=[4, 8, 16, 16],
        fusion_hidden_size=8,
        head_hidden_size=4,
        initializer_range=0.2,
    )
    return DepthAnythingForDepthEstimation(config).eval()


@pytest.fixture
def video() -> Tensor:
    return torch.randint(0, 256, (2, 3, 2, SIZE, SIZE)) / 127.5 - 1


def test_equals_transformers_own_inference(network, video: Tensor) -> None:
    frames = ((video[0].transpose(0, 1) + 1) * 127.5).round().byte()
    processor = DPTImageProcessor(
        size={"height": SIZE, "width": SIZE},
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    )
    with torch.no_grad():
        ours = DepthAnything(network, SIZE).depth(video)
        theirs = network(**processor(list(frames), return_tensors="pt")).predicted_depth
    assert ours.shape == (2, 2, SIZE, SIZE)
    assert theirs.std() > 1e-4
    assert torch.allclose(ours[0], theirs, atol=1e-4)


def test_resizes_and_returns_at_the_clips_size(network) -> None:
    depth = DepthAnything(network, SIZE).depth(torch.zeros(1, 3, 2, 20, 30))
    assert depth.shape == (1, 2, 20, 30)


def test_batch_and_chunks_equal_the_loop(network, video: Tensor) -> None:
    with torch.no_grad():
        whole = DepthAnything(network, SIZE).depth(video)
        chunked = DepthAnything(network, SIZE, frames_per_chunk=3).depth(video)
        alone = DepthAnything(network, SIZE).depth(video[1:])
    assert torch.allclose(whole, chunked, atol=1e-5)
    assert torch.allclose(whole[1:], alone, atol=1e-5)


def test_gradient_reaches_every_frame_and_chunks_keep_it(network, video: Tensor) -> None:
    video.requires_grad_()
    gradients = [
        torch.autograd.grad(DepthAnything(network, SIZE, n).depth(video).square().mean(), video)[0]
        for n in (None, 1)
    ]
    assert torch.isfinite(gradients[0]).all()
    assert (gradients[0].abs().amax(dim=(1, 3, 4)) > 0).all()
    assert torch.allclose(gradients[0], gradients[1], rtol=1e-3, atol=1e-9)


def test_frozen_and_stays_in_eval_mode(network) -> None:
    teacher = DepthAnything(network, SIZE).train()
    assert not any(module.training for module in teacher.modules())
    assert not any(p.requires_grad for p in teacher.parameters())


def test_missing_weights_name_file_source_and_place(tmp_path) -> None:
    with pytest.raises(PisaError, match=r"model\.safetensors.*Depth-Anything-V2-Small-hf.*path"):
        DepthAnything.from_pretrained(tmp_path / "nothing")


def test_loads_from_a_folder(network, video: Tensor, tmp_path) -> None:
    network.save_pretrained(tmp_path)
    loaded = DepthAnything.from_pretrained(tmp_path, SIZE)
    with torch.no_grad():
        assert torch.equal(loaded.depth(video), DepthAnything(network, SIZE).depth(video))


@pytest.mark.weights
def test_released_weights_see_the_floor_nearer_below() -> None:
    """With ViT-S, inverse depth of a rendered floor falls from the bottom to the horizon."""
    rows = torch.linspace(1, -1, 128).view(1, 1, 1, 128, 1).expand(1, 3, 1, 128, 128)
    depth = DepthAnything.from_pretrained().depth(rows.contiguous())
    assert depth[0, 0, -16:].mean() > depth[0, 0, :16].mean()
