"""STDiT3 without recorded data: sizes, padding, conditioning, gradients."""

from __future__ import annotations

import pytest
import torch

from pisa.models.opensora import STDiT3

torch.set_num_threads(1)


def small(**overrides) -> STDiT3:
    """A network whose temporal blocks are random, where those of a fresh one are the identity."""
    torch.manual_seed(0)
    sizes = {
        "in_channels": 8,
        "hidden_size": 48,
        "depth": 2,
        "num_heads": 4,
        "pred_sigma": False,
        "caption_channels": 16,
        "model_max_length": 6,
    }
    model = STDiT3(**(sizes | overrides))
    for parameter in model.parameters():
        if parameter.ndim > 1 and not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


def inputs(frames: int = 3, height: int = 4, width: int = 4, channels: int = 8) -> dict:
    generator = torch.Generator().manual_seed(1)
    return {
        "x": torch.randn(2, channels, frames, height, width, generator=generator),
        "timestep": torch.tensor([900.0, 100.0]),
        "y": torch.randn(2, 1, 6, 16, generator=generator),
        "mask": torch.tensor([[1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1]]),
        "fps": torch.tensor([16.0]),
        "height": torch.tensor([8.0 * height]),
        "width": torch.tensor([8.0 * width]),
    }


@torch.no_grad()
@pytest.mark.parametrize(("pred_sigma", "out"), [(False, 8), (True, 16)])
def test_output_channels(pred_sigma, out):
    output = small(pred_sigma=pred_sigma)(**inputs())
    assert output.shape == (2, out, 3, 4, 4) and output.dtype == torch.float32
    assert output.abs().max() > 0


@torch.no_grad()
def test_odd_sizes_equal_zero_padding():
    """Padding on the far side, cropped off again; positions are those of the padded grid."""
    model = small()
    odd = inputs(2, 3, 5)
    padded = odd | {"x": torch.nn.functional.pad(odd["x"], (0, 1, 0, 1))}
    torch.testing.assert_close(model(**odd), model(**padded)[..., :3, :5])


@torch.no_grad()
def test_masked_caption_tokens_do_not_matter():
    model, given = small(), inputs()
    other = given["y"].clone()
    other[0, :, 3:] = 7.0
    torch.testing.assert_close(model(**given), model(**(given | {"y": other})))
    assert not torch.allclose(model(**given), model(**(given | {"mask": None})))


@torch.no_grad()
def test_all_frames_clean_ignores_the_timestep_within_blocks():
    """x_mask False everywhere differs from timestep 0 only by the twice modulated last layer."""
    model, given = small(), inputs()
    clean = given | {"x_mask": torch.zeros(2, 3, dtype=torch.bool)}
    zero = given | {"timestep": torch.zeros(2)}
    blocks = []
    model.temporal_blocks[-1].register_forward_hook(lambda m, args, out: blocks.append(out))
    final_clean, final_zero = model(**clean), model(**zero)
    torch.testing.assert_close(blocks[0], blocks[1])
    assert not torch.allclose(final_clean, final_zero)


@torch.no_grad()
def test_x_mask_of_ones_is_no_mask():
    model, given = small(), inputs()
    masked = model(**given, x_mask=torch.ones(2, 3, dtype=torch.bool))
    torch.testing.assert_close(masked, model(**given))


@torch.no_grad()
def test_every_frame_sees_every_other_and_order_matters():
    model, given = small(), inputs()
    base = model(**given)
    moved = given["x"].clone()
    moved[:, :, 2] += 1
    assert not torch.allclose(model(**(given | {"x": moved}))[:, :, 0], base[:, :, 0])
    flipped = model(**(given | {"x": given["x"].flip(2)})).flip(2)
    assert not torch.allclose(flipped, base, atol=1e-4)


def test_every_trained_parameter_gets_gradient():
    model = small().train()
    output = model(**inputs(), x_mask=torch.tensor([[False, True, True]] * 2))
    output.square().mean().backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == ["rope.freqs"]


def test_temporal_blocks_of_a_fresh_network_are_the_identity():
    """Random initialisation of Figure 5, as Open-Sora v1.2 draws it (paper Section 4.2)."""
    fresh = STDiT3(hidden_size=32, depth=2, num_heads=2, caption_channels=16, model_max_length=6)
    for block in fresh.temporal_blocks:
        for layer in (block.attn.proj, block.cross_attn.proj, block.mlp.fc2):
            assert not layer.weight.any() and not layer.bias.any()
    assert not fresh.fps_embedder.mlp[2].weight.any()
    assert all(block.attn.proj.weight.any() for block in fresh.spatial_blocks)
    assert fresh.final_layer.linear.weight.any()


def test_drop_path_and_bfloat16_run():
    model = small(drop_path=0.5).train()
    with torch.autocast("cpu", torch.bfloat16):
        output = model(**inputs())
    assert output.dtype == torch.float32 and output.isfinite().all()
    half = small().to(torch.bfloat16)
    difference = (half(**inputs()) - small()(**inputs())).abs().mean()
    assert difference < 0.05 * small()(**inputs()).abs().mean() + 0.02


def test_refuses_missing_sizes_and_wrong_masks():
    with pytest.raises(ValueError, match="fps"):
        small()(**(inputs() | {"fps": None}))
    with pytest.raises(ValueError, match="x_mask"):
        small()(**inputs(), x_mask=torch.ones(2, 5, dtype=torch.bool))
    with pytest.raises(ValueError, match="heads"):
        STDiT3(hidden_size=50, num_heads=4)
