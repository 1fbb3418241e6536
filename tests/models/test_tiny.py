"""The tiny base model: shapes, conventions, codec scaling, weights files."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pisa.diffusion.samplers import Euler
from pisa.errors import PisaError
from pisa.models.generate import generate
from pisa.models.pack import pack
from pisa.models.tiny import TinyVideoModel
from pisa.models.tiny_codec import MotionCodec, TinyCodec, warp
from pisa.models.tiny_denoiser import TinyDenoiser
from pisa.models.tiny_text import WordHashEncoder


def small(**options) -> TinyVideoModel:
    torch.manual_seed(0)
    denoiser = TinyDenoiser(
        latent_channels=4,
        num_frames=4,
        latent_size=4,
        patch=2,
        width=16,
        depth=1,
        num_heads=2,
        caption_channels=8,
        caption_length=4,
    )
    codec = TinyCodec(latent_channels=4, motion_channels=3, width=8)
    return TinyVideoModel(codec, denoiser, WordHashEncoder(8, 4), **options)


def test_static_clips_have_zero_motion_and_latent_0_is_the_first_frame_alone():
    model = small()
    frame = torch.randn(2, 3, 16, 16).clamp(-1, 1)
    video = frame[:, :, None].expand(-1, -1, 4, -1, -1)
    latents = model.encode(video)
    assert latents.shape == (2, *model.latent_shape(4, 16, 16))
    assert latents[:, :, 1:].abs().max() < 1e-5
    assert torch.allclose(latents[:, :, :1], model.encode_first_frame(frame), atol=1e-5)


def test_a_clip_encodes_alike_alone_and_in_a_batch():
    codec = TinyCodec(latent_channels=4, motion_channels=3, width=8)
    video = torch.rand(3, 3, 4, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    together = codec.encode(video)
    assert torch.allclose(together[1:2], codec.encode(video[1:2]), atol=1e-5)
    assert torch.allclose(codec.decode(together)[1:2], codec.decode(together[1:2]), atol=1e-5)


def test_what_has_not_changed_is_zero_around_a_moving_object():
    video = torch.rand(1, 3, 1, 32, 32, generator=torch.Generator().manual_seed(1)) - 0.5
    video = video.repeat(1, 1, 2, 1, 1)
    video[:, :, 1, 12:20, 12:20] += 0.4
    video[:, :, 1] += 0.01  # less than counts
    codec = TinyCodec(latent_channels=4, motion_channels=3, width=8, still_below=0.1)
    changed = torch.zeros(8, 8, dtype=torch.bool)
    changed[3:5, 3:5] = True
    motion = codec.encode(video)[0, :3, 1]
    assert (motion[:, ~changed] == 0).all() and (motion[:, changed] != 0).all()
    codec.motion.still_below = None
    assert (codec.encode(video)[0, :3, 1][:, ~changed] != 0).any()


def test_the_codecs_fingerprint_knows_what_it_leaves_out():
    model = small()
    before = model.codec_fingerprint()
    model.codec.motion.still_below = 0.1
    assert model.codec_fingerprint() != before


def test_unused_channels_of_later_frames_are_zero():
    codec = TinyCodec(latent_channels=4, motion_channels=3, width=8)
    latents = codec.encode(torch.rand(2, 3, 4, 16, 16) * 2 - 1)
    assert latents[:, :3, 1:].abs().max() > 0
    assert (latents[:, 3:, 1:] == 0).all()


def test_warp_fetches_from_where_the_flow_points():
    image = torch.zeros(1, 1, 8, 8)
    image[0, 0, 2, 5] = 1.0
    flow = torch.zeros(1, 2, 8, 8)
    flow[:, 0], flow[:, 1] = 1.0, -3.0  # x, y: content of (5, 2) appears at (4, 5)
    moved = warp(image, flow)
    assert moved[0, 0, 5, 4] == pytest.approx(1.0, abs=1e-5)
    assert moved.sum() == pytest.approx(1.0, abs=1e-4)


def test_matching_finds_how_far_distinct_features_have_moved():
    codec = MotionCodec(channels=3, width=8)
    with torch.no_grad():
        codec.log_scale.fill_(5.0)
    there = torch.randn(1, 16, 6, 6, generator=torch.Generator().manual_seed(0))
    here = there.roll((2, 1), dims=(2, 3))  # two rows down, one column right
    displacement, _ = codec._match(here, there)
    inside = displacement[0, :, 2:, 1:]
    assert torch.allclose(inside[0], torch.full_like(inside[0], -1.0), atol=0.05)
    assert torch.allclose(inside[1], torch.full_like(inside[1], -2.0), atol=0.05)


def test_fit_patches_is_the_best_linear_code():
    codec = TinyCodec(latent_channels=12, motion_channels=3, width=8)
    ramp = torch.linspace(-1, 1, 16)
    frames = torch.stack([ramp.expand(3, 16, 16) * a for a in (0.2, 0.7, -0.9)])  # mean 0
    codec.still.fit_patches(frames)
    assert torch.allclose(codec.still.decode(codec.still.encode(frames)), frames, atol=1e-3)


def test_fit_scale_gives_unit_variance_where_something_moves():
    codec = TinyCodec(latent_channels=4, motion_channels=3, width=8)
    video = torch.rand(8, 3, 4, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    codec.fit_scale(video)
    latents = codec.encode(video).detach()
    assert torch.allclose(latents[:, :, 0].std(dim=(0, 2, 3)), torch.ones(4), atol=1e-3)
    loud = latents[:, :3, 1:].square().transpose(0, 1).flatten(1)
    loud = loud.topk(int(0.1 * loud.shape[1]), dim=1).values
    assert torch.allclose(loud.mean(dim=1), torch.ones(3), atol=1e-2)


def test_velocity_follows_from_the_predicted_clean_latents():
    model = small()
    torch.nn.init.normal_(model.denoiser.head.weight, std=0.1)
    x = torch.randn(1, 4, 4, 4, 4, requires_grad=True)
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
    assert (video[:, :, 1:] - video[:, :, 1:2]).abs().max() < 1e-4


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
        noise=torch.Generator().manual_seed(0),
        sampler=Euler(checkpoint=True),
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
    with pytest.raises(PisaError, match="of another model"):
        pack(
            tmp_path / "wrong.safetensors", {"codec": parts["denoiser"], "denoiser": parts["codec"]}
        )
        small(weights=tmp_path / "wrong.safetensors")
    with pytest.raises(PisaError, match="no weights at"):
        small(weights="absent.safetensors")


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(PisaError, match="divisible by 4"):
        small().latent_shape(4, 18, 16)


def test_the_null_prompt_has_a_row_per_clip():
    condition = small().null_condition(3)
    assert condition.embedding.shape == (3, 4, 8)
    assert condition.mask.all()


def test_clips_of_another_size_or_length_are_one_sentence():
    denoiser = small().denoiser
    caption, mask = torch.zeros(1, 4, 8), torch.ones(1, 4, dtype=torch.bool)
    for shape, message in (
        ((1, 4, 4, 8, 8), "latents of 4x4, not 8x8"),
        ((1, 4, 4, 4, 8), "latents of 4x4, not 4x8"),
        ((1, 4, 6, 4, 4), "makes 4 frames, not 6"),
    ):
        with pytest.raises(PisaError, match=message):
            denoiser(torch.zeros(shape), torch.tensor([0.5]), caption, mask)
