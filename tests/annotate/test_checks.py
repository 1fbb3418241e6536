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


def with_block(shown: Evidence) -> Evidence:
    """A second object at rest beside the fall."""
    block = np.zeros_like(shown.masks)
    block[:, 0, 85:102, 5:17] = True
    return replace(shown, masks=np.concatenate([shown.masks, block], axis=1))


def fault(shown: Evidence) -> str:
    return next(c.says for c in run_checks(shown) if c.name == "same object" and not c.passed)


def test_a_second_object_is_no_fault(good: Evidence) -> None:
    assert failed(with_block(good)) == []


def test_a_first_mask_that_spans_two_objects_fails(good: Evidence) -> None:
    both = with_block(good)
    masks = both.masks.copy()
    masks[0, 0] |= masks[0, 1]
    assert "parts that lie apart" in fault(replace(both, masks=masks[:, :1]))
    masks = both.masks.copy()
    masks[0, 1] = masks[0, 0]
    assert "objects 1 and 2 overlap" in fault(replace(both, masks=masks))


def test_a_first_mask_unlike_the_next_fails(good: Evidence) -> None:
    masks = good.masks.copy()
    masks[0, 0] = False
    masks[0, 0, 14:20, 40:52] = True  # half of the disk
    assert "disagrees with that of frame 1" in fault(replace(good, masks=masks))


def test_a_tracker_that_loses_its_object_fails(good: Evidence) -> None:
    lost = good.masks.copy()
    lost[40:] = True  # the whole picture
    assert "same object" in failed(replace(good, masks=lost))
    assert value(replace(good, masks=lost), "same object") > 20
    leaked = good.masks.copy()
    rows, columns = np.nonzero(leaked[50, 0])
    leaked[50:, 0, rows.min() : rows.max() + 12, columns.min() - 12 : columns.max() + 13] = True
    assert "loses its object" in fault(replace(good, masks=leaked))


def test_a_mask_that_leaps_to_another_object_fails(good: Evidence) -> None:
    both = with_block(good)
    swapped = both.masks.copy()
    swapped[10:] = swapped[10:, ::-1]
    assert "leaps to another place in frame 10" in fault(replace(both, masks=swapped))


def test_a_rate_that_nothing_confirms_fails(good: Evidence) -> None:
    untagged = replace(good, rate_known=False)
    assert failed(untagged) == ["120 fps"]
    says = next(c.says for c in run_checks(untagged) if c.name == "120 fps")
    assert "confirm the rate in step 1" in says
    metres = 0.5 * 9.81 * (FALL / 120) ** 2
    assert failed(replace(untagged, drop_height_m=metres)) == []  # the measured g tells
    assert failed(replace(untagged, drop_height_m=metres / 4)) == ["acceleration"]


def test_slow_motion_gives_an_implausible_picture_height(good: Evidence) -> None:
    """A fall at 240 fps, saved at 120: a picture of 1.8 m seems 7.3 m high."""
    masks, still = good.masks, good.masks[:1]
    slowed = np.concatenate([still, np.repeat(masks[1:70], 2, axis=0)])
    assert "acceleration" in failed(replace(good, masks=slowed))


def test_every_check_has_a_picture(good: Evidence) -> None:
    for check in run_checks(good):
        with Image.open(io.BytesIO(picture(check, good))) as image:
            assert image.size == (400, 200) and image.format == "PNG"
            assert len(image.convert("L").getcolors()) > 5
