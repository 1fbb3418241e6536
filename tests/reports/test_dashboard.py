"""The workspace is built without an account and names keys that are logged."""

from __future__ import annotations

import json
from pathlib import Path

from pisa.__main__ import main
from pisa.bench.row import METRICS
from pisa.reports import dashboard
from pisa.reports.dashboard import SECTIONS

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
    assert "experiment" in grouping and "stage" in grouping and "seed" not in grouping
    seeds = {(plot["aggregate"], plot["groupAgg"], plot["groupArea"]) for plot in plots}
    assert seeds == {(True, "mean", "minmax")}  # a curve for the mean, a band for all seeds


def test_the_panels_show_what_the_project_logs():
    """The start of every key is in the source of a task or a callback."""
    files = [path for name in ("tasks", "callbacks") for path in (SOURCE / name).glob("*.py")]
    source = "".join(path.read_text() for path in files)
    for panel in (panel for section in SECTIONS for panel in section.panels):
        group, _, rest = panel.key.partition("/")
        stem = rest.split("*")[0].rstrip("_") if group in ("train", "throughput") else ""
        assert group.startswith("lr-") or f"{group}/" in source, panel.key
        assert stem in source, panel.key
    benchmark = [p.key for p in SECTIONS[0].panels]
    assert [f"pisabench/sim_seen/{metric}" for metric in METRICS] == benchmark[: len(METRICS)]


def test_mistakes_are_one_line(capsys, tmp_path):
    for arguments in ([], ["pisa", "--spec", str(tmp_path / "x")], ["me/pisa/x"]):
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
