"""The codec's task: the loss falls, and the scale is set when training ends."""

import lightning.pytorch as pl
import torch
from safetensors.torch import save_file
from torch.utils.data import DataLoader

from pisa.models.tiny_codec import TinyCodec
from pisa.tasks.codec import CodecTask, centroid_flow
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
    codec = TinyCodec(latent_channels=4, motion_channels=3, width=8)
    task = CodecTask(codec, lr=5e-3, total_steps=40, frames_per_clip=2)
    losses = []
    task.log = lambda name, value, **_: losses.append(float(value))
    task.log_dict = lambda values, **_: None
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


def test_training_goes_on_from_given_weights(tmp_path):
    torch.manual_seed(0)
    trained = TinyCodec(latent_channels=4, motion_channels=3, width=8)
    save_file(
        {f"codec.{k}": v for k, v in trained.state_dict().items()}, tmp_path / "c.safetensors"
    )
    codec = TinyCodec(latent_channels=4, motion_channels=3, width=8)
    task = CodecTask(codec, start=tmp_path / "c.safetensors")
    task.on_train_start()  # must not fit the patches anew
    for name, value in trained.state_dict().items():
        assert torch.equal(codec.state_dict()[name], value), name


def test_motion_may_get_more_noise_than_the_picture():
    quiet, loud = (_decoded_motion(noise) for noise in (None, 5.0))
    assert quiet["still_loss"] == loud["still_loss"]
    assert quiet["motion_loss"] != loud["motion_loss"]


def _decoded_motion(noise: float | None) -> dict[str, float]:
    torch.manual_seed(0)
    task = CodecTask(TinyCodec(latent_channels=4, motion_channels=3, width=8), motion_noise=noise)
    torch.nn.init.normal_(task.codec.motion.compose[-1].weight, std=0.2)  # so that latents matter
    losses: dict[str, float] = {}
    task.log = lambda *_, **__: None
    task.log_dict = lambda values, **_: losses.update(
        {k.removeprefix("train/"): float(v) for k, v in values.items()}
    )
    task.trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    task.training_step(collate(clips(4)), 0)
    return losses


def test_centroid_flow_points_back_to_the_reference_frame():
    batch = collate(clips(2))
    flow, known = centroid_flow(batch.masks, torch.tensor([3, 1]), 0)
    assert flow.shape == (4, 2, 16, 16) and known.shape == (4, 16, 16)
    on_object = flow[0, :, batch.masks[0, 0, 3]]
    assert torch.allclose(on_object, torch.tensor([0.0, -6.0])[:, None].expand_as(on_object))
    assert (known[0] == batch.masks[0, 0, 3]).all()


def test_centroid_flow_knows_nothing_of_an_object_that_one_frame_hides():
    masks = collate(clips(1)).masks
    masks[:, :, 0] = False
    assert centroid_flow(masks, torch.tensor([2]), 0)[1].sum() == 0
