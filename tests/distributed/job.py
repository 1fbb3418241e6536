"""PSFT of the tiny Open-Sora model, alone or as one of several processes of torchrun.

`start` is the work of one of two processes; rank 0 writes what it holds at the end of a DDP, a
sharded, and a resumed sharded run. The test calls `run` for the same in one process.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from hydra.utils import instantiate
from lightning.pytorch.strategies import DDPStrategy
from omegaconf import OmegaConf

from pisa.bench.references import ModelSource, Sampling
from pisa.callbacks.checkpoints import ExportWeights
from pisa.callbacks.ema import EMA
from pisa.io.lightning_internals import AtomicCheckpointIO
from pisa.models.tiny import TinyVideoModel
from pisa.models.tiny_denoiser import TinyDenoiser
from pisa.models.tiny_text import WordHashEncoder
from pisa.tasks.psft import PSFT
from pisa.tasks.sharding import ShardedStrategy, whole_tensor
from tests.tasks.toy import ToyData, make_trainer

CONFIGS = Path(__file__).parents[2] / "configs"
CLIPS, GLOBAL_BATCH, STEPS = 12, 4, 6  # two epochs
TINY_RUN = {"max_steps": 4, "dropout": 0.2, "seed": 36}  # drops captions on rank 0, 0, 1, none


def tiny_opensora() -> Any:
    torch.manual_seed(0)
    model = instantiate(OmegaConf.load(CONFIGS / "model" / "opensora_tiny.yaml"))
    torch.nn.init.normal_(model.denoiser.final_layer.linear.weight, std=0.05)
    return model


def tiny_model() -> Any:
    """The tiny base model, smaller, for the toy clips; its null prompt is trained."""
    torch.manual_seed(0)
    sizes = {"num_frames": 6, "size_px": 16, "patch": 8, "width": 16, "depth": 2, "num_heads": 2}
    captions = {"caption_channels": 8, "caption_length": 4}
    denoiser = TinyDenoiser(**sizes, **captions)
    for parameter in (denoiser.colour.weight, denoiser.null_caption):
        torch.nn.init.normal_(parameter, std=0.3)
    return TinyVideoModel(denoiser, WordHashEncoder(8, 4))


class Recorder(pl.Callback):
    """Names of the clips of each step, and the reduced gradients before clipping."""

    def __init__(self) -> None:
        self.seen: list[list[str]] = []
        self.gradients: list[dict[str, torch.Tensor]] = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.seen.append(list(batch.names))

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.gradients.append(
            {
                name: whole_tensor(p.grad).clone()
                for name, p in pl_module.denoiser.named_parameters()
                if p.grad is not None
            }
        )


class GenerateOnRankZero(pl.Callback):
    """As `SampleVideos`: one rank runs the network, the others don't. Sharding must not hang."""

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, which=0):
        if trainer.is_global_zero:
            source = ModelSource(pl_module.model, Sampling(num_steps=1, guidance=1.0))
            assert source(batch, seed=0).isfinite().all()


def run(folder: Path, strategy: Any, world_size: int = 1, **options: Any) -> Recorder:
    """Train; leaves `weights.safetensors` (the average), `last.ckpt` and `half.ckpt` in folder."""
    recorder, steps = Recorder(), options.pop("max_steps", STEPS)
    model, dropout = options.pop("model", None) or tiny_opensora(), options.pop("dropout", 0.3)
    seed = options.pop("seed", 0)
    resume, accumulate = options.pop("resume", None), options.get("accumulate_grad_batches", 1)
    trainer = make_trainer(
        folder,
        steps,
        recorder,
        EMA(0.8),
        GenerateOnRankZero(),
        ExportWeights(folder / "weights.safetensors"),
        logger=False,
        strategy=strategy,
        devices=world_size,
        plugins=[AtomicCheckpointIO()],
        **options,
    )
    # Three clips in batches of two: rank 0 has one clip more to validate.
    data = ToyData(CLIPS, GLOBAL_BATCH // world_size // accumulate, loaders=1)
    task = PSFT(model, lr=1e-2, eps=1e-2, caption_dropout=dropout, seed=seed)
    trainer.fit(task, data, ckpt_path=resume, weights_only=True)
    trainer.save_checkpoint(folder / "last.ckpt")
    return recorder


def start(out: Path, environment: dict[str, str]) -> None:
    os.environ |= environment
    ddp = DDPStrategy(process_group_backend="gloo", find_unused_parameters=True)
    recorded = {"ddp": run(out / "ddp", ddp, 2)}
    recorded["sharded"] = run(out / "sharded", ShardedStrategy(), 2)
    run(out / "half", ShardedStrategy(), 2, max_steps=3)
    resume = out / "half" / "last.ckpt"
    recorded["resumed"] = run(out / "resumed", ShardedStrategy(), 2, resume=resume)
    recorded["tiny"] = run(out / "tiny", ShardedStrategy(), 2, **TINY_RUN, model=tiny_model())
    bfloat16 = ShardedStrategy(param_dtype="bfloat16")
    recorded["bfloat16"] = run(out / "bfloat16", bfloat16, 2, max_steps=1)
    rank = torch.distributed.get_rank()
    for name, recorder in recorded.items():
        (out / name / f"seen_{rank}.json").write_text(json.dumps(recorder.seen))
        if rank == 0:
            torch.save(recorder.gradients, out / name / "gradients.pt")
