"""Several runs on one page."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pisa.__main__ import main
from pisa.errors import PisaError
from pisa.reports.comparison import CORRECTION, against_best, compare_all
from pisa.reports.html import Page, write_report
from pisa.reports.leaderboard import merge, merge_clips, read_runs
from pisa.reports.metrics_json import build_metrics, write_metrics
from pisa.reports.panels import read_report_clips

CLIPS = [f"00000{i}" for i in range(4)]
PROVENANCE = {"commit": "abc", "config_sha256": "1", "data_sha256": "2", "seed": 0, "versions": {}}


def falling(speed):
    """Frames and masks of a square that falls by ``speed`` px a frame."""
    frames = np.full((12, 64, 64, 3), 60, dtype=np.uint8)
    masks = np.zeros((12, 64, 64), dtype=bool)
    for t in range(12):
        top = 4 + min(44, round(speed * t))
        masks[t, top : top + 12, 26:38] = True
    frames[masks] = (230, 60, 40)
    return {"frames": frames, "mask": masks}


def write_run(folder, model, error, protocol="official", speed=4.0, clips=CLIPS):
    """A run with truth, frozen and one model, whose L2 is about ``error``."""
    rows = [
        {"model": m, "split": "real", "clip": clip, "seed": 0, "l2": e + 0.01 * i, "iou": 1 - e}
        for m, e in (("truth", 0.0), ("frozen", 0.5), (model, error))
        for i, clip in enumerate(clips)
    ]
    failures = [{"model": model, "split": "real", "clip": CLIPS[0], "seed": 1, "reason": "missing"}]
    metrics = build_metrics(rows, failures, protocol=protocol, provenance=PROVENANCE)
    write_metrics(folder / "metrics.json", metrics)
    models = {"truth": falling(4.0), "frozen": falling(0.0), model: falling(speed)}
    videos = [{"clip": clip, "split": "real", "models": models} for clip in CLIPS[:2]]
    write_report(folder / "report.html", metrics, Page(title=model, videos=videos))
    return folder


def test_clips_come_back_out_of_a_report(tmp_path):
    clips, fps_hz = read_report_clips(write_run(tmp_path / "a", "a", 0.1) / "report.html")
    assert [clip["clip"] for clip in clips] == CLIPS[:2] and fps_hz == 16.0
    shown = clips[0]["models"]["a"]
    assert np.array_equal(shown["mask"], falling(4.0)["mask"])
    small = shown["frames"][:, ::2, ::2].astype(int)  # the report enlarges small frames twice
    assert np.abs(small - falling(4.0)["frames"]).mean() < 6


def test_merged_page(tmp_path, capsys):
    runs = [
        write_run(tmp_path / "wan", "Wan", 0.2, speed=0.1),
        write_run(tmp_path / "cog", "Cog", 0.1, speed=4.0),
    ]
    out = tmp_path / "board.html"
    assert main(["leaderboard", *map(str, runs), "--out", str(out)]) == 0
    page = out.read_text()
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])
    assert data["panels"][0]["models"] == ["truth", "frozen", "Wan", "Cog"]
    assert "Sora (published)" in page and "hovers" in page and "data-ranked" in page
    metrics = merge(read_runs(runs))
    assert metrics["summary"]["Cog"]["real"]["l2"]["n"] == 4
    assert len(metrics["per_clip"]) == 16  # truth and frozen count once
    assert len(metrics["failures"]) == 2
    (pair,) = against_best(metrics, compare_all(metrics))
    assert (pair["a"], pair["b"]) == ("Wan", "Cog")
    assert pair["cells"]["l2"]["mean"] == pytest.approx(0.1)
    printed = capsys.readouterr().out
    assert "leaderboard:" in printed and CORRECTION in printed and CORRECTION in page
    assert "Real, L2: rank Cog 1, Wan 2; all differ." in printed
    assert "rank Cog 1, Wan 2" in page
    assert "STRIKE (CogVideoX-5B): L2 0.0949" in printed and "STRIKE (CogVideoX-5B)" in page
    main(["leaderboard", *map(str, runs), "--out", str(out), "--no-published"])
    assert "STRIKE" not in out.read_text() + capsys.readouterr().out


def test_one_name_in_two_runs_is_told_apart(tmp_path):
    runs = [write_run(tmp_path / name, "base", e) for name, e in (("a", 0.2), ("b", 0.3))]
    assert set(merge(read_runs(runs))["summary"]) == {"truth", "frozen", "Base (a)", "Base (b)"}


def test_runs_that_agree_on_shared_clips_keep_one_name(tmp_path):
    whole, other = write_run(tmp_path / "a", "base", 0.2), write_run(tmp_path / "c", "base", 0.3)
    part = write_run(tmp_path / "b", "base", 0.2, clips=CLIPS[:2])
    assert [run.names["base"] for run in read_runs([whole, part])] == ["base", "base"]
    names = [run.names["base"] for run in read_runs([whole, part, other])]
    assert names == ["Base (a)", "Base (a)", "Base (c)"]


def test_a_report_of_another_version_costs_its_clips_only(tmp_path):
    run = write_run(tmp_path / "a", "base", 0.2)
    page = run / "report.html"
    page.write_text('<script type="application/json" id="data">{"fps": 16}</script>')
    clips, _, notes = merge_clips(read_runs([run]), 10)
    assert clips == []
    assert notes == ["a: in its report, its clips are of another version; they are not below."]


def test_runs_that_cannot_be_compared(tmp_path, capsys):
    runs = [write_run(tmp_path / p, "m", 0.2, p) for p in ("official", "strict")]
    with pytest.raises(PisaError, match="different protocols"):
        read_runs(runs)
    whole = write_run(tmp_path / "whole", "m", 0.2)
    other = write_run(tmp_path / "other", "n", 0.3, clips=["other"])
    with pytest.raises(PisaError, match="no real clip in common"):
        read_runs([whole, other])
    for change, reason in (
        ({"provenance": {**PROVENANCE, "data_sha256": "real:1"}}, "not the same data set"),
        ({"num_frames_gt": 9}, "different frames: 16 and 9 of clip 000000"),
    ):
        changed = write_run(tmp_path / reason[:5], "n", 0.3)
        for run, frames in ((whole, 16), (changed, change.get("num_frames_gt", 16))):
            document = json.loads((run / "metrics.json").read_text())
            document["provenance"] = (
                change.get("provenance", PROVENANCE) if run is changed else (PROVENANCE)
            )
            for row in document["per_clip"]:
                row["num_frames_gt"] = frames
            (run / "metrics.json").write_text(json.dumps(document))
        with pytest.raises(PisaError, match=f"cannot share a table: .*{reason}"):
            read_runs([whole, changed])
    with pytest.raises(PisaError, match="twice"):
        read_runs([runs[0], runs[0]])
    assert main(["leaderboard", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
