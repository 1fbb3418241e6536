"""PSFT: the loss falls, the given frame carries none, a resume repeats, checkpoints stay lean."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from pisa.callbacks.ema import EMA
from pisa.diffusion.noise_levels import uniform_noise_level
from pisa.diffusion.path import velocity_loss
from pisa.errors import PisaError
from pisa.ops.seeding import generator_of
from pisa.tasks.latents import LatentEncoder, object_coverage
from pisa.tasks.psft import PSFT
from pisa.tasks.rectified_flow import RectifiedFlowLoss, drop_captions
from pisa.tasks.weights import codec_metadata, load_denoiser, load_weights, save_denoiser
from pisa.types import Condition
from tests.tasks.toy import ToyData, falling_batch, make_trainer, toy_model

TINY = Path(__file__).parents[2] / "configs" / "model" / "tiny.yaml"


def fit(task, steps, ckpt=None, callbacks=(), **data):
    trainer = make_trainer(Path("."), steps, *callbacks, logger=False)
    trainer.fit(task, ToyData(**data), ckpt_path=ckpt, weights_only=ckpt and True)
    return trainer


def evaluate(task, batch):
    generator = generator_of(0, "held out")
    loss = RectifiedFlowLoss(task.model, uniform_noise_level)
    condition = task.model.encode_captions(batch.captions)
    with torch.no_grad():
        return loss(batch, task.model.encode(batch.video), condition, generator).mean().item()


def test_loss_falls_in_30_steps():
    task = PSFT(toy_model(), lr=1e-2)
    before = evaluate(task, falling_batch(8))
    fit(task, 30)
    assert evaluate(task, falling_batch(8)) < 0.8 * before


def test_first_latent_frame_carries_no_loss():
    model, batch = toy_model(), falling_batch(2)
    latents = model.encode(batch.video)
    condition = model.encode_captions(batch.captions)
    predictions = []

    def velocity(x, level, condition, clean, *, fps_hz):
        assert torch.equal(x[:, :, 0], latents[:, :, 0])
        assert not torch.equal(x[:, :, 1:], latents[:, :, 1:])
        assert clean[:, 0].all() and not clean[:, 1:].any()
        predictions.append(torch.zeros_like(x, requires_grad=True))
        return predictions[-1]

    model.velocity = velocity
    RectifiedFlowLoss(model, uniform_noise_level)(
        batch, latents, condition, generator_of(1)
    ).sum().backward()
    gradient = predictions[0].grad
    assert gradient[:, :, 0].abs().max() == 0
    assert gradient[:, :, 1:].abs().min() > 0


def test_unit_object_weight_is_the_plain_velocity_loss_and_more_raises_covered_error():
    model, batch = toy_model(), falling_batch(2)
    latents = model.encode(batch.video)
    condition = model.encode_captions(batch.captions)
    covered = object_coverage(batch.masks, tuple(latents.shape[2:]))

    def loss(weight):
        terms = RectifiedFlowLoss(model, uniform_noise_level, 0.0, weight)
        return terms(batch, latents, condition, generator_of(3))

    seen = {}

    def velocity(x, level, condition, clean, *, fps_hz):
        generator = generator_of(3)
        uniform_noise_level(2, generator)
        noise = torch.randn(latents.shape, generator=generator)
        predicted = noise - latents + 1.0 * covered  # wrong only where objects are
        seen["plain"] = velocity_loss(predicted, noise - latents, clean)
        return predicted

    model.velocity = velocity
    torch.testing.assert_close(loss(1.0), seen["plain"])
    assert (loss(4.0) > loss(1.0)).all()
    assert 0 < covered[:, :, 1:].float().mean() < 0.5


def test_the_region_below_depends_on_the_first_frame_and_holds_every_fall():
    model, batch = toy_model(), falling_batch(2)
    latents = model.encode(batch.video)
    covered = object_coverage(batch.masks, tuple(latents.shape[2:]))
    terms = RectifiedFlowLoss(model, uniform_noise_level, 0.0, 3.0, "below")
    weight = terms.weight(batch, latents)
    other = replace(batch, masks=batch.masks.clone())
    other.masks[:, :, 1:] = False  # another outcome of the same first frame
    assert torch.equal(terms.weight(other, latents), weight)
    assert (weight[covered] == 3).all()
    assert (weight == 1).any()
    with pytest.raises(PisaError, match="covered, below, not"):
        RectifiedFlowLoss(model, uniform_noise_level, object_region="beside")


def test_first_frame_alone_replaces_the_first_latent():
    model, batch = toy_model(), falling_batch(1)
    model.encode_first_frame = lambda frame: torch.full((1, 3, 1, 4, 4), 7.0)
    latents = LatentEncoder(model, "alone", cache=False)(batch)
    assert (latents[:, :, 0] == 7).all()
    assert torch.equal(latents[:, :, 1:], model.encode(batch.video)[:, :, 1:])


def test_latent_cache_encodes_each_clip_once():
    model = toy_model()
    fit(PSFT(model, lr=1e-3, latent_cache=True), 15, num_clips=7)
    assert model.num_encoded == 7


def test_latent_cache_tells_a_mirrored_clip_from_its_original():
    model, batch = toy_model(), falling_batch(1)
    encode = LatentEncoder(model, "clip", cache=True)
    mirrored = replace(batch, video=batch.video.flip(-1))
    assert torch.equal(encode(mirrored), encode(batch).flip(-1))
    assert not torch.equal(encode(mirrored), encode(batch))


def test_caption_dropout_puts_the_null_prompt_in_the_dropped_rows():
    model = toy_model()
    condition, null = model.encode_captions(["abc", "abcd"]), model.null_condition(2)
    mixed = drop_captions(condition, null, torch.tensor([False, True]))
    assert torch.equal(mixed.embedding[0], condition.embedding[0])
    assert torch.equal(mixed.embedding[1], null.embedding[1])
    fit(PSFT(model, lr=1e-4, caption_dropout=0.5), 30)
    rows = torch.cat(model.condition_rows)
    assert 0.25 < (rows == 0).float().mean() < 0.75


def test_a_null_prompt_with_an_empty_mask_takes_that_of_its_caption():
    """As Open-Sora trains: the adapter's null prompt has an empty mask."""
    embedding = torch.ones(2, 3, 4)
    caption = Condition(embedding, torch.tensor([[True, True, False], [True, False, False]]))
    null = Condition(0 * embedding, torch.zeros(2, 3, dtype=torch.bool))
    mixed = drop_captions(caption, null, torch.tensor([True, False]))
    assert torch.equal(mixed.mask, caption.mask)
    assert mixed.embedding.sum(dim=(1, 2)).tolist() == [0, 12]


