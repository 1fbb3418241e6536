"""The torchmetrics wrappers: means, counts, missing values."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torchmetrics import Metric

from pisa.metrics import PisaBenchMetric, TimeErrorMetric, evaluate_pair
from pisa.types import PisaError


def _square(x: int, num_frames: int = 4) -> np.ndarray:
    masks = np.zeros((num_frames, 16, 16), dtype=bool)
    masks[:, 3:7, x : x + 4] = True
    return masks


def test_mean_and_count_over_clips() -> None:
    metric = PisaBenchMetric("paper")
    pairs = [(_square(2), _square(x)) for x in (2, 4, 5)]
    for gt, gen in pairs:
        metric.update(gt, gen, 16, 16)
    results = [evaluate_pair(gt, gen, 16, 16, protocol="paper") for gt, gen in pairs]
    summary = metric.compute()
    for name in ("l2", "chamfer", "iou"):
        expected = [result[name] for result in results]
        assert summary[name].item() == pytest.approx(np.mean(expected), rel=1e-12)
        assert metric.per_clip()[name].tolist() == expected
        assert (summary[f"{name}_count"], summary[f"{name}_missing"]) == (3, 0)


def test_undefined_clips_are_counted() -> None:
    metric = PisaBenchMetric()
    metric.update(_square(2), _square(2), 16, 16)
    metric.update(_square(2), _square(2) & False, 16, 16)
    summary = metric.compute()
    assert summary["l2"] == 0 and summary["l2_count"] == 1 and summary["l2_missing"] == 1
    assert summary["iou"] == 0.5 and summary["iou_count"] == 2


def test_a_pair_that_cannot_be_scored_raises() -> None:
    metric = PisaBenchMetric("strict")
    with pytest.raises(PisaError, match="no compared frame"):
        metric.update(_square(2) & False, _square(2), 16, 16)


def test_strict_reports_the_miss_rate() -> None:
    metric = PisaBenchMetric("strict")
    metric.update(_square(2), _square(2) & False, 16, 16)
    assert metric.compute()["miss_rate"] == 1.0


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_no_clips_give_nan_and_reset_forgets() -> None:
    metric = PisaBenchMetric()
    metric.update(_square(2), _square(3), 16, 16)
    metric.reset()
    summary = metric.compute()
    assert math.isnan(summary["l2"]) and summary["l2_count"] == 0


def test_time_error_metric() -> None:
    metric = TimeErrorMetric()
    metric.update(_square(2), 16.0, 0.1)  # never falls: max(t_drop, t_last - t_drop)
    drop_s = math.sqrt(0.2 / 9.81)
    assert metric.compute()["time_error"].item() == pytest.approx(max(drop_s, 3 / 16 - drop_s))
    assert metric.compute()["time_error_count"] == 1


def test_unknown_protocol_is_refused_at_once() -> None:
    with pytest.raises(PisaError, match="official, paper, strict"):
        PisaBenchMetric("offical")


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
@pytest.mark.parametrize("kind", [PisaBenchMetric, TimeErrorMetric])
def test_a_metric_of_no_clips_still_computes_tensors(kind: type[Metric]) -> None:
    assert all(isinstance(value, torch.Tensor) for value in kind().compute().values())
