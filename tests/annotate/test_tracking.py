"""From clicks to masks: with a tracker that takes points, and with one that takes none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pisa.annotate.motion import Crop
from pisa.annotate.point_masks import masks_from_points
from pisa.annotate.store import Click, ClipDraft, ObjectDraft
from pisa.annotate.tracking import (
    ClipTracker,
    frame_windows,
    seen_size,
    to_clip_px,
    track_windows,
)
from pisa.data.image_files import frame_paths
from pisa.errors import PisaError
from pisa.perception.embedded_segmentation import EmbeddedTracker
from pisa.types import ObjectPoints
from tests.annotate import drawn
from tests.annotate.colour import Colour

START = drawn.RELEASES[0]
CROP = Crop(40, 0, 240)
DISK = Click(0, drawn.X[0], drawn.TOP, True)
BLOCK = Click(0, 57, 187, True)


@pytest.fixture(scope="module")
def frames(footage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("frames")
    for t, frame in enumerate(footage.frames[START : START + 70]):
        Image.fromarray(frame[:, 40:280]).save(folder / f"{t:05d}.jpg", quality=95)
    return folder


def clip(*objects: tuple[Click, ...]) -> ClipDraft:
    return ClipDraft(
        "a", "a.mp4", START, START + 70, CROP, tuple(ObjectDraft(clicks) for clicks in objects)
    )


def iou(found: np.ndarray, footage, t: int) -> float:
    truth = footage.disk[START + t, :, 40:280]
    side = found.shape[-1]
    rows = ((np.arange(side) + 0.5) * 240 / side).astype(int)
    small = truth[rows][:, rows]
    return float((found & small).sum() / (found | small).sum())


@pytest.mark.parametrize("tracker", [Colour(), EmbeddedTracker.from_pretrained()])
def test_the_disk_is_followed(tracker, frames: Path, footage) -> None:
    side = 64
    steps: list[float] = []
    masks = ClipTracker(tracker, (side, side), "cpu").track(
        frames, clip((DISK,), (BLOCK,)), steps.append
    )
    assert masks.shape == (70, 2, side, side)
    assert min(iou(masks[t, 0], footage, t) for t in range(70)) > 0.7
    block = masks[:, 1].mean(axis=(1, 2))
    assert block == pytest.approx((33 * 35) / 240**2, rel=0.35)  # it is always at rest
    assert steps == sorted(steps)


@pytest.mark.parametrize("tracker", [Colour(), EmbeddedTracker.from_pretrained()])
def test_windows_change_nothing(tracker, frames: Path, monkeypatch) -> None:
    """A window at a time gives the masks of the whole clip at once."""
    clips = clip((DISK,), (BLOCK, replace(BLOCK, frame=30)))
    windowed = ClipTracker(tracker, (64, 64), "cpu").track(frames, clips)
    monkeypatch.setattr("pisa.annotate.tracking.WINDOW", 1000)
    whole = ClipTracker(tracker, (64, 64), "cpu").track(frames, clips)
    assert (windowed == whole).mean() > 0.9999  # convolutions round differently by batch size


def test_masks_prompt_a_tracker_in_any_frame(frames: Path, footage) -> None:
    """From the frame of its mask on; before it, an object is absent."""
    disk = footage.disk[START + 9, :, 40:280]
    block = np.zeros((240, 240), dtype=bool)
    block[170:205, 0:33] = True
    windows = frame_windows(frame_paths(frames), (64, 64))
    tracker = EmbeddedTracker.from_pretrained()
    prompts = {9: {1: disk}, 0: {0: block}}
    masks = np.concatenate(list(track_windows(tracker, windows, prompts, 3, 70)))
    assert masks.shape == (70, 3, 64, 64)
    assert not masks[:9, 1].any() and not masks[:, 2].any() and masks[:, 0].any(axis=(1, 2)).all()
    assert min(iou(masks[t, 1], footage, t) for t in range(9, 70)) > 0.7


def test_an_empty_mask_is_no_prompt(frames: Path) -> None:
    windows = frame_windows(frame_paths(frames), (64, 64))
    prompts = {12: {1: np.zeros((240, 240), dtype=bool)}}
    with pytest.raises(PisaError, match="prompt of object 2 in frame 12"):
        list(track_windows(EmbeddedTracker.from_pretrained(), windows, prompts, 2, 70))


def test_a_correction_counts_from_its_frame_on(frames: Path, footage) -> None:
    tracker = Colour()
    wrong = replace(DISK, x=200.0, y=100.0)  # the wall
    right = Click(30, drawn.X[0], drawn.height_px(START + 30), True)
    masks = ClipTracker(tracker, (64, 64), "cpu").track(frames, clip((wrong, right)))
    assert tracker.lengths == [70, 40]
    assert iou(masks[29, 0], footage, 29) < 0.2
    assert min(iou(masks[t, 0], footage, t) for t in range(30, 70)) > 0.7


def test_a_correction_leaves_the_other_objects(frames: Path) -> None:
    plain = ClipTracker(Colour(), (64, 64), "cpu").track(frames, clip((DISK,), (BLOCK,)))
    right = Click(30, drawn.X[0], drawn.height_px(START + 30), True)
    corrected = ClipTracker(Colour(), (64, 64), "cpu").track(frames, clip((DISK, right), (BLOCK,)))
    assert np.array_equal(plain[:, 1], corrected[:, 1])


def test_preview_shows_one_frame(frames: Path, footage) -> None:
    tracker = Colour()
    masks = ClipTracker(tracker, (64, 64), "cpu").preview(frames, clip((DISK,), ()))
    assert tracker.lengths == [1]
    assert iou(masks[0], footage, 0) > 0.7 and not masks[1].any()


@pytest.mark.parametrize(
    ("objects", "says"),
    [
        (((),), "object 1 has no point"),
        (((DISK,), ()), "object 2 has no point"),
        (((replace(DISK, positive=False),),), "only negative points in frame 0"),
        (((DISK, Click(9, 60, 60, False)),), "only negative points in frame 9"),
    ],
)
def test_missing_points_are_named(frames: Path, objects, says: str) -> None:
    with pytest.raises(PisaError, match=says):
        ClipTracker(Colour(), (64, 64), "cpu").track(frames, clip(*objects))


def test_points_on_another_object_keep_like_colours_apart() -> None:
    picture = np.full((40, 40, 3), 90, dtype=np.uint8)
    picture[10:30, 4:20] = (200, 40, 40)
    picture[10:30, 20:36] = (215, 60, 40)  # touches the first, nearly the same red
    left, right = masks_from_points(picture, [ObjectPoints(((10, 20),)), ObjectPoints(((30, 20),))])
    assert not (left & right).any()
    assert left[10:30, 4:20].mean() > 0.95 and right[10:30, 20:36].mean() > 0.95


@pytest.mark.parametrize("apart", [9, 12, 20])
@pytest.mark.parametrize("drop", [0, 38])
def test_two_equal_objects_get_a_mask_each(apart: int, drop: int) -> None:
    picture = np.full((64, 64, 3), (150, 170, 190), dtype=np.uint8)
    truth, points = np.zeros((2, 64, 64), dtype=bool), []
    for index, (x, y) in enumerate(((28 - apart, 44), (28, 44 - drop))):
        picture[y : y + 9, x : x + 9] = (200, 40, 40)
        truth[index, y : y + 9, x : x + 9] = True
        points.append((x + 4, y + 4))
    found = masks_from_points(picture, [ObjectPoints((point,)) for point in points])
    overlap = [(a & b).sum() / (a | b).sum() for a, b in zip(found, truth, strict=True)]
    assert min(overlap) > 0.9
    alone = masks_from_points(picture, [ObjectPoints((points[0],), (points[1],))])
    assert (alone[0] & truth[0]).sum() / (alone[0] | truth[0]).sum() > 0.9


def test_a_point_at_the_edge_takes_the_colour_of_its_object() -> None:
    picture = np.full((64, 64, 3), (150, 170, 190), dtype=np.uint8)
    picture[44:53, 16:25] = picture[6:15, 28:37] = (200, 40, 40)
    found = masks_from_points(picture, [ObjectPoints(((16, 48),)), ObjectPoints(((32, 10),))])
    assert found.sum(axis=(1, 2)).tolist() == [81, 81]
    assert found[0, 44:53, 16:25].all() and found[1, 6:15, 28:37].all()


def test_a_point_outside_is_refused() -> None:
    picture = np.zeros((40, 40, 3), dtype=np.uint8)
    with pytest.raises(PisaError, match="outside of the crop"):
        masks_from_points(picture, [ObjectPoints(((55, 3),))])


def test_places_are_scaled_by_pixel_centres() -> None:
    assert to_clip_px(40, 0, CROP, 240) == (0, 0)
    assert to_clip_px(40.5, 0.5, CROP, 120) == (0, 0)


def test_what_a_tracker_sees() -> None:
    assert seen_size(Colour(), None) == (64, 64)
    assert seen_size(Colour(), [128, 128]) == (128, 128)
