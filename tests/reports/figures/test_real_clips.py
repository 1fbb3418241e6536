"""Statistics of Figure 3 over small clips."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pisa.__main__ import main
from pisa.data.manifest import list_clips
from pisa.errors import PisaError
from pisa.reports.figures.real_clips import NOT_RECORDED, draw, real_statistics


def make(folder: Path, num_objects: int, num_frames: int = 12, **info: object) -> None:
    folder.mkdir(parents=True)
    for t in range(num_frames):
        Image.new("RGB", (8, 8)).save(folder / f"{t:05d}.jpg")
    points = [{"positive": [[1, 1]], "negative": []}] * num_objects
    (folder / "clip_info.json").write_text(json.dumps({"points": points, **info}))


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    folder = tmp_path / "real"
    make(folder / "0000", 1, scene="kitchen")
    make(folder / "0001", 2, num_frames=24, scene="office", fps=240)
    make(folder / "0002", 2, num_frames=60, scene="kitchen")
    make(folder / "0003", 5)
    return folder


def test_counts(clips: Path) -> None:
    found = real_statistics(list_clips(clips))
    assert found.num_clips == 4
    assert found.objects == {1: 1, 2: 2, 5: 1}
    assert found.scenes == {"kitchen": 2, NOT_RECORDED: 1, "office": 1}
    assert sum(found.scene_shares.values()) == pytest.approx(1)
    assert found.fps_hz == {"120": 3, "240": 1}
    assert found.duration_s == pytest.approx((0.1, 0.2, 0.5))


def test_masks_count_where_there_are_no_points(tmp_path: Path) -> None:
    make(tmp_path / "0000", 1, num_frames=2)
    (tmp_path / "0000" / "clip_info.json").write_text("{}")
    np.savez(tmp_path / "0000" / "mask.npz", mask=np.zeros((2, 3, 8, 8), dtype=bool))
    assert real_statistics(list_clips(tmp_path)).objects == {3: 1}


def test_command_line(clips: Path, tmp_path: Path, capsys) -> None:
    assert main(["figure3", str(clips), "--out", str(tmp_path / "s")]) == 0
    printed = capsys.readouterr().out
    assert "4 clips (the paper's set has 361)" in printed and "kitchen: 2 (50.0%)" in printed
    assert Image.open(tmp_path / "s.png").size[0] > 100


def test_figure_has_a_bar_per_number_of_objects(clips: Path) -> None:
    left, right = draw(real_statistics(list_clips(clips))).axes
    assert [bar.get_height() for bar in left.patches] == [1, 2, 1]
    assert len(right.patches) == 3


def test_broken_clips_are_named(clips: Path, tmp_path: Path, capsys) -> None:
    with pytest.raises(PisaError, match="no clips"):
        real_statistics([])
    (clips / "0001" / "clip_info.json").write_text(json.dumps({"points": [], "scene": 3}))
    assert main(["figure3", str(clips)]) == 2
    assert "0001" in capsys.readouterr().err
