"""Does a model keep its objects? The tracked area in the last frame against that in the first.

    python benchmarks/objects_kept.py [WEIGHTS] [--data-set drift_val] [--sheet OUT.png]

Prints the share of clips whose dropping object covers within 20 % of its first area in the last
frame, for the model (without WEIGHTS: the base) and for the true clips through the same tracker.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from torchvision.io import write_png
from torchvision.utils import make_grid

from pisa.bench.references import ModelSource, Sampling, true_video
from pisa.bench.score import track_dropping
from pisa.launch.compose import compose_eval
from pisa.launch.runs import build_data, build_model, build_tracker, denoiser_file
from pisa.ops.devices import precision_of
from pisa.types import Batch

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
WITHIN = 0.2
SHOWN_FRAMES = 8


def kept(masks: torch.Tensor) -> float:
    """Share of the clips [b, t, h, w] whose area in the last frame is within 20 % of the first."""
    area = masks.flatten(2).sum(dim=2).float()
    return float(((area[:, -1] / area[:, 0].clamp(min=1) - 1).abs() <= WITHIN).float().mean())


def sheet(batch: Batch, made: torch.Tensor, clips: int = 12) -> torch.Tensor:
    """Rows of a clip: truth, then the model; the first clips of the set."""
    frames = torch.linspace(0, made.shape[2] - 1, SHOWN_FRAMES).round().long()
    rows = [v[:, t] for i in range(clips) for v in (batch.video[i], made[i]) for t in frames]
    grid = make_grid(torch.stack(rows) / 2 + 0.5, nrow=2 * SHOWN_FRAMES, padding=1)
    return (grid.repeat_interleave(2, 1).repeat_interleave(2, 2) * 255).byte()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path, nargs="?")
    parser.add_argument("--data-set", default="drift_val")
    parser.add_argument("--caption", default="a video of an object moving")
    parser.add_argument("--data-dir", default="data")
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--overrides", nargs="*", default=[])
    given = parser.parse_args()
    with initialize_config_dir(str(CONFIGS), version_base=None):
        cfg = compose("eval", [f"data_dir={given.data_dir}", *given.overrides])
    run = compose_eval(cfg)
    data = build_data(run.data, run.sets, sim_seen=given.data_set, batch_size=10**6)
    data.prepare_data()
    data.setup("validate")
    batch = next(iter(data.val_dataloader()[0]))
    weights = None if given.weights is None else denoiser_file(str(given.weights))
    model = build_model(run.model, weights).eval()
    steps, guidance = run.evaluation.num_steps, run.evaluation.guidance
    source = ModelSource(model, Sampling(num_steps=steps, guidance=guidance, caption=given.caption))
    tracker = build_tracker(run.tracker, torch.device("cpu"))
    with torch.autocast("cpu", torch.bfloat16, enabled=precision_of("auto").startswith("bf16")):
        made = source(batch, 0).float()
    shares = {
        name: kept(track_dropping(video, batch, tracker))
        for name, video in (("model", made), ("truth", true_video(batch, 0)))
    }
    print(json.dumps({"data_set": given.data_set, "clips": len(batch), **shares}))
    if given.sheet is not None:
        write_png(sheet(batch, made), str(given.sheet))


if __name__ == "__main__":
    main()
