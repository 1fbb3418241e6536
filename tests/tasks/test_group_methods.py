"""Methods without a reward gradient, on a Gaussian whose mean the reward moves.

The model holds the exact velocity of N(mean, 0.5^2), so the best mean under a reward that falls
with the squared distance from 1 is 1, whatever the method. (DPO's beta pulls towards the start; it
is small here.)
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pisa.diffusion.samplers import ancestral_step
from pisa.models.base import VideoModel
from pisa.rewards.base import Reward
from pisa.tasks.dpo import FlowDPO
from pisa.tasks.grpo import FlowGRPO
from pisa.tasks.nft import DiffusionNFT
from pisa.tasks.oro import ORO
from pisa.tasks.rejection import RejectionSampling
from pisa.types import Condition
from tests.tasks.test_oro import fit
from tests.tasks.toy import falling_batch, make_trainer, toy_model

SPREAD = 0.5


class Mean(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        s = s.view(-1, 1, 1, 1, 1)
        variance = (1 - s) ** 2 * SPREAD**2 + s**2
        offset = x - (1 - s) * self.mean
        return s / variance * offset - (self.mean + (1 - s) * SPREAD**2 / variance * offset)


class GaussianModel(VideoModel):
    """Clips of one colour, the latent, whatever the first frame."""

    first_frame_in_latents = False

    def __init__(self) -> None:
        super().__init__()
        self.denoiser = Mean()

    def encode(self, video: Tensor) -> Tensor:
        return video.mean(dim=(1, 2, 3, 4), keepdim=True)

    def encode_first_frame(self, frame: Tensor) -> Tensor:
        return frame.mean(dim=(1, 2, 3), keepdim=True)[:, :, None]

    def decode(self, latents: Tensor, num_frames: int) -> Tensor:
        return latents.expand(-1, 3, num_frames, 16, 16)

    def latent_shape(self, num_frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        return 1, 1, 1, 1

    def encode_captions(self, captions) -> Condition:
        return self.null_condition(len(captions))

    def null_condition(self, batch_size: int) -> Condition:
        return Condition(torch.zeros(batch_size, 1, 1), torch.ones(batch_size, 1, dtype=torch.bool))

    def velocity(self, x, noise_level, condition, clean_frames, *, fps_hz):
        return self.denoiser(x, noise_level)

    def noise_schedule_shift(self, num_frames: int, height: int, width: int) -> float:
        return 1.0


class Near(Reward):
    """Minus the squared distance of the clip's colour from 1, or 0 for every clip."""

    name = "near"

    def __init__(self, constant: bool = False) -> None:
        super().__init__()
        self.constant = constant

    def forward(self, generated, batch):
        distance = (generated.mean(dim=(1, 2, 3, 4)) - 1).square()
        return -distance * (0.0 if self.constant else 1.0)


METHODS = {
    "oro": lambda reward, **more: ORO(GaussianModel(), reward, **more),
    "rejection": lambda reward, **more: RejectionSampling(GaussianModel(), reward, **GROUP, **more),
    "dpo": lambda reward, **more: FlowDPO(GaussianModel(), reward, beta=0.2, **GROUP, **more),
    "nft": lambda reward, **more: DiffusionNFT(GaussianModel(), reward, **GROUP, **more),
    "grpo": lambda reward, **more: FlowGRPO(GaussianModel(), reward, **GROUP, **more),
}
GROUP = {"group_size": 8}
COMMON = {"lr": 2e-2, "num_steps": 4, "guidance": 1.0}


@pytest.mark.parametrize("name", METHODS)
def test_the_mean_moves_to_where_the_reward_is_highest(tmp_path, name):
    task = METHODS[name](Near(), **COMMON)
    fit(tmp_path, task, 160, logger=False)
    assert task.denoiser.mean.item() == pytest.approx(1.0, abs=0.15)


