"""A folder of videos becomes scores, and what cannot be scored is never averaged away."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pisa.bench.row import METRICS
from pisa.errors import IncompleteError, PisaError
from pisa.perception.embedded_segmentation import EmbeddedTracker
from tests.launch.conftest import CLIPS, Bench, compose, evaluate, falling, write_mp4, write_videos


def score(bench: Bench, videos: Path, out: Path, *overrides: str) -> dict[str, Any]:
    cfg = compose(
        "source=videos", f"source.path={videos}", *bench.overrides(out), "benchmark=sim_seen"
    )
    for override in overrides:
        key, _, value = override.partition("=")
        _set(cfg, key, value)
    try:
        evaluate(cfg)
    finally:
        written = out / "metrics.json"
        metrics = json.loads(written.read_text()) if written.is_file() else {}
    return metrics


def _set(cfg: Any, key: str, value: str) -> None:
    from omegaconf import OmegaConf

    OmegaConf.update(cfg, key, OmegaConf.create(f"x: {value}").x)


def read(out: Path) -> dict[str, Any]:
    return json.loads((out / "metrics.json").read_text())


def test_good_videos_score_like_the_truth(bench: Bench, tmp_path: Path, capsys) -> None:
    metrics = score(bench, write_videos(tmp_path / "v"), tmp_path / "out", "name=kling")
    assert metrics["status"] == "complete" and not metrics["failures"]
    assert set(metrics["summary"]) == {"truth", "frozen", "kling"}
    kling = metrics["summary"]["kling"]["sim_seen"]
    assert set(kling) == set(METRICS)
    assert all(cell["n"] == 3 for cell in kling.values())
    assert kling["iou"]["mean"] > 0.8 and kling["l2"]["mean"] < 0.02
    assert metrics["summary"]["frozen"]["sim_seen"]["l2"]["mean"] > 0.05
    rows = [row for row in metrics["per_clip"] if row["model"] == "kling"]
    assert [row["clip"] for row in rows] == list(CLIPS)
    assert {row["num_frames_compared"] for row in rows} == {12}
    assert "kling" in (tmp_path / "out" / "report.html").read_text()
    assert "3 of 3 expected" in capsys.readouterr().out


def test_a_broken_and_a_missing_video(bench: Bench, tmp_path: Path, capsys) -> None:
    videos = write_videos(tmp_path / "v")
    (videos / f"{CLIPS[0]}.mp4").write_bytes(b"not a video")
    shutil.rmtree(videos / CLIPS[2])
    (videos / "stranger.mp4").touch()
    with pytest.raises(IncompleteError, match=f"2 failures, in {CLIPS[0]}, {CLIPS[2]}") as caught:
        score(bench, videos, tmp_path / "out")
    assert caught.value.exit_code == 3
    metrics = read(tmp_path / "out")
    assert metrics["status"] == "incomplete" and metrics["extra_videos"] == ["stranger.mp4"]
    assert [failure["clip"] for failure in metrics["failures"]] == [CLIPS[0], CLIPS[2]]
    assert all(c["n"] == 1 for c in metrics["summary"]["videos"]["sim_seen"].values())
    printed = capsys.readouterr()
    lines = [line for line in printed.err.splitlines() if line.startswith("failed: ")]
    assert len(lines) == 2 and all(
        clip in line for clip, line in zip(CLIPS[::2], lines, strict=True)
    )
    assert "extra: stranger.mp4" in printed.out and f"missing: {CLIPS[2]}" in printed.out
    assert "n = 1" in printed.out and "incomplete: 2 failures" in printed.out
    assert "…" not in printed.out  # no count is cut off


def test_allow_missing_marks_everything_partial(bench: Bench, tmp_path: Path, capsys) -> None:
    videos = write_videos(tmp_path / "v")
    (videos / f"{CLIPS[0]}.mp4").unlink()
    metrics = score(bench, videos, tmp_path / "out", "allow_missing=true")
    assert metrics["status"] == "partial" and len(metrics["failures"]) == 1
    assert "partial: 1 failure" in capsys.readouterr().out
    assert "Partial: 1 failure" in (tmp_path / "out" / "report.html").read_text()


def test_nothing_scored_is_never_a_success(bench: Bench, tmp_path: Path) -> None:
    videos = tmp_path / "v"
    videos.mkdir()
    for clip in CLIPS:
        (videos / f"{clip}.gif").touch()
    with pytest.raises(IncompleteError, match="over what is left: nothing"):
        score(bench, videos, tmp_path / "out", "allow_missing=true")
    assert len(read(tmp_path / "out")["failures"]) == 3


def test_samples_become_seeds_and_clips_count_once(bench: Bench, tmp_path: Path) -> None:
    videos = write_videos(tmp_path / "v", "_s0")
    for which, clip in enumerate(CLIPS):
        write_mp4(videos / f"{clip}_s1.mp4", falling(which)[0][:1].repeat(12, axis=0), 16)
    metrics = score(bench, videos, tmp_path / "out")
    rows = [row for row in metrics["per_clip"] if row["model"] == "videos"]
    assert [row["seed"] for row in rows] == [0, 1] * 3
    cell = metrics["summary"]["videos"]["sim_seen"]["l2"]
    assert cell["n"] == 3
    assert cell["mean"] == pytest.approx(sum(row["l2"] for row in rows) / 6)


def test_masks_are_made_once(bench: Bench, tmp_path: Path, monkeypatch) -> None:
    videos = write_videos(tmp_path / "v")
    cache = f"source.mask_cache={tmp_path / 'cache'}"
    first = score(bench, videos, tmp_path / "a", cache)
    assert len(list((tmp_path / "cache").rglob("*.npz"))) == 9  # truth, frozen, videos

    def no_tracking(*args: object) -> None:
        raise AssertionError("tracked again")

    monkeypatch.setattr(EmbeddedTracker, "segment", no_tracking)
    again = score(bench, videos, tmp_path / "b", cache)
    assert again["summary"] == first["summary"]
    with pytest.raises(AssertionError, match="tracked again"):
        write_mp4(videos / f"{CLIPS[0]}.mp4", falling(0)[0][[0, *range(2, 12), 11]], 16)
        score(bench, videos, tmp_path / "c", cache)


def letterboxed(frames: np.ndarray) -> np.ndarray:
    inside = np.zeros_like(frames)
    inside[:, 16:48] = frames[:, ::2]
    return inside


OTHER_FIRST_FRAMES = {
    "another clip": lambda frames: falling(0)[0],
    "mirrored": lambda frames: frames[:, :, ::-1],
    "black": lambda frames: np.concatenate([frames[:1] * 0, frames[1:]]),
    "fade-in": lambda frames: (frames * np.linspace(0, 1, 12)[:, None, None, None]).astype(
        np.uint8
    ),
    "letterbox inside": letterboxed,
}


@pytest.mark.parametrize("way", OTHER_FIRST_FRAMES)
def test_a_video_that_does_not_continue_its_clip_is_refused(bench, tmp_path, way) -> None:
    videos = write_videos(tmp_path / "v")
    changed = OTHER_FIRST_FRAMES[way](falling(2)[0])
    shutil.rmtree(videos / CLIPS[2])
    write_mp4(videos / f"{CLIPS[2]}.mp4", np.ascontiguousarray(changed), 16)
    with pytest.raises(IncompleteError, match=f"1 failure, in {CLIPS[2]}"):
        score(bench, videos, tmp_path / "out", "source.references=[]")
    (failure,) = read(tmp_path / "out")["failures"]
    assert "first frame is not the clip's (mean difference" in failure["reason"]
    allowed = ("source.references=[]", "source.allow_other_first_frames=true")
    rows = score(bench, videos, tmp_path / "all", *allowed)["per_clip"]
    assert [row["first_frame_difference"] > 40 for row in rows] == [False, False, True]


def test_a_folder_made_for_another_set_scores_nothing(bench, tmp_path) -> None:
    videos = tmp_path / "v"
    videos.mkdir()
    for which, clip in enumerate(CLIPS):
        write_mp4(videos / f"{clip}.mp4", 255 - falling(2 - which)[0], 16)
    with pytest.raises(IncompleteError, match="nothing"):
        score(bench, videos, tmp_path / "out", "allow_missing=true")


def test_low_quality_and_another_size_still_continue_the_clip(bench, tmp_path) -> None:
    videos = tmp_path / "v"
    videos.mkdir()
    for which, clip in enumerate(CLIPS):
        frames = falling(which)[0].repeat(2, axis=1).repeat(2, axis=2)
        washed_out = (16 + frames * (219 / 255)).astype(np.uint8)
        write_mp4(videos / f"{clip}.mp4", washed_out if which else frames, 16)
    rows = score(bench, videos, tmp_path / "out", "source.references=[]")["per_clip"]
    assert all(row["first_frame_difference"] < 10 for row in rows)


def test_a_shift_by_one_frame_is_reported(bench, tmp_path, capsys) -> None:
    videos = write_videos(tmp_path / "v")
    write_mp4(videos / f"{CLIPS[0]}.mp4", falling(0, 13)[0][1:], 16)
    shutil.rmtree(videos / CLIPS[2])
    write_mp4(videos / f"{CLIPS[2]}.mp4", falling(2)[0][[0, *range(11)]], 16)
    rows = score(bench, videos, tmp_path / "out", "source.references=[]")["per_clip"]
    assert [row["frame_shift"] for row in rows] == [1, 0, -1]
    printed = capsys.readouterr().err
    assert f"frame 0 is missing: {CLIPS[0]}" in printed
    assert f"frame 0 is shown twice: {CLIPS[2]}" in printed


def test_a_short_video_never_scores_in_silence(bench, tmp_path, capsys) -> None:
    videos = write_videos(tmp_path / "v")
    write_mp4(videos / f"{CLIPS[0]}.mp4", falling(0)[0][:4], 16)
    write_mp4(videos / f"{CLIPS[1]}.mp4", falling(1)[0][:9], 16)
    with pytest.raises(IncompleteError, match=f"1 failure, in {CLIPS[0]}"):
        score(bench, videos, tmp_path / "out", "source.references=[]")
    metrics = read(tmp_path / "out")
    assert "only 33% of the true clip's time" in metrics["failures"][0]["reason"]
    cell = metrics["summary"]["videos"]["sim_seen"]["l2"]
    assert cell["n"] == 2 and cell["coverage"] == pytest.approx((9 / 12 + 1) / 2)
    assert f"(coverage): {CLIPS[0]} 33%, {CLIPS[1]} 75%" in capsys.readouterr().err


def test_other_rates_and_lengths_align_in_time(bench: Bench, tmp_path: Path) -> None:
    videos = tmp_path / "v"
    videos.mkdir()
    write_mp4(videos / f"{CLIPS[0]}.mp4", falling(0)[0][::2], 8)
    longer = falling(1, 30)[0]
    write_mp4(videos / f"{CLIPS[1]}.mp4", longer, 16)
    write_mp4(videos / f"{CLIPS[2]}.mp4", falling(2)[0][:7], 16)
    rows = score(bench, videos, tmp_path / "out", "source.references=[]")["per_clip"]
    assert [row["num_frames_compared"] for row in rows] == [6, 12, 7]
    assert [row["coverage"] for row in rows] == [1, 1, pytest.approx(7 / 12)]
    assert all(row["iou"] > 0.7 for row in rows)


def test_real_clips_at_120_hz(bench: Bench, tmp_path: Path, capsys) -> None:
    videos = tmp_path / "v"
    videos.mkdir()
    for which, clip in enumerate(CLIPS):
        write_mp4(videos / f"{clip}.mp4", falling(which, 48)[0][::5], 24)
    metrics = score(bench, videos, tmp_path / "out", "benchmark=real", "source.size=[64,64]")
    cells = metrics["summary"]["videos"]["real"]
    assert set(cells) == set(METRICS) - {"time_error"}  # no drop height
    assert cells["iou"]["mean"] > 0.7
    rows = [row for row in metrics["per_clip"] if row["model"] == "videos"]
    assert {(r["num_frames_gt"], r["num_frames_compared"]) for r in rows} == {(48, 10)}
    assert "knows simulated clips only" in capsys.readouterr().out


def test_a_folder_of_own_clips_is_a_benchmark(bench: Bench, tmp_path: Path) -> None:
    own = tmp_path / "mine"  # as annotate.py leaves it: recordings and hidden work beside the clips
    shutil.copytree(bench.root / "real", own)
    (own / "IMG_1.mp4").touch()
    (own / ".annotate").mkdir()
    videos = write_videos(tmp_path / "v")
    overrides = (f"benchmark={own}", "source.size=[64,64]")
    metrics = score(bench, videos, tmp_path / "out", *overrides)
    assert metrics["summary"]["videos"]["real"]["l2"]["n"] == len(CLIPS)
    with pytest.raises(PisaError, match="holds no clips"):
        score(bench, videos, tmp_path / "none", f"benchmark={own / '.annotate'}")


def test_benchmark_is_converted_to_another_size(bench: Bench, tmp_path: Path) -> None:
    metrics = score(
        bench, write_videos(tmp_path / "v"), tmp_path / "out", "source.size=[128,128]",
        "source.references=[]", "protocol=strict", "evaluation.num_clips=2",
    )  # fmt: skip
    assert metrics["protocol"] == "strict"
    assert [row["clip"] for row in metrics["per_clip"]] == list(CLIPS[:2])
    assert all(row["l2"] < 0.05 for row in metrics["per_clip"])


def test_scenes_of_real_clips_have_rows_of_their_own(bench: Bench, tmp_path: Path) -> None:
    shutil.copytree(bench.root, tmp_path / "data")
    own = Bench(tmp_path / "data")
    for clip in CLIPS[:2]:
        path = own.root / "real" / clip / "clip_info.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"scene": "kitchen"}))
    videos = write_videos(tmp_path / "v")
    overrides = ("benchmark=real", "source.size=[64,64]", "source.references=[]")
    parts = score(own, videos, tmp_path / "out", *overrides)["breakdown"]
    scenes = {name: part["videos"]["real"]["iou"]["n"] for name, part in parts["scene"].items()}
    assert scenes == {"kitchen": 2, "not recorded": 1}
    assert parts["num_objects"]["2"]["videos"]["real"]["iou"]["n"] == 3
    assert "scene: kitchen" in (tmp_path / "out" / "report.html").read_text()


def test_released_clips_have_no_scene_rows(bench: Bench, tmp_path: Path) -> None:
    videos = write_videos(tmp_path / "v")
    overrides = ("benchmark=real", "source.size=[64,64]", "source.references=[]")
    assert set(score(bench, videos, tmp_path / "out", *overrides)["breakdown"]) == {"num_objects"}


def test_a_broken_benchmark_clip_fails_its_samples_only(tmp_path: Path, bench: Bench) -> None:
    shutil.copytree(bench.root, tmp_path / "data")
    own = Bench(tmp_path / "data")
    (own.root / "real" / CLIPS[1] / "00003.jpg").write_bytes(b"")
    videos = write_videos(tmp_path / "v")
    with pytest.raises(IncompleteError):
        score(own, videos, tmp_path / "out", "benchmark=real", "source.size=[64,64]")
    (failure,) = read(tmp_path / "out")["failures"]
    assert failure["clip"] == CLIPS[1] and "00003.jpg" in failure["reason"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("source.path=null", r"source\.path=DIR is needed"),
        ("source.path=nowhere", "cannot read the videos"),
        ("benchmark=null", "benchmark must be one of real, sim_seen, sim_unseen, sim "),
        ("benchmark=simple", "not 'simple'"),
        ("protocol=lenient", "protocol must be one of official, paper, strict, not 'lenient'"),
        ("source.fit=squeeze", "valid: refuse, stretch, crop"),
        ("source.device=gpu9", "no device 'gpu9'"),
        ("source.references=[best]", "no reference named 'best'"),
        ("source.fps_hz=0", "source.fps_hz must be a number above 0 or null, not 0"),
        ("source.references=truth", "references must be a list"),
        (
            "source.size=[4]",
            "source.size must be a list of 2 items, each a whole number of at least 8",
        ),
        ("name=truth", "name=truth is taken"),
        ("data_dir=nowhere benchmark=real", r"real\.zip.*clip_info\.json.*annotate\.py"),
    ],
)
def test_mistakes_are_one_error_before_any_work(
    bench: Bench, tmp_path: Path, override: str, message: str, monkeypatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    videos = write_videos(tmp_path / "v")
    with pytest.raises(PisaError, match=message) as caught:
        score(bench, videos, tmp_path / "out", *override.split())
    assert not isinstance(caught.value, IncompleteError)
    assert not (tmp_path / "out" / "metrics.json").exists()
