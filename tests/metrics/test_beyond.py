"""Measures beyond position on drawn clips whose values are known."""

from __future__ import annotations

import numpy as np
import pytest

from pisa.metrics.beyond import falls, galileo_ratio, object_measures, pixel_measures

SIZE, FRAMES, SIDE = 48, 12, 12
GREY = 100
NOTHING = np.zeros((SIZE, SIZE), dtype=bool)


def track(top: float = 4, gain: float = 0.5, left: int = 8) -> np.ndarray:
    """Masks of a square that falls by ``gain`` t^2 / 2 px without reaching the floor."""
    masks = np.zeros((FRAMES, SIZE, SIZE), dtype=bool)
    for t in range(FRAMES):
        y = round(top + gain * t**2 / 2)
        masks[t, y : y + SIDE, left : left + SIDE] = True
    return masks


def texture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(60, 180, (SIDE, SIDE, 3)).astype(np.uint8)


def painted(masks: np.ndarray, patches: list[np.ndarray]) -> np.ndarray:
    """A grey video with a patch in the square of each frame."""
    frames = np.full((*masks.shape, 3), GREY, dtype=np.uint8)
    for frame, mask, patch in zip(frames, masks, patches, strict=True):
        frame[mask] = patch.reshape(-1, 3)
    return frames


def measured(patches: list[np.ndarray]) -> dict[str, float]:
    return pixel_measures(painted(track(), patches), track(), NOTHING)


def test_a_rigid_fall_keeps_everything() -> None:
    values = measured([texture()] * FRAMES) | object_measures(track())
    assert (values["colour_change"], values["texture_change"]) == (0.0, 0.0)
    assert values["background_change"] == 0.0
    assert (values["brightness_change"], values["high_frequency_change"]) == (0.0, 0.0)
    assert (values["area_kept"], values["piece_share"]) == (1.0, 1.0)
    fallen_px = round(0.5 * (FRAMES - 1) ** 2 / 2)
    assert values["path_length"] == pytest.approx(fallen_px / np.hypot(SIZE, SIZE))


@pytest.mark.parametrize("levels", [1, 7, 20])
def test_a_shift_of_all_colours_costs_exactly_that_shift(levels: int) -> None:
    """In proportion: a bin-by-bin distance would be 0 or whole, by where its borders lie."""
    values = measured([texture(), *[texture() + np.uint8(levels)] * (FRAMES - 1)])
    assert values["colour_change"] == pytest.approx(levels / 255)
    assert values["texture_change"] == 0.0


def test_turning_the_object_over_costs_nothing_and_shuffling_its_pixels_costs_texture() -> None:
    first = np.arange(SIDE * SIDE, dtype=np.uint8).reshape(SIDE, SIDE, 1).repeat(3, axis=2)
    turned = measured([first, *[first[::-1, ::-1]] * (FRAMES - 1)])
    assert turned["colour_change"] == turned["texture_change"] == 0.0
    order = np.random.default_rng(0).permutation(SIDE * SIDE)
    shuffled = first.reshape(-1, 3)[order].reshape(first.shape)
    values = measured([first, *[shuffled] * (FRAMES - 1)])
    assert values["colour_change"] == 0.0 and values["texture_change"] > 0.05


def test_a_lost_ramp_costs_its_slope() -> None:
    ramp = (60 + 4 * np.arange(SIDE, dtype=np.uint8))[None, :, None].repeat(SIDE, 0).repeat(3, 2)
    flat = np.full_like(ramp, round(ramp.mean()))
    values = measured([ramp, *[flat] * (FRAMES - 1)])
    assert values["texture_change"] == pytest.approx(4 / 255)


def test_another_object_of_equal_brightness_is_seen_by_its_colour() -> None:
    red = np.tile(np.array([200, 40, 60], dtype=np.uint8), (SIDE, SIDE, 1))
    values = measured([red, *[red[..., ::-1]] * (FRAMES - 1)])
    assert values["colour_change"] == pytest.approx((140 + 0 + 140) / 3 / 255)


