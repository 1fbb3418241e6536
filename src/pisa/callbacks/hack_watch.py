"""Ends a training when the reward goes up at the cost of what it should stand for."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn

from pisa.errors import PisaError
from pisa.io.files import replace_file, write_atomic
from pisa.models.lora import exported_state
from pisa.rewards.base import reward_name
from pisa.tasks.base import denoiser_of
from pisa.tasks.reward_task import RewardTask
from pisa.tasks.weights import save_denoiser
from pisa.types import Batch

BEST = "best.safetensors"
RECORD = "record.json"


@dataclass(frozen=True)
class Verdict:
    """Means over the validation clips at one optimiser step; higher is better."""

    step: int
    reward: float
    judge: float
    clips: int  # that the judge could score


class HackDetector:
    """Tells when the reward has risen while the judge has fallen, for ``patience`` verdicts.

    A verdict is suspicious if, against the one with the best judge so far, its reward is higher and
    its judge lower by more than ``min_drop``. ``reason`` is set after ``patience`` such verdicts in
    a row, and stays.
    """

    def __init__(self, patience: int, min_drop: float = 0.0) -> None:
        if patience < 1 or min_drop < 0:
            raise ValueError(f"needs patience >= 1, min_drop >= 0, got {patience} and {min_drop}")
        self.patience, self.min_drop = patience, min_drop
        self.verdicts: list[Verdict] = []
        self.best: Verdict | None = None
        self.suspicious = 0
        self.reason: str | None = None

    def add(self, verdict: Verdict) -> bool:
        """Whether this verdict has the best judge so far; one that is not a number never has."""
        self.verdicts.append(verdict)
        best = self.best
        if best is None or verdict.judge > best.judge:
            better = verdict.judge == verdict.judge
            self.best, self.suspicious = (verdict if better else best), 0
            return better
        risen = verdict.reward > best.reward
        fallen = not verdict.judge >= best.judge - self.min_drop  # NaN counts as fallen
        self.suspicious = self.suspicious + 1 if risen and fallen else 0
        if self.suspicious >= self.patience and self.reason is None:
            self.reason = (
                f"from step {best.step} to {verdict.step} the reward rose from {best.reward:.4g} "
                f"to {verdict.reward:.4g} while the judge fell from {best.judge:.4g} to "
                f"{verdict.judge:.4g}, {self.suspicious} validations in a row"
            )
        return False

    def state_dict(self) -> dict[str, Any]:
        return {
            "verdicts": [asdict(verdict) for verdict in self.verdicts],
            "best": None if self.best is None else asdict(self.best),
            "suspicious": self.suspicious,
            "reason": self.reason,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.verdicts = [Verdict(**verdict) for verdict in state["verdicts"]]
        self.best = None if state["best"] is None else Verdict(**state["best"])
        self.suspicious, self.reason = state["suspicious"], state["reason"]


class HackWatch(Checkpoint):
    """Compares the reward with a judge that training does not see, at every validation.

    When ``HackDetector`` says so, training stops, and why is printed. ``folder/best.safetensors``
    keeps the weights with the best judge (the average, where the EMA callback is on),
    ``folder/record.json`` every verdict and the reason. Logs ``hack_watch/judge``,
    ``hack_watch/reward``, ``hack_watch/clips`` and ``hack_watch/suspicious``.

    The first validation comes ``val_check_interval`` steps into training; the trainer's
    ``num_sanity_val_steps=-1`` adds one of the weights that stage 2 starts from. As a
    ``Checkpoint`` it acts after the other callbacks.

    Args:
        judge: maps (generated, batch) to ``[B]``, higher is better, NaN where it cannot say:
            another reward. Kept outside checkpoints.
        patience: suspicious validations in a row that end the run.
        min_drop: how far the judge may fall unsuspected, in its own unit.
        export: file of weights to replace by the best if the run was ended (the one that the
            callback ``ExportWeights`` writes); None leaves it.
    """

    def __init__(
        self,
        judge: nn.Module,
        folder: Path | str,
        patience: int = 3,
        min_drop: float = 0.0,
        export: Path | str | None = None,
    ) -> None:
        self.judge = judge.requires_grad_(False).eval()
        self.folder = Path(folder)
        self.export = None if export is None else Path(export)
        self.detector = HackDetector(patience, min_drop)
        self._reward, self._judged = _Mean(), _Mean()

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if (
            isinstance(pl_module, RewardTask)
            and reward_name(self.judge) in pl_module.reward_terms.names
        ):
            raise PisaError(
                f"the judge {reward_name(self.judge)!r} is part of the reward, so it can see "
                "nothing that the reward does not; choose another judge for the hack watch"
            )

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._reward, self._judged = _Mean(), _Mean()
        self.judge.to(pl_module.device)

    @torch.no_grad()
    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if not _watched(trainer, pl_module):
            return
        generated = outputs["generated"].float()
        with torch.autocast(generated.device.type, enabled=False):
            judged = self.judge(generated, batch.frames(slice(generated.shape[2])))
        self._reward.add(outputs["reward"])
        self._judged.add(judged)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Acts here rather than in ``on_validation_end``: the average weights are still in."""
        if not _watched(trainer, pl_module):
            return
        (reward, _), (judge, clips) = self._reward.over(trainer), self._judged.over(trainer)
        step = trainer.global_step
        if self.detector.add(Verdict(step, reward, judge, clips)):
            metadata = {"task": type(pl_module).__name__, "step": str(step), "judge": str(judge)}
            save_denoiser(
                self.folder / BEST,
                exported_state(denoiser_of(pl_module)),
                metadata,
                write=trainer.is_global_zero,
            )
        self._report(trainer, {"reward": reward, "judge": judge, "clips": clips})

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        stopped = self.detector.reason is not None and self.detector.best is not None
        if stopped and self.export is not None and trainer.is_global_zero:
            with replace_file(self.export) as part:
                shutil.copyfile(self.folder / BEST, part)

    def state_dict(self) -> dict[str, Any]:
        return self.detector.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.detector.load_state_dict(state_dict)

    def _report(self, trainer: pl.Trainer, values: dict[str, float]) -> None:
        values["suspicious"] = float(self.detector.suspicious)
        for logger in trainer.loggers:
            named = {f"hack_watch/{name}": value for name, value in values.items()}
            logger.log_metrics(named, step=trainer.global_step)
        reason = self.detector.reason
        if reason is not None:
            trainer.should_stop = True
        if not trainer.is_global_zero:
            return
        record = {"judge": reward_name(self.judge)} | self.detector.state_dict()
        write_atomic(self.folder / RECORD, json.dumps(record, indent=1).encode())
        if reason is not None:
            best = self.folder / BEST
            print(f"hack watch ({reward_name(self.judge)}): {reason}. Stopped; best: {best}")


class _Mean:
    """Over the values that are numbers, of all processes."""

    def __init__(self) -> None:
        self._total, self._count = 0.0, 0

    def add(self, values: Tensor) -> None:
        known = values.detach().double()
        known = known[~known.isnan()]
        self._total += known.sum().item()
        self._count += len(known)

    def over(self, trainer: pl.Trainer) -> tuple[float, int]:
        """The mean (NaN of nothing), and of how many."""
        sums = torch.tensor([self._total, self._count], device=trainer.strategy.root_device)
        total, count = trainer.strategy.reduce(sums.float(), reduce_op="sum").tolist()
        return (total / count if count else float("nan")), int(count)


def _watched(trainer: pl.Trainer, pl_module: pl.LightningModule) -> bool:
    """Validations of a rewarded method during a fit; a sanity check only if it takes all clips."""
    if not isinstance(pl_module, RewardTask) or trainer.state.fn != TrainerFn.FITTING:
        return False
    return not trainer.sanity_checking or trainer.num_sanity_val_steps == float("inf")
