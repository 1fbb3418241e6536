"""The Newton reward prefers falls, and its guards close the ways around it."""

import pytest
import torch

from pisa.rewards.newton import NewtonReward, free_fall
from pisa.types import Clip, collate

FRAMES, SIZE, SIDE = 12, 64, 8


class RedTracker:
    """The share of red in each pixel."""

    def segment(self, video, first_masks, tracked=slice(None)):
        return (
            ((video[:, :1] + 1) / 2)
            .logit(eps=1e-4)
            .expand(-1, first_masks[:, tracked].shape[1], -1, -1, -1)
        )


def clip(tops, fade=None) -> Clip:
    """A red square whose upper edge is at ``tops``; ``fade`` scales its brightness."""
    rows = torch.arange(SIZE).float()
    video = torch.full((3, len(tops), SIZE, SIZE), -1.0)
    masks = torch.zeros(1, len(tops), SIZE, SIZE, dtype=torch.bool)
    for t, top in enumerate(tops):
        cover = (torch.minimum(rows + 1, torch.tensor(top + SIDE)) - rows.clamp(min=top)).clamp(
            0, 1
        )
        shine = 1.0 if fade is None else fade[t]
        video[0, t, :, 20:28] = (2 * cover * shine - 1)[:, None]
        masks[0, t, :, 20:28] = (cover > 0.5)[:, None]
    return Clip("x", video, masks, 16.0, "", 1.0)


def falling(g=1.0, floor=50.0):
    return [min(2 + 0.5 * g * t**2, floor) for t in range(FRAMES)]


def value(shown, **options) -> float:
    true = collate([clip(falling())])
    reward = NewtonReward(RedTracker(), min_acceleration_px=0.8, **options)
    return reward(collate([shown]).video, true).item()


WRONG = {
    "stands still": clip([2.0] * FRAMES),
    "vanishes": clip([2.0] * FRAMES, fade=[max(0.0, 1 - 0.25 * t) for t in range(FRAMES)]),
    "falls at one speed": clip([2.0 + 4 * t for t in range(FRAMES)]),
    "jumps": clip([2.0 if t < 6 else 50.0 for t in range(FRAMES)]),
    "rises": clip([40.0 - 0.3 * t**2 for t in range(FRAMES)]),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_fall_is_better_than_what_is_not_one(name):
    assert value(clip(falling())) > value(WRONG[name]) + 0.2


def test_how_fast_it_falls_is_free():
    assert abs(value(clip(falling(1.6))) - value(clip(falling(0.9)))) < 0.1


def test_without_the_guards_standing_still_and_vanishing_win():
    """NewtonRewards warns of this: a plain residual is smallest where nothing moves."""
    bare = {"fall_weight": 0.0, "keep_weight": 0.0}
    fall = value(clip(falling()), **bare)
    assert value(WRONG["stands still"], **bare) > fall
    assert value(WRONG["stands still"], fall_weight=0.0) > value(clip(falling()), fall_weight=0.0)
    kept = value(WRONG["vanishes"], fall_weight=0.0)
    assert value(WRONG["vanishes"], **bare) > kept + 0.3


def test_landing_is_not_part_of_the_fall():
    speed = torch.tensor([[1.0, 2.0, 3.0, 4.0, 0.0, 0.0], [0.0, 0.1, 0.0, 1.0, 2.0, 3.0]])
    assert free_fall(speed).tolist() == [
        [True, True, True, False, False],
        [True, True, True, True, True],
    ]


def test_the_gradient_of_a_hovering_object_pulls_it_down():
    shown = clip([2.0 + 0.3 * t for t in range(FRAMES)]).video[None].requires_grad_()
    reward = NewtonReward(RedTracker(), keep_weight=0.0)(shown, collate([clip(falling())]))
    (gradient,) = torch.autograd.grad(reward.sum(), shown)
    last = gradient[0, 0, -1, :, 20:28].sum(dim=1)
    edge = int(2 + 0.3 * (FRAMES - 1))
    assert gradient.isfinite().all() and last[edge + SIDE] > last[edge]  # redder below, not above
