from __future__ import annotations

import copy
import json
import math

import numpy as np
import pytest

from pisa.errors import PisaError
from pisa.io.provenance import provenance
from pisa.reports.metrics_json import (
    build_metrics,
    paired_summary,
    read_metrics,
    validate_metrics,
    write_metrics,
)


@pytest.fixture
def document(rows, provenance_part):
    return build_metrics(rows, [], protocol="official", provenance=provenance_part)


def test_means_are_the_hand_computed_ones(document):
    cell = document["summary"]["psft"]["sim_seen"]["l2"]
    assert cell["mean"] == pytest.approx((0.10 + 0.11 + 0.12 + 0.13) / 4)
    assert cell["n"] == 4
    assert 0.10 <= cell["ci95"][0] <= cell["mean"] <= cell["ci95"][1] <= 0.13


def test_numbers_that_are_no_metric_are_kept_but_not_averaged(document):
    assert document["per_clip"][0]["frames"] == 16
    assert set(document["summary"]["psft"]["sim_seen"]) == {"l2", "chamfer", "iou"}


def test_models_come_in_the_reports_order(document):
    assert list(document["summary"]) == ["base", "psft"]


def test_nan_is_left_out_counted_and_listed(rows, provenance_part):
    rows[0]["l2"] = float("nan")
    document = build_metrics(rows, [], protocol="official", provenance=provenance_part)
    cell = document["summary"]["psft"]["sim_seen"]["l2"]
    assert cell["n"] == 3
    assert cell["mean"] == pytest.approx((0.11 + 0.12 + 0.13) / 3)
    assert document["per_clip"][0]["l2"] is None
    (failure,) = document["failures"]
    assert (failure["model"], failure["clip"], failure["metric"]) == ("psft", "clip_0", "l2")


def test_a_metric_that_is_never_finite_has_no_mean(rows, provenance_part):
    rows = [row | {"time_error": math.inf} for row in rows]
    document = build_metrics(rows, [], protocol="official", provenance=provenance_part)
    cell = document["summary"]["base"]["sim_seen"]["time_error"]
    assert cell == {"mean": None, "ci95": [None, None], "n": 0}


def test_a_metric_that_is_absent_is_no_failure(document):
    assert document["failures"] == []


def test_seeds_of_one_clip_count_once(rows, provenance_part):
    repeated = rows + [row | {"seed": 1, "l2": row["l2"] + 0.2} for row in rows]
    document = build_metrics(repeated, [], protocol="official", provenance=provenance_part)
    cell = document["summary"]["psft"]["sim_seen"]["l2"]
    assert cell["n"] == 4
    assert cell["mean"] == pytest.approx(0.115 + 0.1)


def test_numpy_scalars_become_json_numbers(rows, provenance_part):
    rows = [row | {"l2": np.float32(row["l2"]), "seed": np.int64(0)} for row in rows]
    document = build_metrics(rows, ["a clip broke"], protocol="strict", provenance=provenance_part)
    json.dumps(document, allow_nan=False)
    assert document["failures"] == [{"reason": "a clip broke"}]


def test_repeated_rows_are_refused(rows, provenance_part):
    with pytest.raises(ValueError, match="repeats"):
        build_metrics(rows + rows[:1], [], protocol="official", provenance=provenance_part)


def test_round_trip_leaves_no_temporary_file(document, tmp_path):
    path = tmp_path / "new" / "metrics.json"
    write_metrics(path, document)
    assert read_metrics(path) == document
    assert [p.name for p in path.parent.iterdir()] == ["metrics.json"]


def test_a_refused_document_leaves_the_old_file(document, tmp_path):
    path = tmp_path / "metrics.json"
    write_metrics(path, document)
    broken = copy.deepcopy(document)
    broken["summary"]["psft"]["sim_seen"]["l2"]["mean"] = float("nan")
    with pytest.raises(ValueError, match=r"summary\.psft\.sim_seen\.l2\.mean"):
        write_metrics(path, broken)
    assert read_metrics(path) == document


def _set(path, value):
    def change(document):
        *parents, last = path
        for key in parents:
            document = document[key]
        document[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set(["schema"], 2), "schema is 2"),
        (lambda d: d.pop("failures"), "lacks failures"),
        (lambda d: d["provenance"].pop("seed"), "provenance lacks seed"),
        (lambda d: d["per_clip"][0].pop("split"), r"per_clip\[0\] lacks split"),
        (_set(["per_clip", 1, "iou"], [1]), r"per_clip\[1\]\.iou"),
        (_set(["summary", "base", "sim_seen", "iou", "n"], 0), "disagree"),
        (_set(["summary", "base", "sim_seen", "iou", "ci95"], [1, 0]), "low, high"),
        (_set(["failures"], ["text"]), r"failures\[0\]"),
    ],
)
def test_validation_names_what_is_wrong(document, change, message):
    broken = copy.deepcopy(document)
    change(broken)
    with pytest.raises(ValueError, match=message):
        validate_metrics(broken)


def test_reading_a_broken_file_names_it(tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text("{")
    with pytest.raises(PisaError, match=r"metrics\.json is not a metrics\.json of schema 1"):
        read_metrics(path)
    with pytest.raises(PisaError, match="cannot read"):
        read_metrics(tmp_path / "absent.json")


def test_paired_difference_is_exact_where_the_difference_is_constant(document):
    cell = paired_summary(document, "psft", "base")["sim_seen"]["l2"]
    assert cell["mean"] == pytest.approx(-0.2)
    assert cell["ci95"] == pytest.approx([-0.2, -0.2])
    assert (cell["n"], cell["a_better"]) == (4, 4)
    assert paired_summary(document, "base", "psft")["sim_seen"]["iou"]["a_better"] == 0


def test_paired_difference_uses_common_clips_only(rows, provenance_part):
    rows[0]["iou"] = float("nan")  # psft, clip_0
    del rows[-1]  # base, clip_3
    document = build_metrics(rows, [], protocol="official", provenance=provenance_part)
    cells = paired_summary(document, "psft", "base")["sim_seen"]
    assert (cells["l2"]["n"], cells["iou"]["n"]) == (3, 2)


def test_paired_difference_with_an_unknown_model(document):
    with pytest.raises(PisaError, match="oro_flow"):
        paired_summary(document, "oro_flow", "base")


def test_provenance_depends_on_the_values_not_their_order():
    first = provenance({"a": 1, "b": {"c": [1, 2]}}, "ab", 5)
    second = provenance({"b": {"c": [1, 2]}, "a": 1}, "ab", 5)
    other = provenance({"a": 2}, None, 5)
    assert first == second
    assert first["config_sha256"] != other["config_sha256"]
    assert set(first["versions"]) == {"torch", "lightning", "diffusers", "pisa"}
    with pytest.raises(TypeError):
        provenance({"a": object()}, None, 5)
