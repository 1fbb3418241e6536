"""``eval.py``: score a model, videos or mask pairs."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from pisa.launch.benchmark import with_own_clips
from pisa.launch.compose import build_model, part, public_yaml
from pisa.launch.evaluation import Evaluation
from pisa.launch.generation import generate_and_score
from pisa.launch.targets import instantiate
from pisa.launch.train import claimed, prepare_torch

# Training-only keys, dropped for scoring.
TRAINING_KEYS = ("trainer", "psft", "oro", "callbacks", "validate_every", "checkpoint_every")


def evaluate_main(cfg: DictConfig) -> None:
    """Score what the configuration group ``source`` names: a model, videos, or mask pairs."""
    cfg = with_own_clips(_without_training(cfg))
    prepare_torch(cfg.seed)
    folder = Path(cfg.output_dir)
    with claimed(folder, public_yaml(cfg)):
        instantiate(cfg.source)(cfg, folder)


def _without_training(cfg: DictConfig) -> DictConfig:
    """So that what is recorded and hashed with the scores is what decides them."""
    return OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key not in TRAINING_KEYS])


def score_models(cfg: DictConfig, folder: Path, *, row: str = "checkpoint") -> None:
    """Score a checkpoint (``ckpt=...``) beside the base model and the two reference rows.

    A model with generation settings (``cfg.generation``) and ``benchmark=SPLIT`` has its videos
    generated, kept, and scored as videos.
    """
    if cfg.benchmark is not None and cfg.get("generation") is not None:
        generate_and_score(cfg, folder)
        return
    sources: dict[str, Path | None] = {"base": None}
    if cfg.ckpt is not None:
        sources[cfg.name] = Path(cfg.ckpt)
        build_model(
            part(cfg, "model"), sources[cfg.name]
        )  # a wrong checkpoint fails before any work
    Evaluation(cfg, folder).run(sources)
