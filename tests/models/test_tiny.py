"""The tiny base model: shapes, conventions, codec scaling, weights files."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pisa.models.generate import generate
from pisa.models.pack import pack
from pisa.models.tiny import TinyVideoModel
from pisa.models.tiny_codec import TinyCodec
from pisa.models.tiny_denoiser import TinyDenoiser
from pisa.models.tiny_text import WordHashEncoder
from pisa.types import PisaError


def small(**options) -> TinyVideoModel:
    torch.manual_seed(0)
    denoiser = TinyDenoiser(
        latent_channels=4,
        num_frames=4,
        latent_size=2,
        width=16,
        depth=1,
        num_heads=2,
        caption_channels=8,
        caption_length=4,
    )
    codec = TinyCodec(latent_channels=4, width=8)
    return TinyVideoModel(codec, denoiser, WordHashEncoder(8, 4), **options)


def test_static_clips_have_a_zero_residual_and_decode_inverts_encode_up_to_the_codec():
    model = small()
    frame = torch.randn(2, 3, 16, 16).clamp(-1, 1)
    video = frame[:, :, None].expand(-1, -1, 4, -1, -1)
    latents = model.encode(video)
    assert latents.shape == (2, *model.latent_shape(4, 16, 16))
    assert latents[:, :, 1:].abs().max() < 1e-5
    assert torch.allclose(latents[:, :, :1], model.encode_first_frame(frame))
    direct = model.codec.decode_frames(model.codec.encode_frames(frame))
    assert torch.allclose(model.decode(latents, 4)[:, :, 2], direct, atol=1e-5)


def test_fit_scale_gives_unit_variance():
    codec = TinyCodec(latent_channels=4, width=8)
    video = torch.rand(8, 3, 4, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    codec.fit_scale(video)
    latents = codec.encode(video).detach()
    assert torch.allclose(latents[:, :, 0].std(dim=(0, 2, 3)), torch.ones(4), atol=1e-3)
    assert latents[:, :, 1:].square().mean().sqrt() == pytest.approx(1.0, abs=1e-3)


def test_velocity_follows_from_the_predicted_clean_latents():
    model = small()
    torch.nn.init.normal_(model.denoiser.head.weight, std=0.1)
    x = torch.randn(1, 4, 4, 2, 2, requires_grad=True)
    clean = torch.tensor([[True, False, False, False]])
    condition = model.encode_captions(["a thing falls"])
    level = torch.tensor([0.5])
    velocity = model.velocity(x, level, condition, clean, fps_hz=16.0)
    predicted = model.denoiser(x, level, condition.embedding, condition.mask)
    assert torch.allclose(x - 0.5 * velocity, predicted, atol=1e-6)  # x_0 = x_s - s u
    velocity.sum().backward()
    assert x.grad.abs().sum() > 0


def test_a_fresh_model_generates_a_clip_that_stands_still():
    model = small()
    frame = torch.rand(1, 3, 16, 16) * 2 - 1
    video = generate(model, frame, [""], num_frames=4, fps_hz=16.0, num_steps=4, guidance=1.0)
    assert (video - video[:, :, :1]).abs().max() < 1e-4


def test_generation_keeps_the_first_frame_and_carries_gradient():
    model = small()
    torch.nn.init.normal_(model.denoiser.head.weight, std=0.1)
    frame = torch.rand(2, 3, 16, 16) * 2 - 1
    video = generate(
        model,
        frame,
        ["a", "b"],
        num_frames=4,
        fps_hz=16.0,
        num_steps=3,
        guidance=2.0,
        generator=torch.Generator().manual_seed(0),
        checkpoint_steps=True,
    )
    first = model.decode(model.encode_first_frame(frame), 1)
    assert torch.allclose(video[:, :, 0], first[:, :, 0], atol=1e-5)
    video[:, :, 1:].square().mean().backward()
    assert model.denoiser.embed.weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in model.codec.parameters())


def test_words_have_fixed_embeddings():
    encoder = WordHashEncoder(8, 4)
    one, other = encoder(["a ball falls"]), encoder(["ball"])
    assert torch.equal(one.embedding[0, 1], other.embedding[0, 0])
    assert one.mask.tolist() == [[True, True, True, False]]


def test_weights_round_trip_and_a_foreign_file_is_one_sentence(tmp_path: Path):
    model = small()
    save_file(model.codec.state_dict(), tmp_path / "codec.safetensors")
    save_file(model.denoiser.state_dict(), tmp_path / "denoiser.safetensors")
    parts = {name: tmp_path / f"{name}.safetensors" for name in ("codec", "denoiser")}
    pack(tmp_path / "both.safetensors", parts)
    again = small(weights=tmp_path / "both.safetensors")
    for key, value in model.codec.state_dict().items():
        assert torch.allclose(value, again.codec.state_dict()[key], atol=1e-3)
    with pytest.raises(PisaError, match="does not fit"):
        pack(
            tmp_path / "wrong.safetensors", {"codec": parts["denoiser"], "denoiser": parts["codec"]}
        )
        small(weights=tmp_path / "wrong.safetensors")
    with pytest.raises(PisaError, match="no weights at"):
        small(weights="absent.safetensors")


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(PisaError, match="divisible by 8"):
        small().latent_shape(4, 20, 16)


def test_the_null_prompt_has_a_row_per_clip():
    condition = small().null_condition(3)
    assert condition.embedding.shape == (3, 4, 8)
    assert condition.mask.all()
