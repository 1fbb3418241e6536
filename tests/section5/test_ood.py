"""Table 2 and the heat map from rows whose means are known."""

import math

import pytest

from pisa.section5.ood import grid, label_of, table


def row(depth_m: float, height_m: float, value: float) -> dict:
    study = {"in_distribution": 1 <= depth_m <= 3 and 0.5 <= height_m <= 1.5}
    scores = dict.fromkeys(("l2", "chamfer", "iou", "time_error"), value)
    return {"split": label_of(study), "depth_m": depth_m, "height_m": height_m, **scores}


ROWS = [row(1.5, 0.7, 0.1), row(2.5, 1.2, 0.3), row(4.5, 0.7, 0.5), row(5.0, 2.5, 0.9)]


def test_table_has_the_columns_of_table_2():
    cells = {m: {"mean": 0.1, "n": 2} for m in ("l2", "chamfer", "iou", "time_error", "miss_rate")}
    assert list(table({"id": cells})["id"]) == ["l2", "chamfer", "iou", "time_error"]


def test_grid_puts_clips_where_they_are():
    cells = grid([*ROWS, row(1.9, 0.9, 0.2), row(9.0, 0.7, 5.0)])
    assert cells["n"][0][0] == 2 and cells["mean"]["l2"][0][0] == pytest.approx(0.15)
    assert cells["mean"]["iou"][1][1] == pytest.approx(0.3)
    assert cells["mean"]["iou"][3][3] == pytest.approx(0.9)  # on the last edges
    assert cells["mean"]["l2"][2][2] is None
    undefined = grid([{**ROWS[0], "l2": math.nan}])
    assert undefined["n"][0][0] == 1 and undefined["mean"]["l2"][0][0] is None
    assert cells["outside"] == 1 and sum(map(sum, cells["n"])) == 5
