from __future__ import annotations

import io

import pytest
from rich.console import Console

from pisa.reports.published import published_table_1, published_table_2
from pisa.reports.table import markdown_table, print_table, result_table


def _cell(mean, low, high, n=20):
    return {"mean": mean, "ci95": [low, high], "n": n}


@pytest.fixture
def metrics():
    """Only ``summary`` matters to a table."""
    return {
        "summary": {
            "psft": {
                "sim_seen": {"l2": _cell(0.036, 0.03, 0.04), "iou": _cell(0.165, 0.1, 0.2)},
                "real": {"l2": _cell(0.0761, 0.07, 0.08, n=9), "iou": _cell(0.2, 0.1, 0.3, n=9)},
            },
            "truth": {"sim_seen": {"l2": _cell(0.001, 0, 0.002), "iou": _cell(0.9, 0.8, 1.0)}},
            "oro_flow": {
                "sim_seen": {"l2": _cell(0.02, 0.01, 0.03), "iou": _cell(0.122, 0.1, 0.2)},
                "real": {"l2": _cell(None, None, None, n=0)},
            },
        }
    }


EXPECTED = """\
| Model | Real, n = 9: L2 ↓ | Real, n = 9: IoU ↑ \
| Sim (seen), n = 20: L2 ↓ | Sim (seen), n = 20: IoU ↑ |
| --- | ---: | ---: | ---: | ---: |
| Ground truth | - | - | 0.001 [0.000, 0.002] | 0.900 [0.800, 1.000] |
| PSFT | 0.076 [0.070, 0.080] | 0.200 [0.100, 0.300] | 0.036 [0.030, 0.040] \
| **0.165** [0.100, 0.200] |
| PSFT + ORO (flow) | - (n = 0) | - | **0.020** [0.010, 0.030] | 0.122 [0.100, 0.200] |
"""


def test_markdown_is_the_hand_written_table(metrics):
    assert markdown_table(metrics) == EXPECTED


def test_ties_at_the_printed_precision_are_both_best(metrics):
    metrics["summary"]["psft"]["sim_seen"]["l2"]["mean"] = 0.0203
    rows = {row.model: row for row in result_table(metrics).rows}
    assert rows["psft"].cells["sim_seen", "l2"].best
    assert rows["oro_flow"].cells["sim_seen", "l2"].best


def test_published_rows_are_marked_and_do_not_compete(metrics):
    text = markdown_table(metrics, published_table_1())
    line = next(line for line in text.splitlines() if "ORO (Flow)" in line)
    assert line == "| base + ORO (Flow) (published) | 0.067 | 0.136 | 0.026 | 0.122 |"
    assert "**0.020**" in text


def test_the_terminal_table_fits_or_is_cut_into_splits(metrics):
    for width, tables in ((120, 1), (60, 2)):
        out = io.StringIO()
        print_table(metrics, Console(file=out, width=width))
        lines = out.getvalue().splitlines()
        assert max(map(len, lines)) <= width
        assert sum("Model" in line for line in lines) == tables
        assert "…" not in out.getvalue()


def test_published_numbers():
    rows = published_table_1()
    assert len(rows) == 12
    by_label = {row.label: row.scores for row in rows}
    assert by_label["Sora"]["real"] == {"l2": 0.174, "chamfer": 0.488, "iou": 0.065}
    assert by_label["Open-Sora"]["sim_seen"] == {"l2": 0.139, "chamfer": 0.409, "iou": 0.036}
    assert by_label["base + ORO (Depth)"]["sim_unseen"]["chamfer"] == 0.046
    assert all(
        set(scores) == {"l2", "chamfer", "iou"} for r in rows for scores in r.scores.values()
    )
    assert [row.group for row in rows] == ["proprietary"] * 4 + ["open"] * 4 + ["ours"] * 4
    assert published_table_2()["OOD"] == {
        "l2": 0.044,
        "chamfer": 0.143,
        "iou": 0.049,
        "time_error": 0.187,
    }


def test_a_narrow_terminal_cuts_no_count_off(metrics):
    stream = io.StringIO()
    print_table(metrics, Console(file=stream, width=40))
    assert "…" not in stream.getvalue()
    for group in result_table(metrics).groups:
        assert group.title in stream.getvalue()


def test_unscored_samples_are_said(metrics):
    stream = io.StringIO()
    failures = [{"clip": "0007", "reason": "broken"}]
    print_table(metrics | {"status": "partial", "failures": failures}, Console(file=stream))
    assert "partial: 1 failure; the means lack those samples" in stream.getvalue()
