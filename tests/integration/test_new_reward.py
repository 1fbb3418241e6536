"""Adding a reward takes one Python file and one YAML; the main job then runs with it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

REWARD = """
import torch
from torch import nn


class BrightnessReward(nn.Module):
    name = "brightness"

    def forward(self, generated, batch):
        return generated.mean(dim=(1, 2, 3, 4))
"""

REWARD_YAML = "_target_: brightness_reward.BrightnessReward\n"

EXPERIMENT_YAML = """# @package _global_
defaults:
  - override /reward: brightness
name: oro_brightness
stages: [psft, oro]
"""


@pytest.fixture
def extension(tmp_path: Path) -> Path:
    (tmp_path / "brightness_reward.py").write_text(REWARD)
    for group, name, text in (
        ("reward", "brightness", REWARD_YAML),
        ("experiment", "oro_brightness", EXPERIMENT_YAML),
    ):
        folder = tmp_path / "configs" / group
        folder.mkdir(parents=True)
        (folder / f"{name}.yaml").write_text(text)
    return tmp_path


def train(folder: Path) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": str(folder), "PISA_PLUGINS": "brightness_reward"}
    return subprocess.run(
        [
            sys.executable,
            str(ROOT / "train.py"),
            f"hydra.searchpath=[file://{folder / 'configs'}]",
            "experiment=oro_brightness",
            "debug=smoke",
            "logger=csv",
            "simulation.num_workers=1",
        ],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def test_the_main_job_runs_with_a_new_reward(extension):
    done = train(extension)
    assert done.returncode == 0, done.stderr[-3000:]
    (folder,) = (extension / "runs").glob("oro_brightness-*")
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["schema"] == 1
    assert set(metrics["summary"]) == {"truth", "frozen", "base", "psft", "oro_brightness"}
    assert metrics["summary"]["psft"]["sim_seen"]["l2"]["n"] == 3
    assert (folder / "report.html").is_file()
