"""Every sweep of docs/guide/train.md composes into runs that differ."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import hydra
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from pisa.io.provenance import settings_of
from tests.launch.conftest import stage_folder

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "guide" / "train.md").read_text().replace("\\\n", " ")
SWEEPS = re.findall(r"^    python train.py -m (.*)", GUIDE, re.M)
STEPS, INIT, CLIPS, PAPER_INIT, PAPER_CLIPS, METHODS = SWEEPS


def compose(*overrides: str):
    with hydra.initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return hydra.compose("train", list(overrides))


def members_of(sweep: str) -> list[str]:
    """Its overrides, with those that a file of configs/sweep brings."""
    overrides = sweep.split()
    for text in tuple(overrides):
        group, _, name = text.partition("=")
        if group == "sweep":
            own = OmegaConf.load(ROOT / "configs" / "sweep" / f"{name}.yaml")
            overrides += [f"{key}={value}" for key, value in own.hydra.sweeper.params.items()]
    return overrides


def jobs_of(sweep: str) -> list[list[str]]:
    """The overrides of every run, as Hydra's own sweeper expands them."""
    parser = OverridesParser.create()
    axes = []
    for text in members_of(sweep):
        override = parser.parse_override(text)
        key, _, value = text.partition("=")
        values = override.sweep_string_iterator() if override.is_sweep_override() else [value]
        axes.append([f"{key}={v}" for v in values])
    return [list(job) for job in itertools.product(*axes)]


def runs_of(sweep: str) -> dict[Path, dict]:
    """Folder and settings of every run."""
    runs = {}
    for job in jobs_of(sweep):
        cfg = compose(*job, "run_dir=x")
        OmegaConf.to_container(cfg, resolve=True)
        last = cfg.stages[-1]
        runs[stage_folder(cfg, last)] = settings_of(cfg, last)
    return runs


@pytest.mark.parametrize("sweep", SWEEPS)
def test_every_run_of_a_sweep_has_a_folder_of_its_own(sweep):
    assert len(runs_of(sweep)) == len(jobs_of(sweep)) > 1


def test_sweeps_vary_what_figure_5_draws():
    kinds = {s["initialisation"] for s in runs_of(INIT).values()}
    assert kinds == {"pre-trained", "random"} and len(jobs_of(PAPER_INIT)) == 2
    assert sorted(s["max_steps"] for s in runs_of(STEPS).values()) == [125, 250, 500, 1000]
    tiny = [settings_of(compose(*job, "run_dir=x"), "psft") for job in jobs_of(CLIPS)]
    assert [s["train_clips"] for s in tiny] == [125, 250, 500, 1000]
    paper = [settings_of(compose(*job, "run_dir=x"), "psft") for job in jobs_of(PAPER_CLIPS)]
    assert [s["train_clips"] for s in paper] == [500, 1000, 2000, 5000, 10000, 20000]
    assert len(jobs_of(METHODS)) == 7 * 3


def test_sweeps_share_runs():
    folders = [
        {stage_folder(compose(*job, "run_dir=x"), "psft") for job in jobs_of(sweep)}
        for sweep in (STEPS, INIT, CLIPS)
    ]
    assert len(folders[0] & folders[1]) == 3
    assert len(set.union(*folders)) == 4 + 3 + 4  # 1000 named is not 1000 by default


@pytest.mark.parametrize("reward", sorted(p.stem for p in (ROOT / "configs/reward").glob("*.yaml")))
def test_the_arenas_judge_is_no_rewards_teacher(reward):
    cfg = compose("sweep=arena", "experiment=oro_flow", f"reward={reward}", "run_dir=x")
    judge = cfg.perception.tracker.path
    assert judge == "embedded_judge.safetensors"
    assert judge not in OmegaConf.to_yaml(cfg.oro.reward, resolve=True)


@pytest.mark.parametrize("reward", ["newton", "energy", "segmentation", "mix"])
def test_a_reward_tracks_with_a_network_that_gives_gradients(reward):
    cfg = compose("experiment=oro_flow", "perception=sam3", f"reward={reward}", "run_dir=x")
    assert "sam3" not in OmegaConf.to_yaml(cfg.oro.reward, resolve=True).lower()
