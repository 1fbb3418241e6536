"""PisaBench from Python and from an installed wheel."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

import pisa
from pisa.__main__ import main
from pisa.errors import PisaError
from pisa.launch.compose import composed
from pisa.launch.library import evaluate_videos, track
from pisa.ops.video import from_frames
from tests.launch.conftest import CLIPS, Bench, falling, write_videos

ROOT = Path(__file__).parents[2]


def test_a_folder_of_videos_is_scored_from_python(bench: Bench, tmp_path: Path):
    videos = write_videos(tmp_path / "it's mine, [really]")  # signs of Hydra's grammar
    scores = evaluate_videos(videos, name="mine", output_dir=tmp_path / "out", data_dir=bench.root)
    assert scores["summary"]["mine"]["sim_seen"]["l2"]["n"] == 3
    assert scores == json.loads((tmp_path / "out" / "metrics.json").read_text())


def test_both_simulated_sets_are_scored_in_one_run(bench: Bench, tmp_path: Path, capsys):
    for split in ("sim_seen", "sim_unseen"):
        write_videos(tmp_path / "v" / split)
    (tmp_path / "v" / "sim_unseen" / f"{CLIPS[0]}.mp4").unlink()
    out = str(tmp_path / "out")
    command = ["eval", "videos", str(tmp_path / "v"), "--benchmark", "sim", "--out", out]
    command += ["--data-dir", str(bench.root), "data.sim_unseen=sim_seen"]  # the clips of both
    assert main(command) == 3
    assert main([*command, "allow_missing=true", "overwrite=true"]) == 0
    scores = json.loads((tmp_path / "out" / "metrics.json").read_text())
    counts = {split: cells["l2"]["n"] for split, cells in scores["summary"]["videos"].items()}
    assert counts == {"sim_seen": 3, "sim_unseen": 2}
    (failure,) = scores["failures"]
    assert (failure["split"], failure["clip"]) == ("sim_unseen", CLIPS[0])
    assert (
        main([*command[:2], str(tmp_path / "v" / "sim_seen"), *command[3:], "overwrite=true"]) == 2
    )
    assert "sim_seen/sim_seen" in capsys.readouterr().err


def test_a_setting_wins_over_an_option_that_was_not_given(bench: Bench, tmp_path: Path):
    videos = write_videos(tmp_path / "videos")
    command = ["eval", "videos", str(videos), "--out", str(tmp_path / "out")]
    assert main([*command, f"data_dir={bench.root}", "protocol=strict", "name=mine"]) == 0
    scores = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert scores["protocol"] == "strict"
    assert "mine" in scores["summary"]


def test_a_wrong_protocol_is_one_sentence(bench: Bench, tmp_path: Path):
    with pytest.raises(PisaError, match="protocol"):
        evaluate_videos(tmp_path, protocol="offical", data_dir=bench.root)


def test_a_group_without_a_name_is_one_sentence():
    with pytest.raises(PisaError, match="model=null: model takes a name; valid: "):
        composed("eval", ["model=null"])


def test_objects_are_tracked_from_their_first_masks():
    frames, masks = falling(0)
    truth = torch.from_numpy(masks).movedim(1, 0)
    found = track(from_frames(frames), truth[:, 0])
    assert found.shape == truth.shape and found.dtype == torch.bool
    both, either = (found & truth).sum(dim=(2, 3)), (found | truth).sum(dim=(2, 3))
    assert (both / either).mean() > 0.8


def test_the_package_offers_three_functions_and_imports_none_before():
    code = "import sys, pisa; assert 'torch' not in sys.modules\n"
    code += "from pisa import evaluate_videos, fetch, track; assert callable(fetch)"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert set(pisa.__all__) == {"evaluate_videos", "fetch", "track"}
    with pytest.raises(AttributeError, match="no attribute 'absent'"):
        pisa.absent  # noqa: B018


def test_a_wheel_works_outside_the_checkout(bench: Bench, tmp_path: Path):
    """Configurations and weights are inside; `pisa eval` needs no file of the repository."""
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, check=True, cwd=ROOT, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    command = [sys.executable, "-m", "pisa", "eval", "videos", str(write_videos(tmp_path / "v"))]
    command += ["--data-dir", str(bench.root), "--out", str(tmp_path / "out")]
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "installed")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "out" / "report.html").is_file()
    where = [sys.executable, "-c", "import pisa; print(pisa.__file__)"]
    found = subprocess.run(where, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert found.stdout.startswith(str(tmp_path))
