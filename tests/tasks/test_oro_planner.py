"""The planner of ORO's memory: counted bytes against those of a real run on the CPU."""

from __future__ import annotations

from pathlib import Path

import hydra
import pytest
import torch
from torch import nn

from pisa.diffusion.noise_levels import inference_noise_levels
from pisa.diffusion.samplers import sample_euler
from pisa.models.generate import model_velocity
from pisa.models.live_bytes import LiveBytes
from pisa.models.lora import add_lora
from pisa.models.opensora import OpenSoraVAE, STDiT3
from pisa.models.opensora.adapter import OpenSoraModel
from pisa.models.tiny_text import WordHashEncoder
from pisa.tasks import oro_planner
from pisa.tasks.oro_memory import (
    Job,
    Setting,
    _gradients_dropped,
    adapter_parameters,
    chain_bytes,
    reward_bytes,
)
from pisa.tasks.oro_planner import REWARDS, Plan, Planner, overrides
from pisa.tasks.rectified_flow import first_frame_clean

CONFIGS = Path(__file__).parents[2] / "configs"
JOB = Job(num_frames=17, size_px=64, num_steps=3)
SETTINGS = [Setting(steps, blocks, None) for steps in (False, True) for blocks in (False, True)]
SPATIAL = {
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [8] * 4,
    "layers_per_block": 1,
    "norm_num_groups": 4,
}


def small_network() -> STDiT3:
    return STDiT3(hidden_size=64, depth=4, num_heads=4, caption_channels=16, class_dropout_prob=0.0)


def small_vae() -> OpenSoraVAE:
    temporal = {"filters": 8, "num_res_blocks": 1, "num_groups": 4}
    return OpenSoraVAE(SPATIAL, temporal).requires_grad_(False)


def measured_chain(setting: Setting) -> int:
    """Of real denoising steps and their backward pass on the CPU."""
    torch.manual_seed(0)
    model = OpenSoraModel(small_network(), small_vae(), WordHashEncoder(16, 300))
    model.denoiser.grad_checkpoint = setting.recompute_blocks
    x = torch.randn(1, *model.latent_shape(JOB.num_frames, JOB.size_px, JOB.size_px))
    clean = first_frame_clean(x)
    prompt = model.encode_captions(["a video of an object dropping"])
    with _gradients_dropped(model.denoiser), LiveBytes() as live:
        end = sample_euler(
            model_velocity(model, prompt, clean, 16.0, JOB.guidance),
            x,
            inference_noise_levels(JOB.num_steps),
            clean=x[:, :, :1],
            clean_frames=clean,
            checkpoint_steps=setting.checkpoint_steps,
        )
        end.sum().backward()
    return live.peak


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_counted_bytes_of_the_chain_are_those_of_a_real_one(setting):
    with torch.device("meta"):
        network, vae = small_network(), small_vae()
    counted = chain_bytes(network, vae, JOB, setting)
    assert counted == pytest.approx(measured_chain(setting), rel=0.15)


@pytest.mark.parametrize("recompute", [False, True])
def test_counted_bytes_of_decoder_and_reward_are_those_of_a_real_one(recompute):
    with torch.device("meta"):
        counted = reward_bytes(small_vae(), lambda video: video.square(), JOB, recompute)
    vae = small_vae()
    vae.spatial_vae.grad_checkpoint = recompute
    latents = torch.randn(1, 4, vae.latent_frames(17), 8, 8, requires_grad=True)
    with LiveBytes() as live:
        vae.decode(latents.to(torch.float32), 17).float().square().sum().backward()
    assert counted == pytest.approx(live.peak, rel=0.1)


def test_less_is_alive_the_more_is_computed_again():
    with torch.device("meta"):
        network, vae = small_network(), small_vae()
    kept, blocks, steps, both = (chain_bytes(network, vae, JOB, s) for s in SETTINGS)
    assert kept > blocks > both and kept > steps > both
    longer = Job(num_frames=17, size_px=64, num_steps=30)
    assert chain_bytes(network, vae, longer, SETTINGS[3]) < 1.2 * both


def test_parameters_of_an_adapter():
    network = small_network()
    expected = adapter_parameters(network, 4)
    add_lora(network, rank=4)
    assert expected == sum(p.numel() for p in network.parameters() if p.requires_grad)


@pytest.fixture
def planner(monkeypatch) -> Planner:
    """With sizes that are easy to reckon with, in GB."""

    def chain(network, vae, job, setting):
        return (1 if setting.recompute_blocks else 4) * (1 if setting.checkpoint_steps else 10)

    class Even:
        network, chunks = nn.Linear(1, 1), True

        def score(self, job, chunk):
            return chunk

    monkeypatch.setattr(oro_planner, "build_teacher", lambda reward: Even())
    monkeypatch.setattr(oro_planner, "chain_bytes", chain)
    monkeypatch.setattr(oro_planner, "reward_bytes", lambda vae, chunk, *_: chunk or 20)
    monkeypatch.setattr(Planner, "standing", lambda self: {"weights": 5})
    return Planner("flow", JOB)


@pytest.mark.parametrize(
    ("memory", "setting", "fits"),
    [
        (45, Setting(False, False, None), True),
        (44, Setting(False, True, None), True),
        (24, Setting(False, True, 8), True),
        (14, Setting(True, False, 8), True),
        (6, Setting(True, True, 1), True),
        (5, Setting(True, True, 1), False),
    ],
)
def test_the_fastest_setting_that_fits_is_chosen(planner, memory, setting, fits):
    plan, found = planner.choose(memory)
    assert (plan.setting, found) == (setting, fits)


@pytest.mark.parametrize("reward", REWARDS)
@pytest.mark.parametrize("rank", [None, 16])
def test_what_is_proposed_is_what_train_py_takes(reward, rank):
    plan = Plan(Setting(True, False, 1), {}, 0, 0)
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = hydra.compose("train", overrides(plan, reward, rank))
    assert cfg.oro.task.checkpoint_steps and not cfg.model.grad_checkpoint
    assert (cfg.oro.lora is None) == (rank is None)
    role = {"flow": "flow", "segmentation": "tracker", "depth": "depth"}[reward]
    keys = ("pairs_per_chunk", "recompute_frames", "frames_per_chunk")
    assert [cfg.perception[role][k] for k in keys if k in cfg.perception[role]] == [1]  # or true
