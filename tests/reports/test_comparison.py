"""Paired differences and per-group means."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from pisa.reports.comparison import with_details
from pisa.reports.html import Page, write_report
from pisa.reports.metrics_json import build_metrics, read_metrics, write_metrics
from pisa.reports.table import print_table


@pytest.fixture
def document(rows, provenance_part):
    numbered = [row | {"num_objects": 1 + (row["clip"] == "clip_0")} for row in rows]
    document = build_metrics(numbered, [], protocol="strict", provenance=provenance_part)
    return with_details(document)


def test_the_extra_keys_survive_the_file(document, tmp_path):
    write_metrics(tmp_path / "metrics.json", document)
    assert read_metrics(tmp_path / "metrics.json") == document
    (pair,) = document["paired"]
    assert (pair["a"], pair["b"], pair["split"]) == ("psft", "base", "sim_seen")
    assert pair["cells"]["l2"]["mean"] == pytest.approx(-0.2)


def test_groups_hold_their_own_clips_only(document):
    parts = document["breakdown"]["num_objects"]
    counts = {value: part["psft"]["sim_seen"]["l2"]["n"] for value, part in parts.items()}
    assert counts == {"1": 3, "2": 1}
    (clip,) = [r for r in document["per_clip"] if r["clip"] == "clip_0" and r["model"] == "psft"]
    assert parts["2"]["psft"]["sim_seen"]["l2"]["mean"] == pytest.approx(clip["l2"])


def test_the_terminal_and_the_report_show_them(document, tmp_path):
    out = io.StringIO()
    print_table(document, Console(file=out, width=200))
    assert "PSFT minus Base, Sim (seen): L2 -0.200" in out.getvalue()
    page = write_report(tmp_path / "report.html", document, Page(title="x")).read_text()
    assert "objects in the clip: 2" in page and "PSFT minus Base" in page


def test_clips_without_a_scene_count_as_not_recorded(rows, provenance_part, tmp_path):
    scenes = {"clip_0": "kitchen", "clip_1": "office", "clip_2": "kitchen"}
    filmed = [r | ({"scene": scenes[r["clip"]]} if r["clip"] in scenes else {}) for r in rows]
    document = with_details(
        build_metrics(filmed, [], protocol="strict", provenance=provenance_part)
    )
    parts = document["breakdown"]["scene"]
    counts = {scene: part["psft"]["sim_seen"]["l2"]["n"] for scene, part in parts.items()}
    assert counts == {"kitchen": 2, "office": 1, "not recorded": 1}
    assert list(parts)[-1] == "not recorded"
    page = write_report(tmp_path / "report.html", document, Page(title="x")).read_text()
    assert all(f"scene: {scene}" in page for scene in counts)


def test_no_scene_at_all_makes_no_scene_rows(document):
    assert set(document["breakdown"]) == {"num_objects"}
