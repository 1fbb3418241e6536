"""The numbers of the paper's Table 1, against sums over its columns taken from the paper's text."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from pisa.errors import PisaError
from pisa.reports import published
from pisa.reports.names import SPLITS
from pisa.reports.published import (
    NOT_MEASURED,
    compare,
    markdown,
    published_elsewhere,
    published_table_1,
)

METRICS = ("l2", "chamfer", "iou")
ROWS = {  # whole rows as printed: real, sim (seen), sim (unseen)
    "Kling-V1": "0.157 0.425 0.056 0.142 0.415 0.032 0.145 0.437 0.028",
    "Runway Gen3": "0.187 0.526 0.042 0.170 0.509 0.040 0.149 0.460 0.038",
    "CogVideoX-5B-I2V": "0.138 0.366 0.080 0.112 0.315 0.020 0.101 0.290 0.020",
    "DynamiCrafter": "0.187 0.504 0.021 0.157 0.485 0.039 0.136 0.430 0.033",
    "Pyramid-Flow": "0.175 0.485 0.062 0.126 0.352 0.059 0.130 0.381 0.048",
    "base + ORO (Seg)": "0.075 0.183 0.142 0.033 0.076 0.170 0.032 0.063 0.145",
    "base + ORO (Depth)": "0.067 0.159 0.129 0.031 0.072 0.124 0.022 0.046 0.096",
    "base + ORO (Flow)": "0.067 0.164 0.136 0.026 0.062 0.122 0.022 0.045 0.071",
}
COLUMN_SUMS = (1.633, 4.414, 0.999, 1.258, 3.625, 0.880, 1.167, 3.402, 0.702)


def flat(scores) -> list[float]:
    return [scores[split][metric] for split in SPLITS for metric in METRICS]


def test_shape_and_order():
    rows = published_table_1()
    assert [len(flat(row.scores)) for row in rows] == [9] * 12
    assert rows[0].label == "Sora" and rows[8].label == "Open-Sora + PSFT (base)"
    assert len({row.label for row in rows}) == 12


@pytest.mark.parametrize("label", ROWS)
def test_whole_rows(label):
    (row,) = [row for row in published_table_1() if row.label == label]
    assert flat(row.scores) == [float(number) for number in ROWS[label].split()]


def test_every_column_sums_to_that_of_the_paper():
    columns = zip(*(flat(row.scores) for row in published_table_1()), strict=True)
    assert [round(sum(column), 3) for column in columns] == list(COLUMN_SUMS)


def test_numbers_are_printed_with_three_digits():
    text = Path(published.__file__).with_name("published.yaml").read_text(encoding="utf-8")
    table = text[text.index("table_1:") : text.index("table_2:")]
    assert len(re.findall(r"\b0\.\d{3}\b", table)) == len(re.findall(r"\d+\.\d+(?=[,}])", table))


def test_rows_of_other_papers_name_where_they_are_from_and_why_they_are_apart():
    for other in published_elsewhere():
        assert "arXiv" in other.paper
        assert "Table" in other.paper or "Copied from" in other.caveat
        assert other.protocol and other.caveat and other.videos > 0
        assert set(other.metrics) <= set(METRICS)
        assert len(other.lines()) == 2 + len(other.rows)


def test_the_rows_of_strike_have_the_gains_that_its_text_states():
    (strike,) = [other for other in published_elsewhere() if other.paper.startswith("STRIKE")]
    base, own = strike.rows
    assert 1 - own["l2"] / base["l2"] == pytest.approx(0.196, abs=5e-4)
    assert 1 - own["chamfer"] / base["chamfer"] == pytest.approx(0.173, abs=5e-4)


def test_table_2_as_printed():
    text = Path(published.__file__).with_name("published.yaml").read_text(encoding="utf-8")
    rows = {row["label"]: list(row.values())[1:] for row in yaml.safe_load(text)["table_2"]}
    assert rows == {"ID": [0.036, 0.088, 0.155, 0.091], "OOD": [0.044, 0.143, 0.049, 0.187]}


def summary_of(**means: float) -> dict:
    """One L2 cell on sim_seen for each model."""
    cell = {"ci95": [0.02, 0.05], "n": 30}
    return {model: {"sim_seen": {"l2": {"mean": m, **cell}}} for model, m in means.items()}


def test_every_printed_cell_stands_beside_the_measured_one_or_says_so():
    summary = summary_of(psft=0.05, truth=0.01)
    found = compare(summary, {name: name for name in summary}, published_table_1())
    assert len(found) == 12 * 3 * 3
    (entry,) = [e for e in found if e.measured is not None]
    assert (entry.label, entry.split, entry.metric) == ("Open-Sora + PSFT (base)", "sim_seen", "l2")
    assert entry.difference == pytest.approx(0.05 - 0.036)
    assert entry.line()[3:] == ("0.036", "0.050", "[0.020, 0.050]", "30", "+0.014", "yes")
    lines = markdown(found).splitlines()
    assert sum(NOT_MEASURED in line for line in lines) == 107
    assert "1 of 108 printed cells are measured" in lines[-1] and "1 hold" in lines[-1]


@pytest.mark.parametrize("name", ["Open-Sora", "open_sora", "opensora", "OpenSora", "base"])
def test_a_row_is_found_under_every_spelling(name):
    found = compare(summary_of(**{name: 0.1}), {name: name}, published_table_1())
    assert {e.label for e in found if e.measured} == {"Open-Sora"}


def test_a_generated_open_sora_goes_before_the_base_of_a_training():
    summary = summary_of(base=0.1, open_sora=0.2)
    found = compare(summary, {name: name for name in summary}, published_table_1())
    assert {e.model for e in found if e.measured} == {"open_sora"}


def test_two_runs_of_one_row_are_refused():
    summary = summary_of(one=0.1, two=0.2)
    with pytest.raises(PisaError, match=r"one and two both belong to .*ORO \(Flow\).*give one"):
        compare(summary, {"one": "oro_flow", "two": "oro_flow"}, published_table_1())


def test_a_mean_over_one_clip_has_no_interval():
    summary = {"sora": {"real": {"iou": {"mean": 0.1, "ci95": [None, None], "n": 1}}}}
    (entry,) = [e for e in compare(summary, {"sora": "sora"}, published_table_1()) if e.measured]
    assert entry.line()[3:] == ("0.065", "0.100", "", "1", "+0.035", "")
