"""Small saved results as the entry points write them, made by the package's own functions."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image

from pisa.data.clip_io import write_clip
from pisa.data.manifest import Manifest, write_manifest
from pisa.ops.drop_ray import DropRay, drop_time_s
from pisa.ops.video import from_frames
from pisa.reports.html import Page, write_report
from pisa.reports.metrics_json import build_metrics, summarise, write_metrics
from pisa.section5 import drop_study, lift3d, ood
from pisa.section5.drop_time import DropTimes, to_frames
from pisa.types import Camera, Clip

PROVENANCE = {
    "commit": "c0ffee00" * 5,
    "config_sha256": "beef" * 16,
    "data_sha256": f"sim_seen:{'1234' * 16} sim_unseen:{'5678' * 16}",
    "seed": 0,
    "versions": {},
}
FPS_HZ, NUM_FRAMES, SIZE = 16.0, 16, 64
CAMERA = Camera((0.0, -1.0, 0.5), SIZE, SIZE)
RANGE_M = (2.0, 18.0)


def study(folder: Path, analysis: str, content: dict[str, Any]) -> Path:
    """``FOLDER/ANALYSIS.json`` around the content (``pisa.launch.section5``)."""
    document = {"schema": 1, "analysis": analysis, "data_set": "test", "ckpt": None, **content}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{analysis}.json"
    path.write_text(json.dumps({**document, "provenance": PROVENANCE}, allow_nan=False))
    return path


def write_drop_time(folder: Path, num_images: int = 5, num_samples: int = 40) -> Path:
    """The truth fits; ``psft`` drops every object half a frame range too early."""
    rng = np.random.default_rng(1)
    fits: dict[str, list[drop_study.ImageFit]] = {"truth": [], "psft": []}
    for i in range(num_images):
        truth = DropTimes(DropRay(0.05 + 0.03 * i, 0.5), RANGE_M)
        for model, shift in (("truth", 0), ("psft", -3)):
            frames = to_frames(truth.sample(num_samples, rng), FPS_HZ, NUM_FRAMES)
            frames = np.where(
                np.arange(num_samples) == 0, NUM_FRAMES, np.maximum(frames + shift, 0)
            )
            fits[model].append(
                drop_study.fit_image(f"00000{i}", frames, truth, FPS_HZ, NUM_FRAMES, seed=i)
            )
    models = {
        model: drop_study.document(drop_study.correct(found), FPS_HZ, NUM_FRAMES)
        for model, found in fits.items()
    }
    return study(folder, "drop_time", {"models": models})


def falling_masks(depth_m: float, slope: float, speed: float = 1.0) -> np.ndarray:
    """Masks of a square whose lower edge falls from the ray at that depth."""
    ray = DropRay(slope, CAMERA.position_m[2])
    end_s = float(drop_time_s(ray.height_m(depth_m)))
    time_s = np.minimum(np.arange(NUM_FRAMES) / FPS_HZ * speed, end_s)
    rows = np.asarray(ray.row_px(time_s, depth_m, CAMERA)).round().astype(int)
    masks = np.zeros((NUM_FRAMES, SIZE, SIZE), dtype=bool)
    for mask, row in zip(masks, rows, strict=True):
        mask[max(0, row - 10) : row, 24:34] = True
    return masks


def write_lift3d(folder: Path) -> Path:
    """Five falls of the truth, and of ``psft`` at 0.8 of the speed."""
    models = {}
    for model, speed in (("truth", 1.0), ("psft", 0.8)):
        lifted = [
            lift3d.lift(falling_masks(z, 0.15, speed), CAMERA, FPS_HZ, RANGE_M)
            for z in (2.5, 3.0, 4.0, 5.0, 6.0)
        ]
        clips = [{"image": f"00000{i}", **lift3d.plain(clip)} for i, clip in enumerate(lifted)]
        models[model] = {"summary": lift3d.summarise(lifted), "clips": clips}
    return study(folder, "lift3d", {"models": models, "depth_range_m": list(RANGE_M)})


def ood_rows(model: str, factor: float) -> list[dict[str, Any]]:
    """One clip in the middle of every cell but the highest and nearest."""
    rows = []
    for depth_m in (1.5, 2.5, 3.5, 4.5):
        for height_m in (0.75, 1.25, 1.75, 2.25):
            if height_m > depth_m + 0.5:
                continue
            inside = depth_m <= 3 and height_m <= 1.5
            value = factor * depth_m * height_m
            rows.append(
                {"model": model, "split": "id" if inside else "ood", "clip": f"{len(rows):06d}"}
                | {"seed": 0, "l2": value, "chamfer": 2 * value, "iou": 0.5 / (1 + value)}
                | {"time_error": value / 2, "depth_m": depth_m, "height_m": height_m}
            )
    return rows


def write_ood(folder: Path) -> Path:
    rows = {model: ood_rows(model, f) for model, f in (("truth", 0.001), ("psft", 0.01))}
    per_clip = [row for part in rows.values() for row in part]
    tables = summarise(per_clip, ood.METRICS, seed=0)
    models = {model: {"table": tables[model], "grid": ood.grid(r)} for model, r in rows.items()}
    return study(folder, "ood", {"models": models, "per_clip": per_clip, "failures": []})


def square_video(speed_px: float, colour: tuple[int, int, int] = (230, 60, 40)) -> dict[str, Any]:
    """Frames and masks of a square that falls until the floor."""
    frames = np.full((NUM_FRAMES, SIZE, SIZE, 3), (150, 160, 170), dtype=np.uint8)
    masks = np.zeros((NUM_FRAMES, SIZE, SIZE), dtype=bool)
    for t in range(NUM_FRAMES):
        top = 4 + min(44, round(speed_px * t))
        masks[t, top : top + 12, 26:38] = True
    frames[masks] = colour
    return {"frames": frames, "mask": masks}


def write_run(
    folder: Path,
    *,
    max_steps: int = 100,
    train_clips: int | None = None,
    pretrained: bool = True,
    level: float = 0.1,
    curve: bool = True,
) -> Path:
    """A finished PSFT run: config.yaml, csv, metrics.json and a report with clips."""
    splits = ("sim_seen", "sim_unseen")
    rows = [
        {"model": model, "split": split, "clip": f"00000{i}", "seed": 0}
        | {"l2": value + 0.01 * i, "chamfer": 2 * value, "iou": 0.5 - value}
        for model, value in (("truth", 0.0), ("base", 0.3), ("psft", level))
        for split in splits
        for i in range(4)
    ]
    metrics = build_metrics(rows, [], protocol="official", provenance=PROVENANCE)
    write_metrics(folder / "metrics.json", metrics)
    models = {"truth": square_video(4), "base": square_video(0.2), "psft": square_video(3)}
    videos = [
        {"clip": f"00000{i}", "split": split, "models": models}
        for split in splits
        for i in range(2)
    ]
    write_report(folder / "report.html", metrics, Page(title="psft", videos=videos))
    data = {} if train_clips is None else {"num_train_clips": train_clips}
    config = {
        "name": "psft",
        "stages": ["psft"],
        "model": {"weights": "tiny_base.safetensors" if pretrained else None, "denoiser": {}},
        "psft": {"max_steps": max_steps, "train": "psft", "data": data},
        "simulation": {"datasets": {"psft": {"num_clips": 1000}}},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    if curve:
        write_log(folder / "csv" / "metrics.csv", level)
    return folder


def write_log(path: Path, level: float) -> None:
    """Validations after 50 and 100 steps, and a loss at every tenth."""
    path.parent.mkdir(parents=True, exist_ok=True)
    keys = [f"pisabench/{s}/{m}" for s in ("sim_seen", "sim_unseen") for m in ("l2", "iou", "l2_n")]
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, ["step", "train/loss", *keys])
        writer.writeheader()
        for step in range(9, 100, 10):
            writer.writerow({"step": step, "train/loss": 1 / (step + 1)})
        for step in (49, 99):
            values = {k: 10 if k.endswith("n") else level + 1 / (step + 1) for k in keys}
            writer.writerow({"step": step, **values})


def write_data_set(folder: Path, num_clips: int = 4) -> Path:
    """Clips of a falling square, the later the faster."""
    for i in range(num_clips):
        shown = square_video(0.5 + i)
        clip = Clip(
            name=f"{i:06d}",
            video=from_frames(shown["frames"]),
            masks=torch.from_numpy(shown["mask"])[None],
            fps_hz=FPS_HZ,
            camera=CAMERA,
            drop_height_m=1.0,
        )
        write_clip(folder / "clips" / clip.name, clip)
    write_manifest(folder, Manifest(tuple(f"{i:06d}" for i in range(num_clips)), "abcd1234"))
    return folder


def write_ambiguous_set(folder: Path, members: int = 4) -> Path:
    """One first frame and falls from several depths, as ``pisa.simulation.ambiguous`` records."""
    slope, ray = 0.12, DropRay(0.12, CAMERA.position_m[2])
    for i, depth_m in enumerate(np.linspace(3.0, 12.0, members).tolist()):
        mask = falling_masks(depth_m, slope)
        frames = np.full((*mask.shape, 3), 120, dtype=np.uint8)
        frames[mask] = (40, 90, 220)
        name = f"{i:06d}"
        masks = torch.from_numpy(mask)[None]
        clip = Clip(name, from_frames(frames), masks, FPS_HZ, camera=CAMERA)
        known = {"kind": "ambiguous", "group": 7, "member": i, "slope": slope, "depth_m": depth_m}
        known |= {"height_m": float(ray.height_m(depth_m)), "depth_range_m": list(RANGE_M)}
        write_clip(folder / "clips" / name, clip, extra={"study": known})
    write_manifest(folder, Manifest(tuple(f"{i:06d}" for i in range(members)), "abcd1234"))
    return folder


def provenance_in_png(path: Path) -> str:
    """The provenance line in the metadata of a saved figure."""
    with Image.open(path) as image:
        return str(image.info.get("Description", ""))
