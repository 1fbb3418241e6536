"""Sweeps: a failed member is recorded and the others run; a table at the end."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from pisa.errors import IncompleteError, PisaError

# Hydra imports this module with every command line, so torch and lightning are imported below.
ErrorLine = Callable[[DictConfig], str | None]


def run_member(cfg: DictConfig, attempt: ErrorLine) -> None:
    """Run one member and record how it ended. ``attempt`` returns a user's mistake as one line.

    Any other exception is printed whole and recorded too. Nothing but Ctrl-C and a signal stops
    the sweep; the same command then resumes it, since finished members are found by their settings.
    """
    from lightning.pytorch.utilities import rank_zero_only

    from pisa.ops.devices import free_memory
    from pisa.reports.sweep import Member, write_member

    record = rank_zero_only(write_member)
    settings = HydraConfig.get()
    place = Path(settings.sweep.dir)
    overrides = [o for o in settings.overrides.task if not o.startswith("hydra")]
    member = Member(int(settings.job.num), overrides, str(folder_of(cfg)), str(cfg.name))
    record(place, member)
    started = time.monotonic()
    try:
        member.error = attempt(cfg)
    except Exception as error:
        traceback.print_exc()
        member.error = f"{type(error).__name__}: {error}".splitlines()[0]
    member.status = "finished" if member.error is None else "failed"
    member.seconds = time.monotonic() - started
    record(place, member)
    if member.error is not None:
        print(f"member {member.number} failed: {member.error}", file=sys.stderr)
    free_memory()


def folder_of(cfg: DictConfig) -> Path:
    """Where a configuration's results go."""
    from pisa.launch.compose import compose_train

    if "stages" in cfg:
        with suppress(PisaError):  # a wrong setting; the member itself reports it
            return compose_train(cfg).folder.absolute()
    return Path(cfg.get("output_dir") or cfg.data_dir).absolute()


class SweepSummary(Callback):
    """Hydra's callback that ends a sweep: see configs/hydra_paths.yaml."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print the table; the exit code is 3 if a member failed."""
        from pisa.reports.sweep import summarise

        failed = summarise(Path(config.hydra.sweep.dir))
        if failed:
            raise SystemExit(IncompleteError.exit_code)
