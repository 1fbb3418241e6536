"""Score a folder of videos on PisaBench, from the command line or from Python.

pisa eval videos DIR --benchmark sim_seen --out OUT    DIR/CLIP.mp4 for each clip of the test set
pisa eval videos DIR --benchmark sim --out OUT         DIR/sim_seen and DIR/sim_unseen

from pisa import evaluate_videos, fetch, track
fetch("real")  # the authors' real clips, into data/real
scores = evaluate_videos("my_videos", benchmark="real")["summary"]
masks = track(video, first_masks)
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from omegaconf import OmegaConf
from torch import Tensor

from pisa.annotate.tracking import WINDOW
from pisa.data.fetch import fetch
from pisa.launch.compose import compose_eval, composed
from pisa.launch.evaluate import evaluate
from pisa.perception.base import Tracker, WindowTracker
from pisa.perception.embedded_segmentation import EmbeddedTracker

__all__ = ["evaluate_videos", "fetch", "track"]
METRICS_FILE = "metrics.json"


def evaluate_videos(
    videos: Path | str,
    benchmark: Path | str = "sim_seen",
    *,
    name: str = "videos",
    output_dir: Path | str | None = None,
    data_dir: Path | str = "data",
    protocol: str = "official",
    overrides: Sequence[str] = (),
) -> dict[str, Any]:
    """Score a folder of videos with PisaBench.

    Args:
        videos: folder with one video (or folder of frames) for each clip, named after the clip.
        benchmark: ``sim_seen`` or ``sim_unseen`` (simulated when missing), ``sim`` (both: their
            videos are in folders of these names), ``real``, or a folder of clips.
        name: of the videos' row.
        output_dir: gets metrics.json and report.html; None: a folder under ``runs/eval``.
        data_dir: where the benchmark's clips are.
        protocol: ``official``, ``paper`` or ``strict``.
        overrides: settings as ``eval.py`` takes them, ``key=value``; they win over the arguments.

    Returns:
        The content of metrics.json (schema 1).

    Raises:
        PisaError: a wrong setting, or videos that could not be scored.
    """
    given = {"source.path": videos, "benchmark": benchmark, "name": name, "data_dir": data_dir}
    given |= {"protocol": protocol} | ({} if output_dir is None else {"output_dir": output_dir})
    cfg = composed("eval", ["source=videos", *overrides])
    overridden = {text.partition("=")[0].lstrip("+") for text in overrides}
    for key in given.keys() - overridden:  # not as overrides, whose grammar paths may break
        OmegaConf.update(cfg, key, str(given[key]))
    run = compose_eval(cfg)
    evaluate(run)
    document: dict[str, Any] = json.loads((run.folder / METRICS_FILE).read_text())
    return document


@torch.no_grad()
def track(
    video: Float[Tensor, "3 t h w"],
    first_masks: Bool[Tensor, "n h w"],
    tracker: Tracker | None = None,
) -> Bool[Tensor, "n t h w"]:
    """Masks of the objects in every frame of a video in [-1, 1].

    ``first_masks`` are those of frame 0. ``tracker`` None is the small one of the tiny scale, for
    64x64 pixels; ``pisa.perception.sam2.SAM2Tracker`` is the paper's.
    """
    tracker = tracker or EmbeddedTracker.from_pretrained()
    if not isinstance(tracker, WindowTracker):
        logits: Tensor = tracker.segment(video[None], first_masks[None])
        return logits[0] > 0
    session = tracker.session(first_masks, video.shape[1])  # keeps no logits of the whole video
    return torch.cat([session.segment(window) > 0 for window in video.split(WINDOW, dim=1)], dim=1)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", choices=["videos"], metavar="videos", help="what is scored")
    parser.add_argument("folder", type=Path, help="NAME.mp4 or NAME/ for each clip NAME")
    parser.add_argument(
        "overrides",
        nargs="*",
        default=[],
        metavar="KEY=VALUE",
        help="as eval.py takes them; they win over options",
    )
    parser.add_argument(
        "--benchmark",
        default="sim_seen",
        help="sim_seen (default), sim_unseen, sim (both), real or DIR",
    )
    parser.add_argument("--name", default="videos", help="of the row in the table")
    parser.add_argument("--out", type=Path, help="default: a folder under runs/eval")
    parser.add_argument("--data-dir", type=Path, default=Path("data"), help="default: data")
    parser.add_argument("--protocol", default="official", help="official (default), paper, strict")


def main(given: argparse.Namespace) -> None:
    evaluate_videos(
        given.folder,
        given.benchmark,
        name=given.name,
        output_dir=given.out,
        data_dir=given.data_dir,
        protocol=given.protocol,
        overrides=given.overrides,
    )