def test_resume_equals_the_uninterrupted_run(tmp_path):
    def run(steps, ckpt=None):
        task = PSFT(toy_model(), lr=1e-2, warmup_steps=3, decay_steps=20)
        return fit(task, steps, ckpt, callbacks=[EMA(0.9)], num_clips=7)  # stops in mid-epoch

    straight, half = run(10), run(5)
    half.save_checkpoint(tmp_path / "half.ckpt")
    resumed = run(10, tmp_path / "half.ckpt")
    assert resumed.global_step == 10
    straight.save_checkpoint(tmp_path / "a.ckpt")
    resumed.save_checkpoint(tmp_path / "b.ckpt")
    a = torch.load(tmp_path / "a.ckpt", weights_only=True)
    b = torch.load(tmp_path / "b.ckpt", weights_only=True)
    for part in ("state_dict", "ema_denoiser"):
        assert all(torch.equal(a[part][k], b[part][k]) for k in a[part])
    states = [c["optimizer_states"][0]["state"] for c in (a, b)]
    assert all(
        torch.equal(states[0][i][k], states[1][i][k]) for i in states[0] for k in states[0][i]
    )
    assert a["lr_schedulers"] == b["lr_schedulers"]
    assert a["gradient_guard"] == b["gradient_guard"]


def test_checkpoint_holds_the_denoiser_only_and_refuses_another_model(tmp_path):
    path = tmp_path / "last.ckpt"
    fit(PSFT(toy_model(), lr=1e-3), 2).save_checkpoint(path)
    keys = torch.load(path, weights_only=True)["state_dict"].keys()
    assert {key.split(".")[0] for key in keys} == {"denoiser"}
    with pytest.raises(PisaError, match="another model: tensors 7 of another shape"):
        fit(PSFT(toy_model(width=5), lr=1e-3), 3, ckpt=path)


def test_load_denoiser_takes_the_average_and_explains_a_bad_file(tmp_path):
    path = tmp_path / "last.ckpt"
    ema = EMA(0.5)
    fit(PSFT(toy_model(), lr=1e-2), 3, callbacks=[ema]).save_checkpoint(path)
    model = toy_model(1)
    assert load_denoiser(model.denoiser, path) == {"step": "3"}
    average = torch.load(path, weights_only=True)["ema_denoiser"]
    assert torch.equal(model.denoiser.enter.weight, average["enter.weight"])
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"no")
    with pytest.raises(PisaError, match="cannot read weights"):
        load_denoiser(model.denoiser, broken)
    with pytest.raises(PisaError, match="not found"):
        load_denoiser(model.denoiser, tmp_path / "none.ckpt")


def test_frozen_parameters_of_the_denoiser_stay():
    model = toy_model()
    model.denoiser.text.requires_grad_(False)
    before = model.denoiser.text.weight.clone()
    trainer = fit(PSFT(model, lr=1e-2, weight_decay=0.1), 3)
    assert torch.equal(model.denoiser.text.weight, before)
    assert len(trainer.optimizers[0].param_groups[0]["params"]) == 6


def test_weights_over_another_codec_are_refused(tmp_path, monkeypatch):
    """Latents of two codecs mean different things; the file names the codec it was trained over."""
    model, other = (instantiate(OmegaConf.load(TINY), weights=None).eval() for _ in range(2))
    monkeypatch.setattr(other, "codec_fingerprint", lambda: "another")
    path = save_denoiser(
        tmp_path / "weights.safetensors", model.denoiser.state_dict(), codec_metadata(model)
    )
    load_weights(model, path)
    with pytest.raises(PisaError, match=r"weights\.safetensors was trained over .* another codec"):
        load_weights(other, path)
    save_denoiser(path, model.denoiser.state_dict(), {})
    load_weights(other, path)  # released weights name none
    for name, value in model.denoiser.state_dict().items():
        assert torch.equal(value, other.denoiser.state_dict()[name])
