"""Loggers: a CSV log that a resumed run continues, and Weights & Biases without secrets."""

from __future__ import annotations

import csv
import os
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import wandb
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger as LightningCSVLogger
from lightning.pytorch.loggers import WandbLogger as LightningWandbLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.utilities import rank_zero_only

from pisa.io.files import replace_file, write_atomic
from pisa.io.secrets import redacted

RUN_ID = "wandb_run_id"  # file in ``save_dir``
LINES_OF_A_START = 10**7  # more than one start can log
FLUSH_S = 1.0  # so much of an offline run is lost by kill -9; wandb's default is 15 s


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


class WandbLogger(LightningWandbLogger):
    """Logs offline when ``WANDB_API_KEY`` isn't set, and says then how to upload the run.

    ``offline`` True or False overrides; False is right after ``wandb login``. A run that was
    stopped and started again in ``save_dir`` stays one W&B run: offline, each start writes a part
    of it under the same id, with numbers of lines of its own, and one `wandb sync` of all
    parts appends them in order. Runs are grouped by ``group`` (the experiment); the configuration
    holds the seed.

    Left out of what W&B records by itself: console output, the command line, the git remote and
    the program's source, because each may hold a password. Commit, versions and machine are logged
    by the launcher, and everything that is logged as configuration goes through ``redacted``.
    """

    def __init__(
        self,
        save_dir: Path | str,
        project: str = "pisa",
        name: str | None = None,
        offline: bool | None = None,
        group: str | None = None,
        tags: Sequence[str] = (),
        **options: Any,
    ) -> None:
        self.is_offline = "WANDB_API_KEY" not in os.environ if offline is None else offline
        if self.is_offline:  # wandb prints 40 lines, and ``finalize`` the one that is needed
            os.environ.setdefault("WANDB_SILENT", "true")
        self.folder = Path(save_dir)
        self.folder.mkdir(parents=True, exist_ok=True)
        super().__init__(
            save_dir=save_dir,
            project=project,
            name=name or self.folder.name,
            offline=self.is_offline,
            group=group,
            tags=list(tags),
            id=run_id(self.folder),
            settings=wandb.Settings(
                x_disable_meta=True,
                disable_git=True,
                disable_code=True,
                console="off",
                x_transaction_log_flush_interval=FLUSH_S,
            ),
            **options,
        )
        # Lightning 2.6.6 passes a setting that wandb 0.31 warns of in the first line of every run.
        self._wandb_init.pop("anonymous", None)
        self._finished = False

    @property
    def experiment(self) -> Any:
        """The W&B run, begun at the first use; dummies on other ranks than 0."""
        begins = self._experiment is None
        run = super().experiment
        if begins and self.is_offline and (restarts := len(_parts(self.folder)) - 1) > 0:
            # W&B numbers the lines of each start from 0, and keeps one line for each number.
            run.log({"restarts": restarts}, step=restarts * LINES_OF_A_START)
        return run

    @rank_zero_only
    def log_hyperparams(self, params: Any) -> None:
        plain = params if isinstance(params, Mapping) else vars(params)
        super().log_hyperparams(redacted(dict(plain)))

    @rank_zero_only
    def finalize(self, status: str) -> None:
        super().finalize(status)
        if self._experiment is None or self._finished:
            return
        self._finished = True
        if self.is_offline:
            parts = _parts(self.folder)
            several = f" ({len(parts)} parts, one for each start)" if len(parts) > 1 else ""
            pattern = f"{self.folder.resolve()}/wandb/offline-run-*-{run_id(self.folder)}"
            print(f"To upload this run{several}: wandb sync {pattern}")
        self._experiment.finish()  # the next stage begins a run of its own


def run_id(folder: Path) -> str:
    """The W&B run of an output folder: drawn once, kept in a file."""
    path = folder / RUN_ID
    if path.is_file() and (found := path.read_text(encoding="utf-8").strip()):
        return found
    drawn = uuid.uuid4().hex[:8]
    write_atomic(path, f"{drawn}\n".encode())
    return drawn


def _parts(folder: Path) -> list[Path]:
    """Folders of the run's offline parts, in the order of their starts."""
    return sorted((folder / "wandb").glob(f"offline-run-*-{run_id(folder)}"))
