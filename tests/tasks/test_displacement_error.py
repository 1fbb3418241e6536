"""The error of a predicted displacement against the way of the objects' centroids."""

from __future__ import annotations

import torch

from pisa.diffusion.noise_levels import uniform_noise_level
from pisa.models.tiny import TinyVideoModel
from pisa.models.tiny_denoiser import TinyDenoiser
from pisa.models.tiny_text import WordHashEncoder
from pisa.tasks.rectified_flow import (
    DISPLACEMENT_MARGIN,
    DISPLACEMENT_SLACK_PX,
    DISPLACEMENT_UNIT_PX,
    RectifiedFlowLoss,
    displacement_error,
)
from tests.tasks.toy import falling_batch, toy_model


def squares() -> torch.Tensor:
    """Two clips of two objects: one 2x2 square falls 6 px in frame 1, the other comes later."""
    masks = torch.zeros(2, 2, 2, 32, 32, dtype=torch.bool)
    masks[0, 1, 0, 10:12, 14:16] = True
    masks[0, 1, 1, 16:18, 14:16] = True
    masks[0, 0, 1, 0:3, 1:3] = True  # not visible in frame 0
    return masks


def test_it_is_zero_within_the_slack_of_the_true_way_and_grows_by_pixels_beyond():
    masks = squares()
    back = torch.zeros(2, 2, 2, 32, 32)
    back[:, 1, 1] = -6.0
    assert displacement_error(back, masks).tolist() == [0.0, 0.0]
    back[:, 1, 1] = -6.0 + DISPLACEMENT_SLACK_PX
    assert displacement_error(back, masks).tolist() == [0.0, 0.0]
    held = displacement_error(torch.zeros_like(back), masks)
    over = (6.0 - DISPLACEMENT_SLACK_PX) / DISPLACEMENT_UNIT_PX
    torch.testing.assert_close(held, torch.tensor([over / 2, 0.0]))  # frame 0 is right: one half


def test_its_gradient_points_from_where_the_object_is_to_where_it_was():
    predicted = torch.zeros(2, 2, 2, 32, 32, requires_grad=True)
    displacement_error(predicted, squares()).sum().backward()
    gradient = predicted.grad
    assert torch.isfinite(gradient).all()
    margin = 2 * DISPLACEMENT_MARGIN
    around = (slice(16 - margin, 18 + margin), slice(14 - margin, 16 + margin))
    assert (gradient[0, 1, 1][around] > 0).all()  # descent makes it negative: upwards
    torch.testing.assert_close(gradient.abs().sum(), gradient[0, 1, 1][around].sum())


def test_only_models_that_predict_a_displacement_have_the_term():
    batch = falling_batch()

    def loss(model, motion_weight):
        terms = RectifiedFlowLoss(model, uniform_noise_level, motion_weight=motion_weight)
        generator = torch.Generator().manual_seed(0)
        latents, condition = model.encode(batch.video), model.encode_captions(batch.captions)
        return terms(batch, latents, condition, generator)

    toy = toy_model()
    assert torch.equal(loss(toy, 1.0), loss(toy, 0.0))
    frames, size = batch.video.shape[2:4]
    tiny = TinyVideoModel(
        TinyDenoiser(frames, size, patch=8, width=16, depth=1, num_heads=2, caption_channels=8),
        WordHashEncoder(8, 8),
    )
    assert (loss(tiny, 1.0) > loss(tiny, 0.0) + 0.01).all()
