"""Scores of several models on the test sets: table, metrics.json, report.html."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from einops import rearrange
from omegaconf import DictConfig
from torch import nn

from pisa.bench.score import (
    ClipResult,
    VideoSource,
    evaluate_model,
    frozen_video,
    true_video,
)
from pisa.io.progress import clip_progress
from pisa.launch.compose import build_model, part, public_yaml
from pisa.launch.model_videos import FiniteVideos, make_tracker, model_videos
from pisa.launch.outcome import provenance_of, publish
from pisa.launch.scored_sets import ScoredSets
from pisa.models.base import VideoModel
from pisa.ops.devices import pick_device
from pisa.reports.curves import read_csv_logger
from pisa.reports.metrics_json import build_metrics
from pisa.reports.published import published_table_1
from pisa.reports.schema import KEYS
from pisa.tasks.weights import load_denoiser

CURVES = ("train/loss", "val/loss", "val/reward", "train/gradient_norm")


class Evaluation:
    """Scores models on every clip of the chosen splits and writes the results to ``folder``."""

    def __init__(self, cfg: DictConfig, folder: Path) -> None:
        self.cfg = cfg
        self.folder = folder
        self.settings = cfg.evaluation
        self.device = pick_device(self.settings.device)
        self.tracker = make_tracker(cfg, self.device)
        self.sets = ScoredSets(cfg)
        self._model: VideoModel | None = None

    def run(self, weights: Mapping[str, Path | None]) -> dict[str, Any]:
        """Score ``frozen``, ``truth`` and one row per entry of ``weights`` (None: base model).

        Raises ``IncompleteError`` after all is written where clips could not be scored.
        """
        self.sets.prepare()
        failures: list[dict[str, Any]] = []
        results = list(self._score_all(weights, failures))
        metrics = build_metrics(
            [row_of_known(result.row) for result in results],
            failures,
            protocol=self.settings.protocol,
            provenance=provenance_of(self.cfg, self.sets.sha256()),
        )
        return publish(
            metrics,
            self.folder,
            model=list(weights)[-1],
            allow_missing=bool(self.cfg.allow_missing),
            title=f"PisaBench: {self.cfg.name}",
            videos=self._videos(results),
            curves=self._curves(weights),
            config_text=public_yaml(self.cfg),
            published=published_table_1() if self.settings.show_published else (),
            fps_hz=self.sets.fps_hz,
        )

    def _score_all(
        self, weights: Mapping[str, Path | None], failures: list[dict[str, Any]]
    ) -> Iterator[ClipResult]:
        clips = sum(len(found) for found in self.sets.clips.values())
        with clip_progress() as progress:
            for name in ("truth", "frozen", *weights):
                source = FiniteVideos(self._source(name, weights))
                task = progress.add_task(f"scoring {name}", total=clips)
                for split, loader in self.sets.loaders.items():
                    for result in self._score(source, loader, name, split):
                        progress.advance(task)
                        if result.row["clip"] in source.broken:
                            failures.append(_failure(result.row))
                        else:
                            yield result
                    source.broken.clear()  # clips of two splits may share a name

    def _score(self, source: VideoSource, loader, model: str, split: str) -> Iterator[ClipResult]:
        return evaluate_model(
            source,
            loader,
            self.tracker,
            model=model,
            split=split,
            seed=self.settings.seed,
            protocol=self.settings.protocol,
            device=self.device,
        )

    def _source(self, name: str, weights: Mapping[str, Path | None]) -> VideoSource:
        if name == "truth":
            return true_video
        if name == "frozen":
            return frozen_video
        model, frames = self._model_with(weights[name]), self.cfg.data.num_frames
        return model_videos(self.settings, model, self.device, num_frames=frames)

    def _model_with(self, weights: Path | None) -> VideoModel:
        """On the device. Built once: what follows the base model changes only the denoiser."""
        if self._model is None or weights is None:
            self._model = build_model(part(self.cfg, "model"), weights)
            if isinstance(self._model, nn.Module):
                self._model.to(self.device)
        else:
            load_denoiser(self._model.denoiser, weights)
        self._model.denoiser.eval()
        return self._model

    def _videos(self, results: list[ClipResult]) -> list[dict[str, Any]]:
        """Frames and masks per clip and model, as the report shows them."""
        shown: dict[tuple[str, str], dict[str, Any]] = {}
        for result in results:
            key = (result.row["split"], result.row["clip"])
            shown.setdefault(key, {})[result.row["model"]] = {
                "frames": rearrange(result.video, "c t h w -> t h w c").numpy(),
                "mask": result.mask.numpy(),
            }
        return [{"split": s, "clip": c, "models": models} for (s, c), models in shown.items()]

    def _curves(self, weights: Mapping[str, Path | None]) -> dict[str, list[tuple[int, float]]]:
        curves: dict[str, list[tuple[int, float]]] = {}
        for name, path in weights.items():
            logged = path.parent / "csv" / "metrics.csv" if path is not None else None
            if logged is None or not logged.is_file():
                continue
            for key, points in read_csv_logger(logged).items():
                if key in CURVES or (key.startswith("pisabench/") and not key.endswith("n")):
                    curves[f"{name} {key}"] = points
        return curves


def row_of_known(row: Mapping[str, Any]) -> dict[str, Any]:
    """Without the time error of a clip whose drop height is unknown: not a failure of the model."""
    return {k: v for k, v in row.items() if k != "time_error" or not math.isnan(v)}


def _failure(row: Mapping[str, Any]) -> dict[str, Any]:
    key = {name: row[name] for name in KEYS}
    return {**key, "reason": "the generated video holds NaN or infinity"}
