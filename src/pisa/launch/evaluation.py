"""Scores of several models on the test sets: table, metrics.json, report.html."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from pisa.bench.collect import Collection
from pisa.bench.references import REFERENCES, VideoSource
from pisa.bench.score import Scorer
from pisa.io.progress import clip_progress
from pisa.launch.model_videos import make_tracker, model_videos
from pisa.launch.outcome import provenance_of, publish
from pisa.launch.runs import EvalRun, build_model
from pisa.launch.scored_sets import ScoredSets
from pisa.models.base import VideoModel
from pisa.ops.devices import pick_device
from pisa.reports.curves import read_csv_logger
from pisa.reports.metrics_json import build_metrics
from pisa.reports.names import model_label
from pisa.reports.published import published_table_1
from pisa.tasks.weights import load_weights

CURVES = ("train/reward", "val/reward", "train/loss", "val/loss", "train/gradient_norm")


class Evaluation:
    """Scores models on every clip of the chosen splits and writes the results to a folder."""

    def __init__(self, run: EvalRun) -> None:
        self.run, self.settings = run, run.evaluation
        self.device = pick_device(self.settings.device)
        self.scorer = Scorer(
            make_tracker(run.tracker, self.device), self.settings.protocol, self.device
        )
        self.sets = ScoredSets(run)
        self._model: VideoModel | None = None

    def score(self, weights: Mapping[str, Path | None]) -> dict[str, Any]:
        """Score ``frozen``, ``truth`` and one row per entry of ``weights`` (None: base model).

        Raises ``IncompleteError`` after all is written where clips could not be scored.
        """
        self.sets.prepare()
        collection = Collection()
        self._score_all(weights, collection)
        metrics = build_metrics(
            [row.as_dict() for row in collection.rows],
            [failure.as_dict() for failure in collection.failures],
            protocol=self.settings.protocol,
            provenance=provenance_of(self.run, self.sets.sha256(), self.scorer.tracker),
        )
        return publish(
            metrics,
            self.run.folder,
            model=list(weights)[-1],
            allow_missing=self.run.allow_missing,
            title=f"PisaBench: {model_label(self.run.name)}",
            videos=collection.videos,
            curves=self._curves(weights),
            config_text=self.run.config_text,
            published=published_table_1() if self.settings.show_published else (),
            fps_hz=self.sets.fps_hz,
        )

    def _score_all(self, weights: Mapping[str, Path | None], collection: Collection) -> None:
        clips = sum(len(found) for found in self.sets.clips.values())
        with clip_progress() as progress:
            for name in (*REFERENCES, *weights):
                source = self._source(name, weights)
                task = progress.add_task(f"scoring {name}", total=clips)
                for split, loader in self.sets.loaders.items():
                    for result in self.scorer.score_source(
                        source, loader, model=name, split=split, seed=self.settings.seed
                    ):
                        collection.add(result)
                        progress.advance(task)

    def _source(self, name: str, weights: Mapping[str, Path | None]) -> VideoSource:
        if name in REFERENCES:
            return REFERENCES[name]
        model, frames = self._model_with(weights[name]), self.run.data.settings["num_frames"]
        return model_videos(self.settings, model, self.device, num_frames=frames)

    def _model_with(self, weights: Path | None) -> VideoModel:
        """On the device. Built once: what follows the base model changes only the denoiser."""
        if self._model is None or weights is None:
            self._model = build_model(self.run.model, weights)
            if isinstance(self._model, nn.Module):
                self._model.to(self.device)
        else:
            load_weights(self._model, weights)
        self._model.denoiser.eval()
        return self._model

    def _curves(self, weights: Mapping[str, Path | None]) -> dict[str, list[tuple[int, float]]]:
        curves: dict[str, list[tuple[int, float]]] = {}
        for name, path in weights.items():
            logged = path.parent / "csv" / "metrics.csv" if path is not None else None
            if logged is None or not logged.is_file():
                continue
            found = read_csv_logger(logged)
            if "train/reward" in found:  # ORO's loss is minus its reward
                found.pop("train/loss", None)
            scores = [k for k in found if k.startswith("pisabench/") and not k.endswith("n")]
            for key in [k for k in CURVES if k in found] + scores:
                curves[f"{name} {key}"] = found[key]
        return curves
