"""The dashboard is buildable without an account, names keys that are logged, and draws offline."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from pisa.__main__ import main
from pisa.bench.row import METRICS
from pisa.ops.video import write_mp4
from pisa.reports import dashboard, dashboard_offline
from pisa.reports.dashboard_spec import METRICS as SHOWN
from pisa.reports.dashboard_spec import SECTIONS, Panel

SOURCE = Path(__file__).parents[2] / "src" / "pisa"


def test_the_workspace_has_every_section_and_panel_without_an_account(tmp_path):
    assert main(["dashboard", "me/pisa", "--spec", str(tmp_path / "spec.json")]) == 0
    spec = json.loads((tmp_path / "spec.json").read_text())
    sections = spec["section"]["panelBankConfig"]["sections"]
    assert [s["name"] for s in sections] == [s.title for s in SECTIONS]
    counts = [len(s.panels) + len(s.media) + len(s.tables) for s in SECTIONS]
    assert [len(s["panels"]) for s in sections] == counts
    plots = [p["config"] for s in sections for p in s["panels"] if "metrics" in p["config"]]
    assert ["pisabench/sim_unseen/l2"] in [plot["metrics"] for plot in plots]
    assert "^microscope/step_.*_norm$" in [plot.get("metricRegex") for plot in plots]
    grouping = json.dumps(spec["section"]["runSets"][0]["grouping"])
    assert "experiment" in grouping and "seed" in grouping


def test_the_panels_show_what_the_project_logs():
    """Every key's beginning stands in the source of a task or a callback."""
    files = [path for name in ("tasks", "callbacks") for path in (SOURCE / name).glob("*.py")]
    source = "".join(path.read_text() for path in files)
    for panel in (panel for section in SECTIONS for panel in section.panels):
        for key in panel.keys:
            group, _, rest = key.partition("/")
            stem = rest.split("*")[0].rstrip("_") if group in ("train", "throughput") else ""
            assert group.startswith("lr-") or f"{group}/" in source, key
            assert stem in source, key
    assert set(SHOWN) == set(METRICS)


def test_a_panel_takes_stars():
    panel = Panel("x", ("train/reward*", "val/loss"))
    logged = ["train/reward", "train/reward_flow", "train/loss", "val/loss"]
    assert panel.matching(logged) == ["train/reward", "train/reward_flow", "val/loss"]


def test_smoothing_is_that_of_wandb():
    """A constant stays; the start is corrected, so the first value is kept."""
    assert dashboard_offline.smoothed([2.0, 2.0, 2.0], 0.9) == pytest.approx([2.0, 2.0, 2.0])
    assert dashboard_offline.smoothed([1.0, 3.0], 0.5) == pytest.approx([1.0, 1.75 / 0.75])
    assert dashboard_offline.smoothed([1.0, 3.0], 0.0) == [1.0, 3.0]


def test_equal_curves_are_one_and_runs_keep_their_colour():
    """A reward with one term equals it; two curves of a run are told apart by colour."""
    reward = [(1, -0.5), (2, -0.4)]
    one = {"train/reward": reward, "train/reward_flow": reward}
    two = {"train/reward": reward, "train/reward_flow": [(1, -0.3), (2, -0.2)]}
    runs = [dashboard_offline.OfflineRun(n, {}, c, ()) for n, c in (("a", one), ("b", two))]
    axes = Figure().add_subplot()
    dashboard_offline.plot(axes, Panel("reward", ("train/reward*",)), runs)
    assert [line.get_linestyle() for line in axes.lines] == ["-", "--", "--"]
    assert [text.get_text() for text in axes.get_legend().texts] == ["reward", "reward_flow"]
    assert axes.lines[0].get_color() != axes.lines[2].get_color()


def test_offline_runs_are_drawn_with_videos_and_tables(tmp_path, monkeypatch):
    folder = tmp_path / "runs" / "psft-1" / "wandb" / "offline-run-1-abc"
    videos = folder / "files" / "media" / "videos" / "samples" / "sim_seen"
    tables = folder / "files" / "media" / "table" / "worst_clips"
    for place in (videos, tables):
        place.mkdir(parents=True)
    (folder / "run-abc.wandb").touch()
    rng = np.random.default_rng(0)
    for step in (9, 10):
        frames = rng.integers(0, 255, (9, 32, 64, 3), dtype=np.uint8)
        write_mp4(videos / f"0_{step}_5e2d.mp4", frames, 16)
    table = {"columns": ["clip", "l2"], "data": [["000001", 0.25]]}
    (tables / "sim_seen_10_ab.table.json").write_text(json.dumps(table))
    curves = {"train/loss": [(0, 1.0), (5, 0.5)], "pisabench/sim_seen/l2": [(5, 0.1)]}
    monkeypatch.setattr(dashboard_offline, "read_offline", lambda _: ({"seed": 1}, curves))
    run = dashboard_offline.read_run(tmp_path / "runs" / "psft-1")
    assert run.label == "psft-1, seed 1"
    assert run.latest("samples/sim_seen/0", ".mp4") == videos / "0_10_5e2d.mp4"
    assert (
        main(["dashboard", "--draw", str(tmp_path / "runs/psft-1"), "--out", str(tmp_path / "d")])
        == 0
    )
    parts = [dashboard_offline._Part.of(section, [run]).rows for section in SECTIONS]
    assert parts == [1, 1, 0, 1, 1, 0]
    assert (tmp_path / "d.png").stat().st_size > 10_000


def test_mistakes_are_one_line(capsys, tmp_path):
    for arguments in ([], ["pisa", "--spec", str(tmp_path / "x")], ["--draw", str(tmp_path)]):
        assert main(["dashboard", *arguments]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_saving_without_an_account_is_one_line(monkeypatch, capsys):
    import wandb

    class Refused:
        def save(self):
            raise wandb.errors.CommError("no\nkey")

    monkeypatch.setattr(dashboard, "build", lambda project: Refused())
    assert main(["dashboard", "me/pisa"]) == 2
    assert "cannot save the dashboard of me/pisa: no key" in capsys.readouterr().err
