"""Which picture space should the tiny model denoise? Equal core-minutes for each candidate.

    python benchmarks/codec_or_pixels.py ceiling CANDIDATE --codec CODEC.safetensors
    python benchmarks/codec_or_pixels.py train CANDIDATE --minutes 15 --out OUT [--codec ...]
    python benchmarks/codec_or_pixels.py score CANDIDATE --out OUT [--codec ...]

`ceiling` sends the true clips of the validation sets through a codec and scores them; `train`
trains a denoiser from random weights on falling clips (data set `psft`) for so many minutes of
one core, and `score` scores what it generates on val_seen and val_unseen. Test sets are never read.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from safetensors.torch import load_file, save_file

from pisa.callbacks.evaluation import ModelSource, frozen_video, score_masks, track_dropping
from pisa.data.simulated import SimulatedDataModule
from pisa.diffusion.noise_levels import logit_normal_noise_level
from pisa.models.tiny import TinyVideoModel, load_part
from pisa.models.tiny_codec import TinyCodec
from pisa.models.tiny_denoiser import TinyDenoiser
from pisa.models.tiny_pixels import PixelDenoiser, TinyPixelModel
from pisa.models.tiny_text import WordHashEncoder
from pisa.perception.embedded_segmentation import EmbeddedTracker
from pisa.tasks.codec import centroid_flow
from pisa.tasks.optim import adamw, warmup_cosine
from pisa.tasks.rectified_flow import RectifiedFlowLoss
from pisa.types import Batch

CAPTION = "a video of an object dropping"
CODECS = {  # latents of all candidates: 256 tokens a clip, one per frame and 16 x 16 pixels
    "old": {},  # frame 0 coded too, stride 4
    "motion4": {"latent_channels": 48, "motion_channels": 6},
    "motion2": {"latent_channels": 12, "motion_channels": 6, "stride": 2},
    "frames4": {"latent_channels": 48, "motion_channels": 12, "moves": False},
    "frames2": {"latent_channels": 12, "motion_channels": 6, "stride": 2, "moves": False},
}
PIXELS = {
    "pixels": {"moves": False},
    "pixels_moved": {"moves": True},
    "pixels_moved_helped": {"moves": True},
}


def load_clips(root: Path, name: str, count: int | None = None) -> Batch:
    """A data set of `root` as one batch of its first 16 frames."""
    folder = next(p for p in sorted(root.glob(f"{name}-*")) if (p / "manifest.json").exists())
    data = SimulatedDataModule(
        root, train=folder.name, sim_seen=folder.name, sim_unseen=folder.name,
        num_frames=16, batch_size=10**6, num_eval_clips=count,
    )  # fmt: skip
    data.setup("validate")
    return next(iter(data.val_dataloader()[0]))


def rows(batch: Batch, index: torch.Tensor, flip: bool = False) -> Batch:
    """Some clips of a batch, perhaps mirrored."""
    video, masks = batch.video[index], batch.masks[index]
    if flip:
        video, masks = video.flip(-1), masks.flip(-1)
    names = tuple(batch.names[i] for i in index.tolist())
    captions = tuple(batch.captions[i] for i in index.tolist())
    height = batch.drop_height_m[index]
    return replace(
        batch, names=names, video=video, masks=masks, captions=captions, drop_height_m=height
    )


def build(candidate: str, shift: float, codec: Path | None, width: int = 256, depth: int = 8):
    size = {"width": width, "depth": depth}
    text = WordHashEncoder(64, 8)
    if candidate in PIXELS:
        return TinyPixelModel(PixelDenoiser(**PIXELS[candidate], **size), text, shift=shift)
    network = TinyCodec(**CODECS[candidate])
    size |= {"latent_channels": network.latent_channels, "latent_size": 64 // network.stride}
    denoiser = TinyDenoiser(**size, patch=16 // network.stride)
    model = TinyVideoModel(network, denoiser, text, shift=shift)
    if codec is not None:
        model.codec.load_state_dict(load_file(codec))
    return model


def score(videos: torch.Tensor, batch: Batch, tracker: EmbeddedTracker) -> dict[str, float]:
    """Means over the clips, and the tracked area in the last frame as a share of the first."""
    found = track_dropping(videos, batch, tracker)
    table = score_masks(found, batch)
    means = {}
    for key in ("l2", "chamfer", "iou"):
        values = [row[key] for row in table if math.isfinite(row[key])]
        means[key] = sum(values) / len(values)
    area = found[:, -1].sum(dim=(1, 2)) / found[:, 0].sum(dim=(1, 2)).clamp(min=1)
    truth = batch.masks[:, -1, -1].sum(dim=(1, 2)) / batch.masks[:, -1, 0].sum(dim=(1, 2)).clamp(1)
    means["area_kept"] = float(((area - truth).abs() < 0.2).float().mean())
    objects = batch.masks.any(dim=1) | batch.masks[:, :, :1].any(dim=1)
    error = (videos.clamp(-1, 1) - batch.video).square().mean(dim=1)
    means["psnr_object"] = float(10 * torch.log10(4 / error[objects].mean()))
    return means


def evaluate(source, root: Path, tracker: EmbeddedTracker) -> dict[str, dict[str, float]]:
    return {
        name: score(source(batch, 0), batch, tracker) | {"clips": len(batch)}
        for name in ("val_seen", "val_unseen")
        for batch in [load_clips(root, name)]
    }


def train(arguments: argparse.Namespace) -> None:
    torch.manual_seed(arguments.seed)
    torch.set_num_threads(1)
    model = build(
        arguments.candidate, arguments.shift, arguments.codec, arguments.width, arguments.depth
    )
    clips = load_clips(arguments.data, arguments.train, arguments.clips)
    latents = None
    if arguments.candidate not in PIXELS:
        with torch.no_grad():
            latents = [
                torch.cat([model.encode(part) for part in video.split(16)])
                for video in (clips.video, clips.video.flip(-1))
            ]
    condition = model.encode_captions([CAPTION] * arguments.batch)
    loss_of = RectifiedFlowLoss(model, logit_normal_noise_level, 0.0, object_weight=5.0)
    optimizer = adamw(model.denoiser, arguments.lr, weight_decay=0.0)
    schedule = warmup_cosine(optimizer, 20, arguments.steps)
    begin, step, curve = time.process_time(), 0, []
    while step < arguments.steps:
        generator = torch.Generator().manual_seed(arguments.seed * 10**6 + step)
        index = torch.randint(len(clips), (arguments.batch,), generator=generator)
        flip = bool(torch.rand((), generator=generator) < 0.5)
        batch = rows(clips, index, flip)
        with torch.autocast("cpu", torch.bfloat16):
            z = model.encode(batch.video) if latents is None else latents[int(flip)][index]
            loss = loss_of(batch, z, condition, generator).mean()
        total = loss
        if arguments.candidate == "pixels_moved_helped":
            total = loss + arguments.help * flow_help(model, batch, z, condition, generator)
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.denoiser.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        step += 1
        curve.append(float(loss.detach()))
        if step == 20:  # as many steps as fit into the minutes
            per_step = (time.process_time() - begin) / 20
            arguments.steps = int(arguments.minutes * 60 / per_step)
            schedule = warmup_cosine(optimizer, 0, arguments.steps)
            for group in optimizer.param_groups:
                group["lr"] = arguments.lr
            print(f"{per_step:.2f} s a step, {arguments.steps} steps", flush=True)
        if step % 50 == 0:
            minutes = (time.process_time() - begin) / 60
            print(f"step {step} loss {sum(curve[-50:]) / 50:.4f} {minutes:.1f} min", flush=True)
    minutes = (time.process_time() - begin) / 60
    result = {"candidate": arguments.candidate, "minutes": minutes, "steps": step}
    result |= {"seed": arguments.seed, "shift": arguments.shift, "loss": sum(curve[-50:]) / 50}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    save_file(
        {f"denoiser.{k}": v for k, v in model.denoiser.state_dict().items()},
        arguments.out.with_suffix(".safetensors"),
    )
    arguments.out.write_text(json.dumps(result, indent=1))
    print(json.dumps(result), flush=True)


def score_trained(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    model = build(
        arguments.candidate, arguments.shift, arguments.codec, arguments.width, arguments.depth
    )
    load_part(model.denoiser, "denoiser", arguments.out.with_suffix(".safetensors"))
    model.eval()
    source = ModelSource(model, arguments.sample_steps, guidance=1.0, caption=CAPTION)
    tracker = EmbeddedTracker.from_pretrained(arguments.tracker)
    with torch.autocast("cpu", torch.bfloat16):
        scores = evaluate(source, arguments.data, tracker)
    print(arguments.out.stem, json.dumps(scores), flush=True)


def flow_help(model, batch: Batch, z, condition, generator) -> torch.Tensor:
    """Error of the predicted displacement against that of the objects' centroids."""
    level = torch.rand(len(batch), generator=generator)
    noise = torch.randn(z.shape, generator=generator)
    x = torch.lerp(z, noise, level[:, None, None, None, None])
    x = torch.cat([z[:, :, :1], x[:, :, 1:]], dim=2)
    with torch.autocast("cpu", torch.bfloat16):
        _, flow = model.denoiser.parts(x, level, condition.embedding, condition.mask)
    frames = torch.arange(batch.video.shape[2])
    truth, known = centroid_flow(batch.masks, frames, 0)
    found = rearrange(flow, "b c t h w -> (b t) c h w")
    error = F.smooth_l1_loss(found, truth, reduction="none").mean(dim=1)
    return (error * known).sum() / known.sum().clamp(min=1)


