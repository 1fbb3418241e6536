"""``eval.py experiment=ood``: section 5.1 of the paper for one checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from einops import rearrange
from omegaconf import DictConfig

from pisa.bench.score import (
    ClipResult,
    VideoSource,
    evaluate_model,
    frozen_video,
    true_video,
)
from pisa.io.progress import clip_progress
from pisa.launch.compose import public_yaml
from pisa.launch.model_videos import FiniteVideos
from pisa.launch.outcome import provenance_of, publish
from pisa.launch.study_clips import (
    StudyClip,
    data_hash,
    model_and_tracker,
    row_name,
    study_clips,
    write_study,
)
from pisa.ops.devices import pick_device
from pisa.perception.base import Tracker
from pisa.reports.metrics_json import build_metrics
from pisa.reports.schema import KEYS
from pisa.section5 import ood
from pisa.types import collate


def run_ood(
    cfg: DictConfig,
    folder: Path,
    *,
    data_set: str,
    num_clips: int | None,
    row: str = "checkpoint",
) -> None:
    """Table 2 (splits ``id`` and ``ood``), and the same by depth and height in ``ood.json``.

    ``row`` is what configs/eval.yaml takes for ``name``. Raises ``IncompleteError`` as
    ``publish`` does.
    """
    source, tracker = model_and_tracker(cfg)
    items = study_clips(cfg, data_set, "ood", num_clips)
    model = row_name(cfg)
    sources: dict[str, VideoSource] = {"truth": true_video, "frozen": frozen_video, model: source}
    run = OodRun(cfg, items, tracker)
    with clip_progress() as progress:
        for name, videos in sources.items():
            task = progress.add_task(f"scoring {name}", total=len(items))
            for _ in run.score(name, videos):
                progress.advance(task)
    models = {
        name: {"table": ood.table(rows, cfg.evaluation.seed), "grid": ood.grid(rows)}
        for name in sources
        if (rows := [r for r in run.rows if r["model"] == name])
    }
    content = {"models": models, "per_clip": run.rows, "failures": run.failures}
    path = write_study(cfg, folder, "ood", data_set, content)
    print(f"results: {path}")
    metrics = build_metrics(
        run.rows,
        run.failures,
        protocol=cfg.evaluation.protocol,
        provenance=provenance_of(cfg, data_hash(cfg, data_set)),
    )
    publish(
        metrics,
        folder,
        model=model,
        allow_missing=bool(cfg.allow_missing),
        title=f"In and out of distribution: {model}",
        videos=run.videos,
        config_text=public_yaml(cfg),
        fps_hz=items[0].clip.fps_hz,
    )


class OodRun:
    """Rows, failures and shown videos of the models that are scored one after another."""

    def __init__(self, cfg: DictConfig, items: Sequence[StudyClip], tracker: Tracker) -> None:
        self.settings, self.tracker = cfg.evaluation, tracker
        self.studies = {item.clip.name: item.study for item in items}
        size = self.settings.batch_size
        groups = [items[i : i + size] for i in range(0, len(items), size)]
        self.batches = [collate([item.clip for item in group]) for group in groups]
        self.rows: list[dict[str, Any]] = []
        self.failures: list[dict[str, Any]] = []
        self._shown: dict[tuple[str, str], dict[str, Any]] = {}

    def score(self, model: str, videos: VideoSource) -> Iterator[str]:
        """Score one model; yields the name of each clip that is done."""
        checked = FiniteVideos(videos)
        for result in evaluate_model(
            checked,
            self.batches,
            self.tracker,
            model=model,
            split="ood",
            seed=self.settings.seed,
            protocol=self.settings.protocol,
            device=pick_device(self.settings.device),
        ):
            self._keep(result, result.row["clip"] in checked.broken)
            yield result.row["clip"]

    @property
    def videos(self) -> list[dict[str, Any]]:
        """What the report shows."""
        return [{"split": s, "clip": c, "models": m} for (s, c), m in self._shown.items()]

    def _keep(self, result: ClipResult, broken: bool) -> None:
        study = self.studies[result.row["clip"]]
        place = {"depth_m": study["depth_m"], "height_m": study["height_m"]}
        row = {**result.row, "split": ood.label_of(study), **place}
        if broken:
            key = {name: row[name] for name in KEYS}
            self.failures.append({**key, "reason": "the generated video holds NaN or infinity"})
            return
        self.rows.append(row)
        frames = rearrange(result.video, "c t h w -> t h w c").numpy()
        shown = {"frames": frames, "mask": result.mask.numpy()}
        self._shown.setdefault((row["split"], row["clip"]), {})[row["model"]] = shown