def test_area_counts_missing_frames_and_growth_and_pieces_count_copies() -> None:
    gone = track()
    gone[FRAMES // 2 + 1 :] = False
    kept = FRAMES // 2 / (FRAMES - 1)
    assert object_measures(gone)["area_kept"] == pytest.approx(kept)
    assert object_measures(gone)["piece_share"] == 1.0
    doubled = track() | track(left=30)
    doubled[0] = track()[0]
    assert object_measures(doubled)["area_kept"] == 0.5
    share = (1 + 0.5 * (FRAMES - 1)) / FRAMES
    assert object_measures(doubled)["piece_share"] == pytest.approx(share)


def test_a_frozen_video_has_no_path_and_an_absent_object_no_area() -> None:
    still = track()[:1].repeat(FRAMES, axis=0)
    assert object_measures(still)["path_length"] == 0.0
    absent = track()
    absent[0] = False
    assert np.isnan(object_measures(absent)["area_kept"])
    frames = painted(track(), [texture()] * FRAMES)
    assert np.isnan(pixel_measures(frames, absent, NOTHING)["colour_change"])
    nothing = object_measures(np.zeros_like(still))
    assert np.isnan(nothing["piece_share"]) and nothing["path_length"] == 0.0


def background(change: np.ndarray, others: np.ndarray = NOTHING) -> float:
    """``background_change`` where ``change`` is added to every frame but the first."""
    frames = painted(track(), [texture()] * FRAMES).astype(int)
    frames[1:] += change
    values = pixel_measures(frames.clip(0, 255).astype(np.uint8), track(), others)
    return values["background_change"]


def test_the_background_is_compared_outside_the_path_of_the_object() -> None:
    tint = np.array([0, 0, 30])
    assert background(np.zeros((SIZE, SIZE, 3), int) + tint) == pytest.approx(10 / 255)
    inside = np.zeros((SIZE, SIZE, 3), int)
    inside[6:40, 9:19] = tint
    assert background(inside) == 0.0
    elsewhere = np.roll(inside, 20, axis=1)
    assert background(elsewhere) > 0.005
    assert background(elsewhere, elsewhere.any(axis=2)) == 0.0  # another object, in frame 0


def test_a_shadow_is_no_change_of_the_background_but_a_dimmed_picture_is() -> None:
    shadow = np.zeros((SIZE, SIZE, 3), int)
    shadow[44:47, 26:46] = -GREY // 2
    assert background(shadow) == 0.0
    dimmed = np.full((SIZE, SIZE, 3), -GREY // 2)
    assert background(dimmed) == pytest.approx(50 / 255)
    stain = shadow * np.array([0, 1, 1])  # as dark as the shadow, in two channels
    assert background(stain) > 0.0


def picture(change: np.ndarray) -> dict[str, float]:
    """The measures where ``change`` is added to every frame but the first."""
    frames = painted(track(), [texture()] * FRAMES).astype(int)
    frames[1:] += change
    return pixel_measures(frames.astype(np.uint8), track(), NOTHING)


@pytest.mark.parametrize("levels", [-30, 1, 30])
def test_a_brighter_or_darker_clip_costs_exactly_the_levels(levels: int) -> None:
    values = picture(np.full((SIZE, SIZE, 3), levels))
    assert values["brightness_change"] == pytest.approx(abs(levels) / 255, rel=1e-4)
    assert values["high_frequency_change"] == pytest.approx(0.0, abs=1e-6)


def test_a_fine_grid_costs_its_amplitude_and_is_no_change_of_brightness() -> None:
    grid = 8 * (-1) ** np.indices((SIZE, SIZE)).sum(axis=0)[..., None].repeat(3, axis=2)
    values = picture(grid)
    assert values["high_frequency_change"] == pytest.approx(8 / 255, rel=1e-3)
    lines = np.zeros((SIZE, SIZE, 3), int)
    lines[::4], lines[:, ::4] = 8, 8
    assert picture(lines)["high_frequency_change"] > 0.001
    shadow = np.zeros((SIZE, SIZE, 3), int)
    shadow[30:40, 26:46] = -GREY // 2  # 9 % of the picture
    assert picture(shadow)["brightness_change"] == 0.0


def test_one_frame_has_no_change() -> None:
    values = pixel_measures(painted(track()[:1], [texture()]), track()[:1], NOTHING)
    assert np.isnan(values["brightness_change"]) and np.isnan(values["high_frequency_change"])


def test_two_objects_that_fall_alike_have_the_ratio_one_whatever_the_rate() -> None:
    low, high = track(top=12, gain=0.5), track(top=2, gain=0.5, left=30)
    assert galileo_ratio(low, high, 16.0) == pytest.approx(1.0, abs=0.03)
    assert galileo_ratio(low, high, 30.0) == pytest.approx(1.0, abs=0.03)


def test_an_object_that_falls_twice_as_fast_doubles_the_ratio() -> None:
    slow, fast = track(gain=0.25), track(gain=0.5, left=30)
    assert galileo_ratio(fast, slow, 16.0) == pytest.approx(2.0, abs=0.1)


def test_the_ratio_needs_two_falls() -> None:
    still = track(gain=0.0, left=30)
    assert falls(track()) and not falls(still)
    assert np.isnan(galileo_ratio(track(), still, 16.0))
