"""``eval.py``: score a model, videos or mask pairs."""

from __future__ import annotations

import os

from omegaconf import DictConfig

from pisa.errors import PisaError
from pisa.launch.compose import compose_eval
from pisa.launch.evaluation import Evaluation
from pisa.launch.generation import generate_and_score
from pisa.launch.runs import EvalRun, build_model
from pisa.launch.train import claimed, prepare_torch


def evaluate_main(cfg: DictConfig) -> None:
    """Score what the configuration group ``source`` names: a model, videos, or mask pairs.

    Raises ``PisaError`` under torchrun, unless videos are generated: only that is shared.
    """
    run = compose_eval(cfg)
    assert run.source is not None, "eval.yaml has a source"
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not _generates(run):
        raise PisaError(
            "scoring runs in one process: start eval.py without torchrun "
            "(processes share the work only where videos are generated: docs/guide/models.md)"
        )
    prepare_torch(run.seed)
    with claimed(run.folder, run.config_text):
        run.source.build()(run)


def score_models(run: EvalRun) -> None:
    """Score a checkpoint (``ckpt=...``) beside the base model and the two reference rows.

    A model with generation settings and ``benchmark=SPLIT`` has its videos generated, kept, and
    scored as videos.
    """
    if _generates(run):
        generate_and_score(run)
        return
    if run.ckpt is None:
        Evaluation(run).score({"base": None})
        return
    build_model(run.model, run.ckpt)  # a wrong checkpoint fails before any work
    Evaluation(run).score({"base": None, run.name: run.ckpt})


def _generates(run: EvalRun) -> bool:
    return run.benchmark is not None and run.generation is not None
