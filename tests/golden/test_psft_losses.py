"""The losses of 20 steps of PSFT, recorded; a refactoring must reproduce them.

Recorded by `python -m tests.golden.test_psft_losses` (which prints the list below) on a CPU in
float32 with one thread. Tolerance 1e-4 of the value: other CPUs and versions of torch round
otherwise, while a changed random stream, order of clips, schedule or loss differs by far more.
A change that is meant goes into the changelog together with the new numbers.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback

from pisa.tasks.psft import PSFT
from tests.tasks.toy import ToyData, make_trainer, toy_model

LOSSES: list[float] = [
    1.931637,
    1.488729,
    1.289335,
    2.006147,
    1.789548,
    1.207736,
    1.071193,
    2.192224,
    1.551729,
    1.295604,
    1.073346,
    1.063245,
    1.123774,
    1.076851,
    1.086384,
    1.068522,
    1.111292,
    1.040707,
    1.074411,
    0.988694,
]


class Losses(Callback):
    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.values.append(outputs["loss"].item())


def losses(folder: Path) -> list[float]:
    torch.set_num_threads(1)
    recorder = Losses()
    task = PSFT(toy_model(), lr=1e-2, object_weight=3.0, warmup_steps=3, decay_steps=20)
    make_trainer(folder, 20, recorder, logger=False).fit(task, ToyData(num_clips=7, batch_size=4))
    return recorder.values


def test_twenty_losses(tmp_path):
    found = losses(tmp_path)
    assert len(found) == len(LOSSES) == 20
    assert found == pytest.approx(LOSSES, rel=1e-4)


if __name__ == "__main__":
    print([round(value, 6) for value in losses(Path(tempfile.mkdtemp()))])
