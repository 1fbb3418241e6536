"""What storing a video does to its metrics: FFV1 (lossless) and H.264 against raw frames.

    OMP_NUM_THREADS=1 python benchmarks/video_storage.py CLIPS [--num-clips 6]

CLIPS is a folder of clip folders, e.g. data/sim_seen-XXXXXXXX/clips. The videos are the tiny base
model's own. For each way of storing it prints bytes per video, the largest change of a pixel, and
the largest change of L2 and IoU (embedded tracker) over the clips.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from hydra import compose, initialize_config_dir

from pisa.bench.references import ModelSource, Sampling
from pisa.bench.score import Scored, Scorer
from pisa.data.clip_io import read_clip
from pisa.data.video_files import read_footage
from pisa.launch.targets import instantiate
from pisa.ops.video import from_frames, to_frames, write_lossless, write_mp4
from pisa.perception.embedded_segmentation import EmbeddedTracker
from pisa.types import Batch, collate

WAYS = {"FFV1 (kept by the job)": (write_lossless, "a.mkv"), "H.264, crf 16": (write_mp4, "a.mp4")}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("clips", type=Path)
    parser.add_argument("--num-clips", type=int, default=6)
    parser.add_argument("--num-frames", type=int, default=16, help="what the tiny model makes")
    given = parser.parse_args()
    torch.set_flush_denormal(True)
    configs = Path(__file__).resolve().parents[1] / "configs"
    with initialize_config_dir(str(configs), version_base="1.3"):
        model = instantiate(compose("eval").model)
    source = ModelSource(model, Sampling(num_steps=4, guidance=1.0))
    scorer = Scorer(EmbeddedTracker())
    folders = sorted(p for p in given.clips.iterdir() if p.is_dir())[: given.num_clips]
    changes: dict[str, list[tuple[float, ...]]] = {way: [] for way in WAYS}
    for folder in folders:
        clip = read_clip(folder, num_frames=given.num_frames)
        truth = collate([clip])
        frames = to_frames(source(truth, 0)[0])
        raw = score(scorer, truth, frames, clip.fps_hz)
        for way, (write, name) in WAYS.items():
            with tempfile.TemporaryDirectory() as temporary:
                path = Path(temporary) / name
                write(path, frames, clip.fps_hz)
                size = float(path.stat().st_size)
                stored = read_footage(path, frames.shape[1:3], expected_fps_hz=clip.fps_hz)
            row = score(scorer, truth, stored.frames, stored.fps_hz)
            pixel = float(np.abs(stored.frames.astype(int) - frames).max())
            moved = (abs(row[m] - raw[m]) for m in ("l2", "iou"))
            changes[way].append((size, pixel, *moved))
    print(f"{len(folders)} clips of {frames.shape[0]} frames {frames.shape[2]}x{frames.shape[1]}")
    for way, rows in changes.items():
        sizes, pixels, l2, iou = np.array(rows).T
        print(
            f"{way:24} {sizes.mean() / 1000:8.1f} kB  pixel {pixels.max():5.0f}  "
            f"L2 {l2.max():.6f}  IoU {iou.max():.6f}"
        )


def score(scorer: Scorer, truth: Batch, frames: np.ndarray, fps_hz: float) -> dict[str, float]:
    (result,) = scorer.score(
        truth, from_frames(frames)[None], model="base", split="sim_seen", fps_hz=fps_hz
    )
    assert isinstance(result, Scored)
    return result.row.as_dict()


if __name__ == "__main__":
    main()
