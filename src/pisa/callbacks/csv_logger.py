"""A CSV log that a resumed run continues."""

from __future__ import annotations

import csv
from pathlib import Path

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger as LightningCSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.utilities import rank_zero_only

from pisa.io.files import replace_file


class CSVLogger(LightningCSVLogger):
    """Lightning's CSV logger, which keeps the rows of an interrupted run instead of deleting them.

    Column ``step`` counts optimiser steps from 0. ``StepCheckpoint`` calls ``drop_from``: rows of
    steps that the checkpoint does not cover are logged again by the resumed run.
    """

    @property
    @rank_zero_experiment
    def experiment(self) -> _ContinuedWriter:
        if not isinstance(self._experiment, _ContinuedWriter):
            self._experiment = _ContinuedWriter(log_dir=self.log_dir)
        return self._experiment

    @rank_zero_only
    def drop_from(self, step: int) -> None:
        """Remove the rows of ``step`` and later, those of this run's start included."""
        self.experiment.drop_from(step)


class _ContinuedWriter(ExperimentWriter):
    def __init__(self, log_dir: str) -> None:
        super().__init__(log_dir)
        path = Path(self.metrics_file_path)
        if path.is_file():
            with path.open(newline="", encoding="utf-8") as file:
                self.metrics_keys = list(csv.DictReader(file).fieldnames or [])

    def drop_from(self, step: int) -> None:
        path = Path(self.metrics_file_path)
        if not path.is_file():
            return
        with path.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if int(row["step"] or step) < step]
        self.metrics_keys = [k for k in self.metrics_keys if any(row.get(k) for row in rows)]
        if not rows:
            path.unlink()
            return
        with replace_file(path) as part, part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.metrics_keys, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)

    def _check_log_dir_exists(self) -> None:
        """Nothing is deleted: a resumed run continues in the same file."""