def ceiling(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    tracker = EmbeddedTracker.from_pretrained(arguments.tracker)
    sources = {"truth": lambda batch, seed: batch.video, "frozen": frozen_video}
    if arguments.codec is not None:
        model = build(arguments.candidate, 1.0, arguments.codec)

        @torch.no_grad()
        def through(batch: Batch, seed: int) -> torch.Tensor:
            return model.decode(model.encode(batch.video), batch.video.shape[2])

        sources = {arguments.candidate: through}
    for name, source in sources.items():
        print(name, json.dumps(evaluate(source, arguments.data, tracker)), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["ceiling", "train", "score"])
    parser.add_argument("candidate", nargs="?", default="old", choices=[*CODECS, *PIXELS])
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--train", default="psft")
    parser.add_argument("--clips", type=int, default=None)
    parser.add_argument("--codec", type=Path, default=None)
    parser.add_argument("--tracker", type=Path, default=None)
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=10**6)
    parser.add_argument("--sample-steps", type=int, default=4)
    parser.add_argument("--shift", type=float, default=3.0)
    parser.add_argument("--help-weight", dest="help", type=float, default=0.02)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--depth", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    {"ceiling": ceiling, "train": train, "score": score_trained}[arguments.what](arguments)


if __name__ == "__main__":
    main()
