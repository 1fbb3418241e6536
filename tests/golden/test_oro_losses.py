"""The losses of ten steps of ORO for each way of taking the gradient, recorded.

Recorded by `python -m tests.golden.test_oro_losses`; tolerance and rules as in
``tests.golden.test_psft_losses``.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import torch

from pisa.tasks.gradient_steps import FirstSteps, RandomSteps
from pisa.tasks.oro import ORO
from tests.golden.test_psft_losses import Losses
from tests.tasks.test_oro import Similarity
from tests.tasks.toy import ToyData, make_trainer, toy_model

OPTIONS = {
    "full": {},
    "replay": {"replay": True},
    "first_2": {"gradient_window": FirstSteps(2)},
    "random_1": {"gradient_window": RandomSteps(1), "replay": True, "other_steps": "frozen"},
    "psft_loss": {"psft_weight": 0.1, "guidance": 1.0},
}
LOSSES: dict[str, list[float]] = {
    "full": [
        1.774473,
        1.070168,
        1.659176,
        1.099261,
        0.80063,
        0.835001,
        0.808451,
        0.803222,
        0.768022,
        0.612753,
    ],
    "replay": [
        1.774473,
        1.070168,
        1.659176,
        1.099261,
        0.80063,
        0.835001,
        0.808451,
        0.803222,
        0.768022,
        0.612753,
    ],
    "first_2": [
        1.774473,
        1.055467,
        1.320903,
        0.84832,
        0.913661,
        0.868855,
        0.791658,
        0.883557,
        0.796097,
        0.635023,
    ],
    "random_1": [
        1.774473,
        1.088741,
        1.234209,
        0.880977,
        0.869491,
        0.989184,
        1.081869,
        1.146695,
        1.015391,
        0.824019,
    ],
    "psft_loss": [
        1.804479,
        1.136366,
        1.19237,
        0.951743,
        0.935111,
        0.860776,
        0.979801,
        0.967825,
        0.841399,
        0.717722,
    ],
}


def losses(folder: Path, name: str) -> list[float]:
    torch.set_num_threads(1)
    recorder = Losses()
    task = ORO(toy_model(), Similarity(), lr=1e-2, num_steps=4, **OPTIONS[name])
    make_trainer(folder, 10, recorder, logger=False).fit(task, ToyData(num_clips=7, batch_size=4))
    return recorder.values


@pytest.mark.parametrize("name", OPTIONS)
def test_ten_losses(tmp_path, name):
    found = losses(tmp_path, name)
    assert len(found) == len(LOSSES[name]) == 10
    assert found == pytest.approx(LOSSES[name], rel=1e-4)


if __name__ == "__main__":
    for option in OPTIONS:
        values = losses(Path(tempfile.mkdtemp()), option)
        print(f'    "{option}": {[round(value, 6) for value in values]},')
