"""The memory planner: counted bytes against those of real steps on the CPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import hydra
import pytest
import torch
from torch import nn

from benchmarks.peak_memory import peak_bytes
from pisa.__main__ import main
from pisa.diffusion.samplers import Euler
from pisa.doctor.live_bytes import LiveBytes, Unstored
from pisa.doctor.memory import described, overrides
from pisa.doctor.planner import (
    ASSUMED,
    TOO_MUCH,
    Counter,
    Job,
    Plan,
    Planner,
    Setting,
    full_size,
    parameters,
    resident_bytes,
)
from pisa.doctor.teachers import REWARDS
from pisa.errors import PisaError
from pisa.models.generate import generate
from pisa.models.lora import add_lora
from pisa.models.opensora import OpenSoraVAE, STDiT3
from pisa.models.opensora.adapter import OpenSoraModel
from pisa.models.tiny_text import WordHashEncoder
from pisa.rewards.base import rewards_of
from pisa.types import Batch, Condition
from tests.models.test_tiny import small as tiny_model

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


def small_model(dtype: torch.dtype = torch.float32) -> OpenSoraModel:
    network = STDiT3(hidden_size=64, depth=1, num_heads=4, caption_channels=16, model_max_length=8)
    network.to(dtype)
    network.y_embedder.drop_probability = 0.0
    temporal = {"filters": 8, "num_res_blocks": 1, "num_groups": 4}
    vae = OpenSoraVAE(SPATIAL, temporal).requires_grad_(False)
    return OpenSoraModel(network, vae, WordHashEncoder(16, 8))


def set_recompute(model: nn.Module, blocks: bool) -> None:
    for module in model.modules():
        if hasattr(module, "grad_checkpoint"):
            module.grad_checkpoint = blocks


def counter(job: Job, blocks: bool = True, autocast: bool = True, build=small_model) -> Counter:
    with torch.device("meta"):
        model = build()
        if job.lora_rank is not None:
            add_lora(model.denoiser, job.lora_rank)
    set_recompute(model, blocks)
    sizes = Unstored()
    return Counter(sizes.module(model), sizes, job, autocast)


def real_step(job: Job, steps: bool, blocks: bool, autocast: bool):
    """All denoising steps, with storage."""
    torch.manual_seed(0)
    model = small_model()
    if job.lora_rank is not None:
        add_lora(model.denoiser, job.lora_rank)
    set_recompute(model, blocks)
    video = torch.randn(1, 3, job.num_frames, job.size_px, job.size_px)
    prompt = Condition(torch.randn(1, 8, 16), torch.ones(1, 8, dtype=torch.bool))
    noise = torch.randn(1, *model.latent_shape(job.num_frames, job.size_px, job.size_px))
    batch = Batch(("clip",), video, video > 0, ("",), 16.0, torch.zeros(1))

    def step():
        model.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            made = generate(
                model,
                batch.first_frame,
                prompt,
                num_frames=job.num_frames,
                fps_hz=16.0,
                num_steps=job.num_steps,
                guidance=job.guidance,
                noise=noise,
                sampler=Euler(checkpoint=steps),
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
    job = Job("oro", num_frames=8, size_px=32, num_steps=4, lora_rank=rank)
    step = real_step(job, steps, blocks, autocast)
    with LiveBytes() as live:
        step()
    count = counter(job, blocks, autocast)
    sampling, reward = count.sampling(steps), count.reward(Square())
    found = max(sampling.kept + reward.peak, sampling.peak)
    assert found == pytest.approx(live.peak, rel=0.01)
    assert found == pytest.approx(peak_bytes(step), rel=0.1)


@pytest.mark.slow  # teachers of full size
@pytest.mark.parametrize("reward", REWARDS)
def test_the_real_rewards_can_be_counted_and_chunks_take_less(reward):
    job = Job("oro", reward, num_frames=5, size_px=128, num_steps=1, guidance=1.0)
    count = counter(job, blocks=False)
    smallest = 1 if reward == "segmentation" else 2
    whole, chunked = (
        count.reward(REWARDS[reward].build(count.sizes, chunk)).peak for chunk in (None, smallest)
    )
    assert chunked < 0.9 * whole
    assert whole > count.sampling(recompute_steps=True).peak


def use_square(monkeypatch) -> None:
    row = REWARDS["flow"]._replace(build=lambda sizes, chunk: Square())
    monkeypatch.setitem(REWARDS, "flow", row)


@pytest.fixture
def planner(monkeypatch) -> Planner:
    """With sizes that are easy to check by hand."""
    use_square(monkeypatch)
    planner = Planner(Job("oro"), build=small_model)

    def plan(setting: Setting, gpus: int, counted: bool = True) -> Plan:
        kept = (1 if setting.recompute_blocks else 4) * (1 if setting.recompute_steps else 10)
        weights = 6 if not setting.sharded else 6 // gpus
        return Plan(setting, gpus, {"weights": weights}, {"a": setting.chunk or 20, "b": kept})

    monkeypatch.setattr(planner, "plan", plan)
    return planner


@pytest.mark.parametrize(
    ("memory", "gpus", "setting"),
    [
        (46, 1, Setting(False, False, False, None)),
        (45, 1, Setting(False, True, False, None)),
        (43, 2, Setting(True, False, False, None)),
        (25, 1, Setting(False, True, False, 8)),
        (14, 1, Setting(False, True, False, 8)),
        (11, 2, Setting(True, True, False, 8)),
        (10, 1, Setting(False, True, False, 2)),
        (9, 1, Setting(False, True, True, 2)),
        (7, 1, None),
        (7, 2, Setting(True, True, False, 2)),
    ],
)
def test_the_fastest_setting_that_fits_is_chosen(planner, memory, gpus, setting):
    plan = planner.choose(memory, gpus)
    assert (plan.setting if plan else None) == setting


def test_a_setting_that_takes_too_much_is_given_up(monkeypatch):
    use_square(monkeypatch)
    job = Job("oro", num_frames=5, size_px=32, num_steps=2)
    setting = Setting(False, True, True, None)
    free = Planner(job, build=small_model)
    plan = free.plan(setting, 1)
    assert free.plan(setting, 1) == plan and plan.total < TOO_MUCH
    limited = Planner(job, max(plan.phases.values()) // 2, small_model)
    assert limited.plan(setting, 1).total > TOO_MUCH
    assert limited.choose(plan.total, 1) is None


def test_sharding_divides_the_state_and_ddp_copies_gradients(monkeypatch):
    use_square(monkeypatch)
    model = small_model()
    trained = 4 * parameters(model.denoiser, trained=True)
    one, two, shards = (
        resident_bytes(model, gpus, Setting(sharded))
        for gpus, sharded in ((1, False), (2, False), (2, True))
    )
    state = ("weights", "AdamW moments", "EMA")
    assert sum(one[name] for name in state) == 4 * parameters(model.denoiser) + 3 * trained
    assert two["DDP's buckets"] == trained and "DDP's buckets" not in one
    assert all(shards[name] == one[name] // 2 for name in state)
    assert shards["gradients"] == trained // 2
    assert one["assumed (driver, fragments)"] == ASSUMED


def test_the_batch_of_psft_is_divided_among_gpus_and_micro_batches():
    planner = Planner(Job(num_frames=5, size_px=32), build=small_model)
    found = list(planner.settings(8))
    assert all(s.clips * s.accumulate == 16 for s in found)
    assert found[0] == Setting(False, clips=16) and found[1].sharded
    assert "4 micro-batches" in described(planner.plan(found[4], 8), planner.job)
    with pytest.raises(PisaError, match="128 clips cannot be divided among 3 GPUs"):
        planner.choose(1e9, 3)


def test_any_model_can_be_planned():
    job = Job(num_frames=4, size_px=16)
    plan = Planner(job, build=tiny_model).choose(40e9, 1)
    assert plan is not None and plan.setting.clips == 128


@pytest.mark.parametrize("reward", REWARDS)
@pytest.mark.parametrize("rank", [None, 16])
def test_the_command_of_a_plan_composes(reward, rank):
    plan = Plan(Setting(False, True, False, 1), 1, {}, {})
    chosen = overrides(plan, Job("oro", reward, lora_rank=rank))
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = hydra.compose("train", chosen)
    assert cfg.oro.task.checkpoint_steps and not cfg.model.grad_checkpoint
    assert cfg.trainer.strategy == "auto" and cfg.oro.task.num_steps == 10
    assert (cfg.oro.lora is None) == (rank is None)
    role = {"flow": "flow", "segmentation": "reward_tracker", "depth": "depth"}[reward]
    keys = ("pairs_per_chunk", "recompute_frames", "frames_per_chunk")
    assert [cfg.perception[role][k] for k in keys if k in cfg.perception[role]] == [1]  # or true


def test_the_command_of_psft_composes():
    chosen = overrides(Plan(Setting(True, clips=16, accumulate=4), 2, {}, {}), Job())
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = hydra.compose("train", chosen)
    assert (cfg.psft.batch_size, cfg.trainer.devices) == (128, 2)
    assert cfg.trainer.accumulate_grad_batches == 4 and cfg.model.grad_checkpoint


def test_the_sum_is_of_the_largest_phase():
    plan = Plan(Setting(), 1, {"weights": 5}, {"a": 3, "b": 4, "c": 2})
    assert plan.total == 9


def test_the_released_size():
    with torch.device("meta"):
        model = full_size()
    assert parameters(model.denoiser) == 1_207_643_972  # ../parity/data/stdit3_xl2_keys.json.gz
    trained = parameters(model.denoiser, trained=True)
    state = resident_bytes(model, 2, Setting(sharded=True))
    names = ("weights", "AdamW moments", "EMA", "gradients")
    assert sum(state[n] for n in names) == (4 * parameters(model.denoiser) + 16 * trained) // 2


def test_frozen_weights_in_bfloat16_take_half_and_are_not_sharded():
    job = Job(num_frames=5, size_px=32, lora_rank=4, dtype="bfloat16")
    planner = Planner(job, build=lambda: small_model(torch.bfloat16))
    assert not any(setting.sharded for setting in planner.settings(2))
    whole = Planner(replace(job, dtype="float32"), build=small_model)
    assert any(setting.sharded for setting in whole.settings(2))
    half, full = (resident_bytes(p.ddp, 1, Setting()) for p in (planner, whole))
    trained = parameters(planner.ddp.denoiser, trained=True)  # adapters are float32 in both
    assert half["weights"] - 4 * trained == (full["weights"] - 4 * trained) // 2
    assert half["EMA"] == full["EMA"] == 4 * trained
    chosen = overrides(Plan(Setting(), 1, {}, {}), job)
    assert "model.dtype=bfloat16" in chosen


def test_a_table_has_a_row_for_every_gpu_and_number(monkeypatch, capsys):
    monkeypatch.setattr("pisa.doctor.planner.full_size", lambda dtype: tiny_model())
    small = ["memory", "psft", "--size", "16", "--frames", "4"]
    assert main(small) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if "trainer=" in line]
    assert len(rows) == 12 and all("clips at a time" in row for row in rows)
    assert main([*small, "--memory-gb", "1", "--gpus", "1"]) == 0
    assert "does not fit; fewer frames, a smaller size or --lora-rank" in capsys.readouterr().out
    assert main([*small, "--memory-gb", "24", "--gpus", "2"]) == 0
    out = capsys.readouterr().out
    assert "torchrun --nproc-per-node=2 train.py" in out and "AdamW moments" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--size", "0"], "--size must be a whole number of at least 1, not 0"),
        (["--size", "30"], "sides divisible by 8"),
        (["--memory-gb", "-1"], "--memory-gb must be a list of items, each a number above 0"),
        (["--gpus", "3"], "128 clips cannot be divided among 3 GPUs"),
        (["--dtype", "bfloat16"], "--dtype bfloat16 is for frozen weights: add --lora-rank"),
        (["--lora-rank", "0"], "--lora-rank must be a whole number of at least 1 or null, not 0"),
    ],
)
def test_wrong_values_are_answered_in_one_sentence(monkeypatch, capsys, arguments, words):
    monkeypatch.setattr("pisa.doctor.planner.full_size", lambda dtype: small_model())
    assert main(["memory", "psft", "--frames", "5", *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
