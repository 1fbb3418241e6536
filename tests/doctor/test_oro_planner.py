"""The planner of ORO's memory: counted bytes against those of a real step on the CPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import hydra
import pytest
import torch
from torch import nn

from benchmarks.peak_memory import peak_bytes
from pisa.diffusion.samplers import Euler
from pisa.doctor import oro_planner
from pisa.doctor.live_bytes import LiveBytes, Unstored
from pisa.doctor.oro_memory import Job, Setting, StepBytes, WatchedModel, count_step
from pisa.doctor.oro_planner import REWARDS, Plan, Planner, overrides
from pisa.models.generate import generate
from pisa.models.lora import add_lora
from pisa.models.opensora import OpenSoraVAE, STDiT3
from pisa.models.tiny_text import WordHashEncoder
from pisa.rewards.base import rewards_of
from pisa.types import Batch, Condition

CONFIGS = Path(__file__).parents[2] / "configs"
SLOW = pytest.mark.slow  # a step without storage costs Python as much time as a real one
SPATIAL = {
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [8] * 4,
    "layers_per_block": 1,
    "norm_num_groups": 4,
}


class Square(nn.Module):
    def forward(self, video, batch):
        return video.square().mean(dim=(1, 2, 3, 4))


def small_model() -> WatchedModel:
    network = STDiT3(hidden_size=64, depth=1, num_heads=4, caption_channels=16, model_max_length=8)
    network.y_embedder.drop_probability = 0.0
    temporal = {"filters": 8, "num_res_blocks": 1, "num_groups": 4}
    vae = OpenSoraVAE(SPATIAL, temporal).requires_grad_(False)
    return WatchedModel(network, vae, WordHashEncoder(16, 8))


def counted(job: Job, setting: Setting) -> StepBytes:
    with torch.device("meta"):
        model = small_model()
        if job.lora_rank is not None:
            add_lora(model.denoiser, job.lora_rank)
    sizes = Unstored()
    return count_step(sizes.module(model), Square(), sizes, job, setting)


def real_step(job: Job, setting: Setting):
    """All denoising steps, with storage."""
    torch.manual_seed(0)
    model = small_model()
    if job.lora_rank is not None:
        add_lora(model.denoiser, job.lora_rank)
    model.denoiser.grad_checkpoint = setting.recompute_blocks
    model.vae.spatial_vae.grad_checkpoint = setting.recompute_blocks
    video = torch.randn(1, 3, job.num_frames, job.size_px, job.size_px)
    prompt = Condition(torch.randn(1, 8, 16), torch.ones(1, 8, dtype=torch.bool))
    noise = torch.randn(1, *model.latent_shape(job.num_frames, job.size_px, job.size_px))
    batch = Batch(("clip",), video, video > 0, ("",), 16.0, torch.zeros(1))

    def step():
        model.zero_grad(set_to_none=True)
        model.watch(LiveBytes())  # idle
        with torch.autocast("cpu", torch.bfloat16, enabled=job.autocast):
            made = generate(
                model,
                batch.first_frame,
                prompt,
                num_frames=job.num_frames,
                fps_hz=16.0,
                num_steps=job.num_steps,
                guidance=job.guidance,
                noise=noise,
                sampler=Euler(checkpoint=setting.checkpoint_steps),
            )
            loss = -rewards_of(Square(), made, batch).mean()
        del made
        loss.backward()

    return step


@pytest.mark.parametrize(
    ("steps", "blocks", "autocast", "rank"),
    [
        (False, False, False, None),
        (True, True, True, 4),
        pytest.param(False, True, True, None, marks=SLOW),
        pytest.param(True, False, True, None, marks=SLOW),
        pytest.param(True, True, True, None, marks=SLOW),
        pytest.param(False, True, False, 4, marks=SLOW),
    ],
)
def test_counted_bytes_are_those_of_a_real_step(steps, blocks, autocast, rank):
    """Three steps are counted for the four; the allocator sees what kernels take inside, too."""
    job = Job(num_frames=8, size_px=32, num_steps=4, lora_rank=rank, autocast=autocast)
    setting = Setting(steps, blocks, None)
    step = real_step(job, setting)
    with LiveBytes() as live:
        step()
    found = counted(job, setting).peak
    assert found == pytest.approx(live.peak, rel=0.01)
    assert found == pytest.approx(peak_bytes(step), rel=0.1)


@pytest.mark.slow  # teachers of full size
@pytest.mark.parametrize("reward", REWARDS)
def test_the_real_rewards_can_be_counted_and_chunks_take_less(reward):
    row, job = REWARDS[reward], Job(num_frames=5, size_px=128, num_steps=1, guidance=1.0)
    sizes = Unstored()
    with torch.device("meta"):
        model = small_model()
    sizes.module(model)
    smallest = 1 if reward == "segmentation" else 2
    whole, chunked = (
        count_step(model, row.build(sizes, chunk), sizes, job, Setting(True, False, chunk))
        for chunk in (None, smallest)
    )
    assert chunked.to_reward < 0.9 * whole.to_reward
    assert whole.to_reward > whole.steps


def use_square(monkeypatch) -> None:
    row = replace(REWARDS["flow"], build=lambda sizes, chunk: Square())
    monkeypatch.setitem(REWARDS, "flow", row)


@pytest.fixture
def planner(monkeypatch) -> Planner:
    """With sizes that are easy to reckon with."""

    def count(model, reward, sizes, job, setting, limit):
        chain = (1 if setting.recompute_blocks else 4) * (1 if setting.checkpoint_steps else 10)
        return StepBytes(setting.chunk or 20, chain)

    use_square(monkeypatch)
    monkeypatch.setattr(oro_planner, "count_step", count)
    monkeypatch.setattr(oro_planner, "standing_bytes", lambda model, reward: {"weights": 5})
    monkeypatch.setattr(oro_planner, "optimiser_bytes", lambda model: 1)
    monkeypatch.setattr(oro_planner, "ASSUMED", 0)
    return Planner("flow", Job(), small_model)


@pytest.mark.parametrize(
    ("memory", "setting"),
    [
        (45, Setting(False, False, None)),
        (44, Setting(True, False, None)),
        (24, Setting(True, False, 8)),
        (14, Setting(True, False, 8)),
        (9, Setting(True, False, 2)),
        (8, Setting(True, True, 2)),
        (6, None),
    ],
)
def test_the_fastest_setting_that_fits_is_chosen(planner, memory, setting):
    plan = planner.choose(memory)
    assert (plan.setting if plan else None) == setting


def test_a_setting_that_is_too_much_is_given_up_where_it_shows(monkeypatch):
    use_square(monkeypatch)
    planner = Planner("flow", Job(num_frames=5, size_px=32, num_steps=2), small_model)
    setting = Setting(True, True, None)
    plan = planner.count(setting)
    assert planner.count(setting, plan.total + 1) == plan
    assert planner.count(setting, sum(plan.standing.values()) + plan.step.peak - 1) is None
    assert planner._reward_is_to_blame(None) == (plan.step.to_reward > plan.step.steps)


@pytest.mark.parametrize("reward", REWARDS)
@pytest.mark.parametrize("rank", [None, 16])
def test_what_is_proposed_is_what_train_py_takes(reward, rank):
    chosen = overrides(Setting(True, False, 1), reward, Job(lora_rank=rank))
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = hydra.compose("train", chosen)
    assert cfg.oro.task.checkpoint_steps and not cfg.model.grad_checkpoint
    assert cfg.trainer.strategy == "auto" and cfg.oro.task.num_steps == 10
    assert (cfg.oro.lora is None) == (rank is None)
    role = {"flow": "flow", "segmentation": "tracker", "depth": "depth"}[reward]
    keys = ("pairs_per_chunk", "recompute_frames", "frames_per_chunk")
    assert [cfg.perception[role][k] for k in keys if k in cfg.perception[role]] == [1]  # or true


def test_the_sum_is_of_the_largest_phase():
    plan = Plan(Setting(True, True, None), {"weights": 5}, StepBytes(3, 4), 2)
    assert plan.total == 9
