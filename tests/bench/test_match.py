"""Videos and clips: the rule, and what is missing, extra or ambiguous."""

from __future__ import annotations

from pathlib import Path

import pytest

from pisa.bench.match import match_videos, split_name
from pisa.errors import PisaError

CLIPS = ["0000", "0001", "0002"]


def touch(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


@pytest.mark.parametrize(
    ("stem", "expected"),
    [
        ("0001", ("0001", 0)),
        ("0001_s0", ("0001", 0)),
        ("0001_s12", ("0001", 12)),
        ("a_s1", ("a_s1", 0)),  # a clip of that very name
        ("a_s1_s2", ("a_s1", 2)),
        ("0001_seed3", ("0001_seed3", 0)),
        ("_s3", ("_s3", 0)),
    ],
)
def test_the_rule(stem: str, expected: tuple[str, int]) -> None:
    assert split_name(stem, {"0001", "a_s1"}) == expected


def test_files_and_folders_in_the_benchmarks_order(tmp_path: Path) -> None:
    folder = touch(tmp_path / "v", "0002.MP4", "0000.gif", "0001/0.png", ".DS_Store")
    matches = match_videos(folder, CLIPS)
    assert [(s.clip, s.seed, s.path.name) for s in matches.samples] == [
        ("0000", 0, "0000.gif"),
        ("0001", 0, "0001"),
        ("0002", 0, "0002.MP4"),
    ]
    assert not matches.extra and not matches.missing


def test_missing_and_extra_are_listed(tmp_path: Path) -> None:
    folder = touch(tmp_path / "v", "0000.mp4", "0009.mp4", "notes.txt", "0001.txt", "0002/a.txt")
    matches = match_videos(folder, CLIPS)
    assert [s.clip for s in matches.missing] == ["0001", "0002"]
    assert [e.name for e in matches.extra] == ["0001.txt", "0002", "0009.mp4", "notes.txt"]


def test_a_seed_of_one_clip_is_expected_of_all(tmp_path: Path) -> None:
    folder = touch(tmp_path / "v", "0000.mp4", "0000_s1.mp4", "0001_s0.mp4", "0002.mp4")
    matches = match_videos(folder, CLIPS)
    assert len(matches.samples) == 6
    assert [(s.clip, s.seed) for s in matches.missing] == [("0001", 1), ("0002", 1)]


def test_two_videos_for_one_sample_are_a_problem(tmp_path: Path) -> None:
    folder = touch(tmp_path / "v", "0000.mp4", "0000_s0.webm", "0001.mp4", "0002.mp4")
    (problem,) = match_videos(folder, CLIPS).missing
    assert problem.clip == "0000" and "0000.mp4, 0000_s0.webm" in problem.problem


def test_clips_left_out_are_not_extra(tmp_path: Path) -> None:
    folder = touch(tmp_path / "v", "0000.mp4", "0001_s4.mp4", "x.mp4")
    matches = match_videos(folder, CLIPS[:1], known=CLIPS)
    assert [s.seed for s in matches.samples] == [0]
    assert [e.name for e in matches.extra] == ["x.mp4"]


def test_nothing_to_score(tmp_path: Path) -> None:
    with pytest.raises(PisaError, match="cannot read the videos: No such file"):
        match_videos(tmp_path / "absent", CLIPS)
    with pytest.raises(PisaError, match=r"none of its 1 entries.*0000\.mp4"):
        match_videos(touch(tmp_path / "v", "x.mp4"), CLIPS)
