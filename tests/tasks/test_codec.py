"""The codec's task: the loss falls, and the scale is set when training ends."""

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader

from pisa.models.tiny_codec import TinyCodec
from pisa.tasks.codec import CodecTask
from pisa.types import Clip, collate


def clips(count: int) -> list[Clip]:
    generator = torch.Generator().manual_seed(0)
    made = []
    for i in range(count):
        video = torch.ones(3, 4, 16, 16) * torch.rand(3, 1, 1, 1, generator=generator) * 2 - 1
        masks = torch.zeros(1, 4, 16, 16, dtype=torch.bool)
        for t in range(4):
            masks[0, t, 2 * t + 2 : 2 * t + 6, 4:8] = True
        video[:, masks[0]] = 0.9
        made.append(Clip(f"{i}", video, masks, 16.0))
    return made


def test_the_loss_falls_and_latents_have_unit_scale():
    torch.manual_seed(0)
    task = CodecTask(TinyCodec(latent_channels=4, width=8), lr=5e-3, total_steps=40)
    losses = []
    task.log = lambda name, value, **_: losses.append(float(value))
    trainer = pl.Trainer(
        max_steps=40,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    loader = DataLoader(clips(8), batch_size=4, collate_fn=collate)
    trainer.fit(task, loader)
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])
    latents = task.codec.encode(collate(clips(8)).video)
    assert 0.5 < float(latents[:, :, 0].detach().std()) < 2.0
