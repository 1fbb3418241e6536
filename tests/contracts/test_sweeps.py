"""Every sweep composes into runs that differ."""

from __future__ import annotations

import itertools
from pathlib import Path

import hydra
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from pisa.io.provenance import settings_of
from tests.launch.conftest import stage_folder

CONFIGS = Path(__file__).parents[2] / "configs"
SWEEPS = sorted(path.stem for path in (CONFIGS / "sweep").glob("*.yaml"))
STEPS = (125, 250, 500, 1000)


def compose(*overrides: str, whole: bool = False):
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return hydra.compose("train", list(overrides), return_hydra_config=whole)


def jobs_of(sweep: str) -> list[list[str]]:
    """The overrides of every run, as Hydra's own sweeper expands them."""
    chosen = compose(f"sweep={sweep}", "run_dir=x", whole=True).hydra
    assert chosen.mode.name == "MULTIRUN"
    parser = OverridesParser.create()
    axes = []
    for key, value in chosen.sweeper.params.items():
        override = parser.parse_override(f"{key}={value}")
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
    kinds = {s["initialisation"] for s in runs_of("init").values()}
    assert kinds == {"pre-trained", "random"}
    assert sorted(s["max_steps"] for s in runs_of("steps").values()) == list(STEPS)
    tiny = [settings_of(compose(*job, "run_dir=x"), "psft") for job in jobs_of("clips")]
    assert [s["train_clips"] for s in tiny] == [125, 250, 500, 1000]
    paper = [settings_of(compose(*job, "run_dir=x"), "psft") for job in jobs_of("paper_clips")]
    assert [s["train_clips"] for s in paper] == [500, 1000, 2000, 5000, 10000, 20000]


def test_sweeps_share_runs():
    """docs/guide/train.md counts what two sweeps share once."""
    folders = {
        sweep: {stage_folder(compose(*job, "run_dir=x"), "psft") for job in jobs_of(sweep)}
        for sweep in ("steps", "init", "clips")
    }
    assert len(folders["steps"] & folders["init"]) == 3
    assert len(set.union(*folders.values())) == 4 + 3 + 4  # 1000 named is not 1000 by default
