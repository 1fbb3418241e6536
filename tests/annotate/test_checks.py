"""Each check passes on a good clip and fails on the fault that it is there for."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from pisa.annotate.check_pictures import picture
from pisa.annotate.checks import Evidence, late_frames, run_checks
from pisa.annotate.motion import motion_signal
from tests.annotate import drawn

START = drawn.RELEASES[0]
FALL = 58  # frames


@pytest.fixture(scope="module")
def good(footage) -> Evidence:
    return evidence(footage, START, START + 80)


def evidence(shown: drawn.Drawn, start: int, stop: int) -> Evidence:
    """Two by two pixels make one; the crop leaves out 40 px on both sides."""
    return Evidence(
        frames=shown.frames[start:stop, ::2, 40:280:2],
        masks=shown.disk[start:stop, None, ::2, 40:280:2],
        dropping=0,
        signal=motion_signal(shown.grid),
        start=start,
        intervals_ms=np.full(stop - start - 1, 1000 / 120),
        repeated=0,
    )


def failed(shown: Evidence) -> list[str]:
    return [check.name for check in run_checks(shown) if not check.passed]


def value(shown: Evidence, name: str) -> float:
    return next(check.value for check in run_checks(shown) if check.name == name)


def test_a_good_clip_passes_with_the_numbers_it_was_drawn_with(good: Evidence) -> None:
    assert failed(good) == []
    assert 8 < value(good, "at rest in frame 0") < 60
    height_m = 9.81 * 120 / (drawn.GRAVITY_PX / 2 * 120**2)  # of a picture 120 px high
    assert value(good, "acceleration") == pytest.approx(height_m, rel=0.05)


def test_a_measured_drop_height_gives_g(good: Evidence) -> None:
    metres = 0.5 * 9.81 * (FALL / 120) ** 2
    measured = value(replace(good, drop_height_m=metres), "acceleration")
    assert measured == pytest.approx(9.81, rel=0.06)
    assert failed(replace(good, drop_height_m=2 * metres)) == ["acceleration"]


def test_a_moving_camera_fails(footage) -> None:
    shaken = drawn.draw(shake_px=3, num_frames=140)
    shown = replace(evidence(shaken, START, START + 80), signal=motion_signal(footage.grid))
    assert failed(shown) == ["camera still"]


def test_a_start_in_the_fall_fails_and_says_where_the_release_is(footage) -> None:
    late = evidence(footage, START + 20, START + 80)
    assert "at rest in frame 0" in failed(late)
    assert late_frames(late) == pytest.approx(-20, abs=3)


def test_a_start_long_before_the_release_is_told(footage) -> None:
    early = evidence(footage, START - 12, START + 80)
    assert failed(early) == ["at rest in frame 0"]
    assert late_frames(early) == pytest.approx(12, abs=3)


def test_lost_frames_fail(good: Evidence) -> None:
    gaps = good.intervals_ms.copy()
    gaps[10] = 25.0
    assert failed(replace(good, intervals_ms=gaps, repeated=2)) == ["120 fps"]
    slow = np.full_like(gaps, 1000 / 60)
    assert failed(replace(good, intervals_ms=slow, repeated=40)) == ["120 fps"]
    assert value(replace(good, intervals_ms=slow), "120 fps") == pytest.approx(60)


def test_an_object_that_leaves_the_crop_fails(good: Evidence) -> None:
    shown = replace(good, frames=good.frames[:, :90], masks=good.masks[:, :, :90])
    assert "visible throughout" in failed(shown)
    says = next(c.says for c in run_checks(shown) if c.name == "visible throughout")
    assert "touches the crop's edge or is lost" in says


def test_an_object_that_does_not_fall_is_no_pass(good: Evidence) -> None:
    still = replace(good, masks=good.masks[:1].repeat(80, axis=0))
    assert failed(still) == ["acceleration"]
    nothing = replace(still, signal=np.zeros_like(still.signal))
    assert {"at rest in frame 0", "acceleration"} <= set(failed(nothing))


def test_an_even_push_is_no_free_fall(good: Evidence) -> None:
    masks = np.zeros_like(good.masks)
    for t in range(80):
        top = 10 + (0 if t < 30 else t)  # hangs, then jumps and sinks evenly
        masks[t, 0, top : top + 12, 40:52] = True
    assert "acceleration" in failed(replace(good, masks=masks))


def test_every_check_has_a_picture(good: Evidence) -> None:
    for check in run_checks(good):
        with Image.open(io.BytesIO(picture(check, good))) as image:
            assert image.size == (400, 200) and image.format == "PNG"
            assert len(image.convert("L").getcolors()) > 5
