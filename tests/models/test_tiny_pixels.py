"""The model over pixels: what a fresh network makes, shapes, gradients, weights."""

import pytest
import torch
from safetensors.torch import save_file

from pisa.models.generate import generate
from pisa.models.tiny_pixels import PixelDenoiser, TinyPixelModel
from pisa.models.tiny_text import WordHashEncoder
from pisa.types import PisaError


def small(moves: bool = True, **options) -> TinyPixelModel:
    torch.manual_seed(0)
    denoiser = PixelDenoiser(
        num_frames=4,
        size_px=16,
        patch=8,
        frames=2,
        moves=moves,
        width=16,
        depth=1,
        num_heads=2,
        caption_channels=8,
        caption_length=4,
    )
    return TinyPixelModel(denoiser, WordHashEncoder(8, 4), **options)


def clip() -> torch.Tensor:
    return torch.rand(2, 3, 4, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_nothing_is_lost_between_clip_and_latents():
    model, video = small(), clip()
    latents = model.encode(video)
    assert latents.shape == (2, *model.latent_shape(4, 16, 16))
    assert torch.allclose(model.decode(latents, 4), video, atol=1e-6)
    assert torch.equal(latents[:, :, :1], model.encode_first_frame(video[:, :, 0]))


@pytest.mark.parametrize("moves", [False, True])
def test_a_fresh_network_repeats_frame_0(moves):
    model, video = small(moves), clip()
    made = generate(
        model, video[:, :, 0], ["x", "x"], num_frames=4, fps_hz=16.0, num_steps=2, guidance=1.0
    )
    still = video[:, :, :1].expand_as(video)
    assert (made - still).abs().mean() < 0.15
    if not moves:
        assert torch.allclose(made, still, atol=1e-5)


def test_a_displacement_of_the_whole_frame_moves_the_picture():
    model, video = small(), clip()
    network = model.denoiser
    with torch.no_grad():
        for layer in (network.share, network.flow):
            layer.weight.zero_()
        network.share.bias.view(-1, 3).copy_(torch.tensor([-30.0, 30.0, -30.0]))
        network.flow.bias.view(-1, 2).copy_(torch.tensor([2.0, 0.0]) / 8)  # x from 2 px right
    condition = model.encode_captions(["x", "x"])
    latents = model.encode(video)
    clean, flow = network.parts(latents, torch.ones(2), condition.embedding, condition.mask)
    moved = model.decode(torch.cat([latents[:, :, :1], clean[:, :, 1:]], dim=2), 4)
    assert torch.allclose(flow[:, 0], torch.tensor(2.0), atol=0.01)
    assert torch.allclose(moved[:, :, 1, :, :13], video[:, :, 0, :, 2:15], atol=0.05)


@pytest.mark.parametrize("moves", [False, True])
def test_every_parameter_but_the_null_prompt_has_a_gradient(moves):
    model, video = small(moves), clip()
    condition = model.encode_captions(["x", "x"])
    clean = torch.zeros(2, 4, dtype=torch.bool)
    for _ in range(2):  # the last layers start at zero and let nothing through at first
        loss = (
            model.velocity(model.encode(video), torch.full((2,), 0.5), condition, clean, fps_hz=16)
            .square()
            .mean()
        )
        loss.backward()
        with torch.no_grad():
            for parameter in model.denoiser.parameters():
                if parameter.grad is not None:
                    parameter -= 0.1 * parameter.grad
    unused = {n for n, p in model.denoiser.named_parameters() if p.grad is None}
    assert unused == {"trunk.null_caption"}


def test_weights_are_read_back_and_other_sizes_refused(tmp_path):
    model = small()
    tensors = {f"denoiser.{k}": v + 1 for k, v in model.denoiser.state_dict().items()}
    save_file(tensors, tmp_path / "w.safetensors")
    again = small(weights=tmp_path / "w.safetensors")
    assert torch.equal(again.denoiser.embed.bias, model.denoiser.embed.bias + 1)
    with pytest.raises(PisaError, match="4 frames of 16 px"):
        condition = model.encode_captions(["x"])
        model.denoiser(
            torch.zeros(1, 3, 4, 8, 8), torch.ones(1), condition.embedding, condition.mask
        )
