from __future__ import annotations

import math
import re

import pytest

from pisa.errors import PisaError
from pisa.reports.curves import average_windows, draw_charts, read_csv_logger, titled


def test_reads_what_lightnings_logger_writes(tmp_path):
    from lightning.pytorch.loggers import CSVLogger

    logger = CSVLogger(tmp_path, name="run", version=0)
    logger.log_metrics({"train/loss": 0.5}, step=0)
    logger.log_metrics({"train/loss": 0.25, "val/iou": 0.125}, step=10)
    logger.save()
    curves = read_csv_logger(tmp_path / "run" / "version_0" / "metrics.csv")
    assert curves == {"train/loss": [(0, 0.5), (10, 0.25)], "val/iou": [(10, 0.125)]}


def test_bad_files_are_named(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,step,loss\n0,1,0.5\n0,2,abc\n")
    with pytest.raises(PisaError, match=r"metrics\.csv, line 3"):
        read_csv_logger(path)
    path.write_text("a,b\n1,2\n")
    with pytest.raises(PisaError, match="no column 'step'"):
        read_csv_logger(path)
    with pytest.raises(PisaError, match="cannot read"):
        read_csv_logger(tmp_path / "absent.csv")


def test_windows_average_and_leave_gaps():
    curve = [(0, 1.0), (1, 3.0), (2, math.nan), (3, 1.0), (4, 5.0)]
    steps, values, window = average_windows(curve, max_points=3)
    assert (steps, window) == ([1, 3, 4], 2)
    assert values[0] == 2 and math.isnan(values[1]) and values[2] == 5


def test_curves_are_named_for_readers_and_start_at_the_model_before():
    cell = {"l2": {"mean": 0.1}}
    summary = {"truth": {}, "frozen": {}, "base": {"real": cell}, "psft": {"real": {}}}
    curves = {"psft pisabench/real/l2": [(9, 0.05)], "psft train/loss": [(0, 1.0)], "x": [(0, 1)]}
    shown, starts = titled(curves, summary)
    assert list(shown) == ["PSFT: L2, Real", "PSFT: training loss", "x"]
    assert starts == {"PSFT: L2, Real": 0.1}


def test_a_few_values_are_points_without_a_line():
    few, many = draw_charts({"a": [(1, 0.35), (2, 0.36)], "b": [(i, i) for i in range(9)]})
    line = "stroke: var(--line); stroke-width: 1.6"
    assert line not in few.svg and line in many.svg
    assert ">0.0" in few.svg  # the axis includes zero


def test_charts_carry_notes_and_no_page_wide_style():
    chart, empty_left_out = draw_charts({"x": [(0, 1.0), (1, math.nan)], "y": [(0, 2.0)], "z": []})
    assert chart.last_value is None
    assert chart.note == "1 of 2 values are not finite"
    assert empty_left_out.name == "y"
    assert "<style" not in chart.svg and "currentColor" in chart.svg and "http" not in chart.svg


def test_markers_and_the_start_lie_inside_the_axes():
    chart = draw_charts({"a": [(1, 0.2), (3, 0.2)]}, {"a": 0.9})[0]
    labels = [float(text) for text in re.findall(r">([0-9.]+)</text>", chart.svg)]
    assert max(labels) >= 0.8 and "hollow" in chart.note
