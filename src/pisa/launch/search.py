"""Searches with optuna: `pisa search configs/search/oro_lr.yaml --trials 12`.

Every trial is `train.py` in a process of its own, so that a trial that fails or is killed costs no
other. The study is a file beside the results: the same command resumes where it was stopped.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import Trial, TrialState

from pisa.errors import PisaError, reason
from pisa.launch.compose import composed
from pisa.launch.entry import CONFIGS
from pisa.launch.sweep import folder_of
from pisa.reports.sweep import Member, read_members, scores_of, summarise, write_member

KEYS = {"overrides", "parameters", "objective", "direction", "seed"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("search", type=Path, help="a YAML of configs/search")
    parser.add_argument("overrides", nargs="*", help="further overrides of train.py, for all")
    parser.add_argument("--trials", type=int, default=12, help="in all, finished ones included")
    parser.add_argument("--folder", type=Path, help="default: runs/searches/NAME")


def main(given: argparse.Namespace) -> int:
    """Run the trials; 3 where some failed."""
    folder = given.folder or Path("runs/searches") / given.search.stem
    search = Search(read_search(given.search), folder, given.overrides)
    search.run(given.trials)
    failed = summarise(folder)
    print(search.best())
    return 3 if failed else 0


def read_search(path: Path) -> dict[str, Any]:
    """A search's YAML. Raises ``PisaError`` for one that is not complete."""
    try:
        search = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise PisaError(f"{path}: cannot read: {reason(error)}") from error
    if not isinstance(search, dict) or set(search) != KEYS:
        raise PisaError(f"{path}: a search has exactly {', '.join(sorted(KEYS))}")
    return search


def distribution(name: str, settings: Mapping[str, Any]) -> BaseDistribution:
    """``{values: [...]}``, or ``{low: ..., high: ..., log: true}``.

    Raises ``PisaError`` for anything else.
    """
    try:
        if "values" in settings:
            return CategoricalDistribution(list(settings["values"]))
        low, high = float(settings["low"]), float(settings["high"])
        return FloatDistribution(low, high, log=bool(settings.get("log", False)))
    except (KeyError, ValueError, TypeError) as error:
        raise PisaError(f"parameter {name}: needs values, or low and high ({error})") from error


class Search:
    """A study in ``folder``; ``search`` is what ``read_search`` returns."""

    def __init__(self, search: Mapping[str, Any], folder: Path, overrides: Sequence[str]) -> None:
        self.fixed = [*search["overrides"], *overrides]
        self.objective = str(search["objective"])
        self.space = {n: distribution(n, s) for n, s in search["parameters"].items()}
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        maximize = search["direction"] == "maximize"
        self.study = optuna.create_study(
            study_name=folder.name,
            storage=JournalStorage(JournalFileBackend(str(folder / "study.log"))),
            direction="maximize" if maximize else "minimize",
            load_if_exists=True,
        )
        seed = int(search["seed"]) + len(self.study.trials)  # else a second start repeats the first
        self.study.sampler = optuna.samplers.TPESampler(seed=seed)

    def run(self, trials: int) -> None:
        """Until ``trials`` have ended; one that a killed search left open counts as failed."""
        self._close_killed()
        ended = (TrialState.COMPLETE, TrialState.FAIL)
        while len(self.study.get_trials(states=ended)) < trials:
            self._one(self.study.ask(self.space))

    def _close_killed(self) -> None:
        left_open = self.study.get_trials(states=(TrialState.RUNNING,))
        for trial in left_open:
            self.study.tell(trial.number, state=TrialState.FAIL)
        for member in read_members(self.folder) if left_open else ():
            if member.status == "running":
                member.status, member.error = "failed", "it was killed"
                write_member(self.folder, member)

    def best(self) -> str:
        """The best trial in one line."""
        if not self.study.get_trials(states=(TrialState.COMPLETE,)):
            return "no trial has a score"
        best = self.study.best_trial
        chosen = " ".join(f"{name}={value:.4g}" for name, value in best.params.items())
        return f"best: trial {best.number}, {self.objective} {best.value:.4f}: {chosen}"

    def _one(self, trial: Trial) -> None:
        values = [f"{name}={value}" for name, value in trial.params.items()]
        overrides = [*self.fixed, *values]
        cfg = composed("train", overrides)
        member = Member(trial.number, overrides, str(folder_of(cfg)), str(cfg.name))
        write_member(self.folder, member)
        started = time.monotonic()
        command = [sys.executable, str(CONFIGS.with_name("train.py")), *overrides]
        log = self.folder / f"trial-{trial.number:04d}.log"
        with log.open("w", encoding="utf-8") as stream:
            code = subprocess.run(command, stdout=stream, stderr=stream, check=False).returncode
        score = scores_of(member).get(self.objective)
        member.seconds = time.monotonic() - started
        if code == 0 and score is not None:
            member.status = "finished"
            self.study.tell(trial, score)
        else:
            member.status = "failed"
            member.error = f"exit code {code}, no {self.objective}: see {log}"
            self.study.tell(trial, state=TrialState.FAIL)
        write_member(self.folder, member)
        print(f"trial {trial.number}: {' '.join(values)}: {member.error or f'{score:.4f}'}")
