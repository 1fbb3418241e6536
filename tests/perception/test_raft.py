"""RAFT: real network classes with random weights, offline."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.models.optical_flow import Raft_Large_Weights, raft_large, raft_small

from pisa.errors import PisaError
from pisa.perception.raft import RAFT


@pytest.fixture(scope="module")
def small() -> torch.nn.Module:
    torch.manual_seed(0)
    return raft_small(weights=None).eval()


@pytest.fixture
def video() -> Tensor:
    return torch.rand(2, 3, 3, 128, 128) * 2 - 1


def test_equals_torchvisions_own_inference(video: Tensor) -> None:
    network = raft_large(weights=None).eval()
    levels = ((video[:1] + 1) * 127.5).round().byte()
    teacher = RAFT(network, num_updates=2)
    with torch.no_grad():
        ours = teacher.flow(levels.float() / 127.5 - 1)
        first, second = Raft_Large_Weights.C_T_V1.transforms()(levels[:, :, 1], levels[:, :, 2])
        theirs = network(first, second, num_flow_updates=2)[-1]
    assert ours.shape == (1, 2, 2, 128, 128)
    assert torch.allclose(ours[:, :, 1], theirs, atol=1e-4)


def test_batch_and_chunks_equal_the_loop(small: torch.nn.Module, video: Tensor) -> None:
    with torch.no_grad():
        whole = RAFT(small, num_updates=2).flow(video)
        chunked = RAFT(small, num_updates=2, pairs_per_chunk=3).flow(video)
        alone = RAFT(small, num_updates=2).flow(video[1:])
    assert torch.allclose(whole, chunked, atol=1e-4)
    assert torch.allclose(whole[1:], alone, atol=1e-4)


def test_gradient_reaches_every_frame_and_chunks_keep_it(
    small: torch.nn.Module, video: Tensor
) -> None:
    clip = video[:1].requires_grad_()
    gradients = [
        torch.autograd.grad(RAFT(small, 2, chunk).flow(clip).square().mean(), clip)[0]
        for chunk in (None, 1)
    ]
    assert torch.isfinite(gradients[0]).all()
    assert (gradients[0].abs().amax(dim=(0, 1, 3, 4)) > 0).all()
    assert torch.allclose(gradients[0], gradients[1], rtol=1e-3, atol=1e-6)


def test_frozen_and_stays_in_eval_mode(small: torch.nn.Module) -> None:
    teacher = RAFT(small).train()
    assert not any(module.training for module in teacher.modules())
    assert not any(p.requires_grad for p in teacher.parameters())


def test_small_frames_are_refused(small: torch.nn.Module) -> None:
    with pytest.raises(PisaError, match="128x128"):
        RAFT(small).flow(torch.zeros(1, 3, 2, 64, 64))


def test_missing_weights_name_file_source_and_place(tmp_path, monkeypatch) -> None:
    def no_network(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    with pytest.raises(PisaError, match=r"raft_large_C_T_V1.*https://.*save it as"):
        RAFT.from_pretrained()
    with pytest.raises(PisaError, match="no weights at"):
        RAFT.from_pretrained(tmp_path / "nothing.pth")


@pytest.mark.weights
def test_released_weights_see_a_shift() -> None:
    """With the C_T_V1 weights, a texture moved by 4 px gives a flow of 4 px."""
    texture = torch.nn.functional.interpolate(torch.rand(1, 3, 20, 20), (160, 160), mode="bicubic")
    clip = torch.stack([texture[..., 8:136, 12:140], texture[..., 8:136, 8:136]], dim=2) * 2 - 1
    flow = RAFT.from_pretrained().flow(clip.clamp(-1, 1))
    assert flow[0, 0, 0, 32:96, 32:96].mean().item() == pytest.approx(4, abs=0.5)