@pytest.mark.parametrize("name", ["oro", "dpo", "nft", "grpo"])
def test_a_reward_that_is_the_same_for_all_clips_teaches_nothing(tmp_path, name):
    task = METHODS[name](Near(constant=True), **COMMON)
    fit(tmp_path, task, 3, logger=False)
    assert task.denoiser.mean.item() == pytest.approx(0.0, abs=1e-6)


def test_the_kl_penalty_holds_the_mean_back(tmp_path):
    free, held = (METHODS["grpo"](Near(), kl_weight=w, **COMMON) for w in (0.0, 10.0))
    for task in (free, held):
        fit(tmp_path, task, 40, logger=False)
    assert 0 < held.denoiser.mean.item() < 0.5 * free.denoiser.mean.item()


def test_the_kl_of_a_shifted_mean_is_that_of_two_gaussians(tmp_path):
    task = METHODS["grpo"](Near(constant=True), kl_weight=1.0, **COMMON)
    task.trainer = make_trainer(tmp_path, 1, logger=False)
    task.log = task.log_dict = lambda *a, **k: None
    assert task.training_step(falling_batch(2), 0).item() == pytest.approx(0.0, abs=1e-6)
    shift = 0.3
    with torch.no_grad():
        task.denoiser.mean.add_(shift)
    expected = []
    for s, r in ((1.0, 0.75), (0.75, 0.5), (0.5, 0.25)):  # the last step has no noise
        variance = (1 - s) ** 2 * SPREAD**2 + s**2
        _, std = ancestral_step(torch.zeros(1, 1, 1, 1, 1), torch.zeros(1, 1, 1, 1, 1), s, r, 1.0)
        clean, noise = shift * s**2 / variance, -shift * s * (1 - s) / variance
        moved = (1 - r) * clean + (r**2 - std**2) ** 0.5 * noise
        expected.append(moved**2 / (2 * std**2))
    loss = task.training_step(falling_batch(2), 0)
    assert loss.item() == pytest.approx(sum(expected) / 3, rel=1e-4)


@pytest.mark.parametrize("name", ["rejection", "dpo", "nft", "grpo"])
def test_resume_equals_the_uninterrupted_run(tmp_path, name):
    more = {"updates": 2} if name == "grpo" else {}
    whole = METHODS[name](Near(), **COMMON, **more)
    fit(tmp_path / "whole", whole, 6, logger=False)
    first = METHODS[name](Near(), **COMMON, **more)
    trainer = fit(tmp_path / "first", first, 3, logger=False)
    trainer.save_checkpoint(tmp_path / "three.ckpt")
    second = METHODS[name](Near(), **COMMON, **more)
    fit(tmp_path / "second", second, 6, ckpt=tmp_path / "three.ckpt", logger=False)
    assert second.denoiser.mean.item() == whole.denoiser.mean.item() != first.denoiser.mean.item()


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_the_budget_counts_the_passes_that_are_made(tmp_path, name, guidance):
    """Rows that pass the denoiser forward, and twice those that have a backward pass."""
    model, passes = toy_model(), [0.0]

    def enter(module, inputs):
        passes[0] += len(inputs[0])

    def leave(module, inputs, output):
        if output.requires_grad:
            output.register_hook(lambda grad: passes.__setitem__(0, passes[0] + 2 * len(grad)))

    kinds = {"oro": ORO, "rejection": RejectionSampling, "dpo": FlowDPO}
    kinds |= {"nft": DiffusionNFT, "grpo": FlowGRPO}
    more = {} if name == "oro" else {"group_size": 3}
    model.denoiser.register_forward_pre_hook(enter)  # copies of the denoiser carry hooks along
    model.denoiser.register_forward_hook(leave)
    task = kinds[name](model, Near(), num_steps=3, guidance=guidance, **more)
    task.trainer = make_trainer(tmp_path, 1, logger=False)
    task.log = task.log_dict = lambda *a, **k: None
    task.training_step(falling_batch(2), 0).backward()
    assert passes[0] == 2 * task.passes_per_clip
