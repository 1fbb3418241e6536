"""The tiny base model: shapes, conventions, weights files."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pisa.diffusion.samplers import Euler
from pisa.errors import PisaError
from pisa.models.generate import generate
from pisa.models.pack import pack
from pisa.models.tiny import TinyVideoModel
from pisa.models.tiny_denoiser import TinyDenoiser
from pisa.models.tiny_text import WordHashEncoder


def small(**options) -> TinyVideoModel:
    torch.manual_seed(0)
    denoiser = TinyDenoiser(
        num_frames=4,
        size_px=16,
        patch=8,
        width=16,
        depth=1,
        num_heads=2,
        caption_channels=8,
        caption_length=4,
    )
    return TinyVideoModel(denoiser, WordHashEncoder(8, 4), **options)


def clip(count: int = 2) -> torch.Tensor:
    return torch.rand(count, 3, 4, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_nothing_is_lost_between_clip_and_latents():
    model, video = small(), clip()
    latents = model.encode(video)
    assert latents.shape == (2, *model.latent_shape(4, 16, 16))
    assert torch.allclose(model.decode(latents, 4), video, atol=1e-6)
    assert torch.equal(latents[:, :, :1], model.encode_first_frame(video[:, :, 0]))


def test_clips_that_stand_still_are_zero_after_frame_0():
    model = small()
    still = clip()[:, :, :1].expand(-1, -1, 4, -1, -1)
    assert (model.encode(still)[:, :, 1:] == 0).all()


def test_a_displacement_of_the_whole_frame_moves_the_picture():
    model, video = small(), clip()
    network = model.denoiser
    with torch.no_grad():
        for layer in (network.share, network.flow):
            layer.weight.zero_()
        network.share.bias.view(-1, 5).copy_(torch.tensor([-30.0, 30.0, -30.0, -30.0, -30.0]))
        network.flow.bias.view(-1, 2).copy_(torch.tensor([2.0, 0.0]) / 8)  # x from 2 px right
    condition = model.encode_captions(["x", "x"])
    latents = model.encode(video)
    predicted = network(latents, torch.ones(2), condition.embedding, condition.mask)
    clean = torch.cat([latents[:, :, :1], predicted.clean[:, :, 1:]], dim=2)
    moved = model.decode(clean, 4)
    assert torch.allclose(moved[:, :, 1, :, :13], video[:, :, 0, :, 2:15], atol=0.05)
    to_the_right = torch.tensor([2.0, 0.0])[None, :, None, None, None].expand(2, 2, 4, 16, 16)
    assert torch.allclose(predicted.displacement_px, to_the_right, atol=0.05)


def test_the_noisy_picture_can_pass_through():
    model = small()
    with torch.no_grad():
        model.denoiser.share.weight.zero_()
        model.denoiser.share.bias.view(-1, 5).copy_(
            torch.tensor([-30.0, -30.0, -30.0, -30.0, 30.0])
        )
    condition = model.encode_captions(["x", "x"])
    noisy = model.encode(clip())
    clean = model.denoiser(noisy, torch.zeros(2), condition.embedding, condition.mask).clean
    assert torch.allclose(clean[:, :, 1:], noisy[:, :, 1:], atol=1e-6)


def test_every_parameter_but_the_null_prompt_has_a_gradient():
    model, video = small(), clip()
    condition = model.encode_captions(["x", "x"])
    given = torch.zeros(2, 4, dtype=torch.bool)
    velocity = model.velocity(
        model.encode(video), torch.full((2,), 0.5), condition, given, fps_hz=16
    )
    velocity.square().mean().backward()
    unused = {n for n, p in model.denoiser.named_parameters() if p.grad is None}
    assert unused == {"null_caption"}


def test_velocity_follows_from_the_predicted_clean_latents():
    model = small()
    torch.nn.init.normal_(model.denoiser.colour.weight, std=0.1)
    x = torch.randn(1, 3, 4, 16, 16, requires_grad=True)
    clean = torch.tensor([[True, False, False, False]])
    condition = model.encode_captions(["a thing falls"])
    level = torch.tensor([0.5])
    velocity = model.velocity(x, level, condition, clean, fps_hz=16.0)
    predicted = model.denoiser(x, level, condition.embedding, condition.mask).clean
    assert torch.allclose(x - 0.5 * velocity, predicted, atol=1e-6)  # x_0 = x_s - s u
    velocity.sum().backward()
    assert x.grad.abs().sum() > 0


def test_a_fresh_model_repeats_its_first_frame():
    model = small()
    frame = torch.rand(1, 3, 16, 16) * 2 - 1
    video = generate(model, frame, [""], num_frames=4, fps_hz=16.0, num_steps=4, guidance=1.0)
    assert (video - frame[:, :, None]).abs().mean() < 0.15


def test_generation_keeps_the_first_frame_and_carries_gradient():
    model = small()
    frame = torch.rand(2, 3, 16, 16) * 2 - 1
    video = generate(
        model,
        frame,
        ["a", "b"],
        num_frames=4,
        fps_hz=16.0,
        num_steps=3,
        guidance=2.0,
        noise=torch.Generator().manual_seed(0),
        sampler=Euler(checkpoint=True),
    )
    first = model.decode(model.encode_first_frame(frame), 1)
    assert torch.allclose(video[:, :, 0], first[:, :, 0], atol=1e-5)
    video[:, :, 1:].square().mean().backward()
    assert model.denoiser.embed.weight.grad.abs().sum() > 0


def test_words_have_fixed_embeddings():
    encoder = WordHashEncoder(8, 4)
    one, other = encoder(["a ball falls"]), encoder(["ball"])
    assert torch.equal(one.embedding[0, 1], other.embedding[0, 0])
    assert one.mask.tolist() == [[True, True, True, False]]


def test_weights_round_trip_and_a_foreign_file_is_one_sentence(tmp_path: Path):
    model = small()
    with torch.no_grad():
        model.denoiser.embed.bias.add_(1.0)
    save_file(model.denoiser.state_dict(), tmp_path / "denoiser.safetensors")
    pack(tmp_path / "packed.safetensors", {"denoiser": tmp_path / "denoiser.safetensors"})
    again = small(weights=tmp_path / "packed.safetensors")
    for key, value in model.denoiser.state_dict().items():
        assert torch.allclose(value, again.denoiser.state_dict()[key], atol=1e-3)
    save_file({"denoiser.other": torch.ones(1)}, tmp_path / "wrong.safetensors")
    with pytest.raises(PisaError, match="of another model"):
        small(weights=tmp_path / "wrong.safetensors")
    with pytest.raises(PisaError, match="no weights at"):
        small(weights="absent.safetensors")


def test_the_null_prompt_has_a_row_per_clip():
    condition = small().null_condition(3)
    assert condition.embedding.shape == (3, 4, 8)
    assert condition.mask.all()


def test_clips_of_another_size_or_length_are_one_sentence():
    denoiser = small().denoiser
    caption, mask = torch.zeros(1, 4, 8), torch.ones(1, 4, dtype=torch.bool)
    for shape, message in (
        ((1, 3, 4, 8, 8), "16x16 pixels, not 4 of 8x8"),
        ((1, 3, 4, 16, 8), "16x16 pixels, not 4 of 8x16"),
        ((1, 3, 6, 16, 16), "4 frames of 16x16 pixels, not 6"),
    ):
        with pytest.raises(PisaError, match=message):
            denoiser(torch.zeros(shape), torch.tensor([0.5]), caption, mask)
