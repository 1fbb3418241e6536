"""Scores of several models on the test sets: table, metrics.json, report.html."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from einops import rearrange
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from pisa.callbacks.evaluation import (
    ClipResult,
    ModelSource,
    VideoSource,
    evaluate_model,
    frozen_video,
    true_video,
)
from pisa.data.manifest import data_sha256
from pisa.launch.datasets import DataSets
from pisa.launch.outcome import write_results
from pisa.launch.progress import clip_progress
from pisa.launch.stages import build_data, build_model
from pisa.reports.curves import read_csv_logger
from pisa.reports.metrics_json import build_metrics, provenance
from pisa.reports.published import published_table_1

CURVES = ("train/loss", "val/loss", "val/reward", "train/gradient_norm")


class Evaluation:
    """Scores models on every clip of the chosen splits and writes the results to ``folder``."""

    def __init__(self, cfg: DictConfig, folder: Path) -> None:
        self.cfg = cfg
        self.folder = folder
        self.settings = cfg.evaluation
        self.tracker = instantiate(cfg.perception.tracker)
        self.sets = DataSets(cfg)
        self.data = build_data(
            cfg,
            self.sets,
            batch_size=self.settings.batch_size,
            num_eval_clips=self.settings.num_clips,
        )

    def run(self, weights: Mapping[str, Path | None]) -> dict[str, Any]:
        """Score ``frozen``, ``truth`` and one row per entry of ``weights`` (None: base model)."""
        for split in self.settings.splits:
            if split in self.cfg.simulation.datasets:
                self.sets.make(split)
        self.data.setup("test")
        results = list(self._score_all(weights))
        metrics = build_metrics(
            [result.row for result in results],
            [],
            protocol=self.settings.protocol,
            provenance=self._provenance(),
        )
        return write_results(
            metrics,
            self.folder,
            title=f"PisaBench: {self.cfg.name}",
            videos=self._videos(results),
            curves=self._curves(weights),
            config_text=OmegaConf.to_yaml(self.cfg),
            published=published_table_1() if self.settings.show_published else (),
            fps_hz=self._fps_hz(),
        )

    def _score_all(self, weights: Mapping[str, Path | None]) -> Iterator[ClipResult]:
        loaders = dict(zip(self.data.splits, self.data.test_dataloader(), strict=True))
        chosen = {split: loaders[split] for split in self.settings.splits}
        sets = dict(zip(self.data.splits, self.data.test_sets, strict=True))
        clips = sum(len(sets[split]) for split in chosen)
        with clip_progress() as progress:
            for name in ("truth", "frozen", *weights):
                source = self._source(name, weights)
                task = progress.add_task(f"scoring {name}", total=clips)
                for split, loader in chosen.items():
                    for result in self._score(source, loader, name, split):
                        progress.advance(task)
                        yield result

    def _score(self, source: VideoSource, loader, model: str, split: str) -> Iterator[ClipResult]:
        return evaluate_model(
            source,
            loader,
            self.tracker,
            model=model,
            split=split,
            seed=self.settings.seed,
            protocol=self.settings.protocol,
        )

    def _source(self, name: str, weights: Mapping[str, Path | None]) -> VideoSource:
        if name == "truth":
            return true_video
        if name == "frozen":
            return frozen_video
        model = build_model(self.cfg, weights[name])
        model.denoiser.eval()
        return ModelSource(
            model,
            num_steps=self.settings.num_steps,
            guidance=self.settings.guidance,
            caption=self.settings.caption,
        )

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

    def _provenance(self) -> dict[str, Any]:
        sets = dict(zip(self.data.splits, self.data.test_sets, strict=True))
        hashes = {split: data_sha256(sets[split].folder) for split in self.settings.splits}
        config = OmegaConf.to_container(self.cfg, resolve=False)
        assert isinstance(config, dict)
        return provenance(
            {str(key): value for key, value in config.items()},
            " ".join(f"{split}:{digest}" for split, digest in hashes.items()),
            self.settings.seed,
        )

    def _fps_hz(self) -> float:
        return float(self.data.test_sets[0][0].fps_hz)
