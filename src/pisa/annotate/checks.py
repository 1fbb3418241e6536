"""The requirements of Table 3 and section 3.1 of the paper, each as a number with a limit.

``pisa.annotate.check_pictures`` draws them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy.ndimage import binary_dilation, label

from pisa.annotate.motion import MAX_CLIP_S, SEEN_AFTER, leaves, onset_near
from pisa.annotate.recording import FPS_HZ
from pisa.metrics.readout import read_out
from pisa.metrics.time_error import impact_frame
from pisa.ops.masks import bounding_box, centroids, iou
from pisa.types import GRAVITY_M_S2

CAMERA_PX = 1.0  # of a picture 256 px wide
REST_MS = (0.0, 100.0)  # motion shows some 40 ms after the release
GAP_MS = 12.5  # one and a half periods of 120 Hz
GRAVITY_OFF = 0.25  # with a measured drop height
HEIGHT_M = (0.3, 4.0)  # of the world in the picture, without one: a table top to a stairwell
MISFIT = 0.05  # root mean square of the parabola's residual, of the fall
AREA_RATIO = 3.0  # of a mask to its first one, either way: a turning object changes less
FIRST_IOU = 0.7  # of an object's first two masks: at 120 fps it has hardly moved
PART = 0.2  # of the mask's area; a second part this large belongs to something else


@dataclass(frozen=True)
class Check:
    """``value`` is NaN where it cannot be measured, which is not a pass."""

    name: str
    value: float
    unit: str
    limit: str
    passed: bool
    says: str


@dataclass(frozen=True)
class Evidence:
    """Measurements behind the checks and their pictures.

    ``frames`` and ``masks`` are small ``[T, H, W, 3]`` and ``[T, N, H, W]``; ``signal`` is the
    recording's motion (``motion_signal``), ``intervals_ms`` the times between the file's frames
    inside the clip, in real time. ``rate_known`` is False where neither a tag of the file nor the
    user says at what rate it was captured.
    """

    frames: UInt8[np.ndarray, "t h w 3"]
    masks: Bool[np.ndarray, "t n h w"]
    dropping: int
    signal: Float[np.ndarray, " s"]
    start: int
    intervals_ms: Float[np.ndarray, " u"]
    repeated: int
    drop_height_m: float | None = None
    rate_known: bool = True

    @property
    def track(self) -> Bool[np.ndarray, "t h w"]:
        return self.masks[:, self.dropping]


@dataclass(frozen=True)
class Fall:
    """A parabola through the centroid before the impact: y = y0 + v t + g t^2 / 2, in frames."""

    y_px: Float[np.ndarray, " t"]
    impact: int | None
    y0_px: float
    speed_px: float
    gravity_px: float
    misfit: float  # root mean square residual / distance fallen

    def curve(self, t: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        return self.y0_px + self.speed_px * t + self.gravity_px * t**2 / 2


def run_checks(evidence: Evidence) -> list[Check]:
    """All checks, in the order in which the page shows them."""
    return [
        camera_still(evidence),
        at_rest(evidence),
        frame_rate(evidence),
        visible(evidence),
        same_object(evidence),
        acceleration(evidence),
    ]


def camera_still(evidence: Evidence) -> Check:
    """Largest shift of the background against frame 0, in pixels of a 256 px picture."""
    shift = background_shift_px(evidence.frames, evidence.masks)
    value = float(np.nanmax(np.hypot(*shift.T))) * 256 / evidence.frames.shape[2]
    passed = value <= CAMERA_PX
    says = "the background stays in place" if passed else "the camera moves; use a tripod"
    return Check("camera still", value, "px of 256", f"at most {CAMERA_PX:g}", passed, says)


def at_rest(evidence: Evidence) -> Check:
    """When motion begins, against the start; before it (negative), the clip starts in the fall."""
    onset = onset_near(evidence.signal, evidence.start)
    late_ms = float("nan") if onset is None else (onset - evidence.start) * 1000 / FPS_HZ
    passed = REST_MS[0] <= late_ms <= REST_MS[1]
    says = "it hangs still, and falls at once"
    if onset is None:
        says = "nothing moves after the start"
    elif late_ms < REST_MS[0]:
        says = f"it moves already, for {-late_ms:.0f} ms; move the start"
    elif not passed:
        says = "it falls only later; move the start"
    limit = f"{REST_MS[0]:g} to {REST_MS[1]:g} until motion is seen"
    return Check("at rest in frame 0", late_ms, "ms", limit, passed, says)


def frame_rate(evidence: Evidence) -> Check:
    """Frames per second of real time, the longest gap, and frames that had to be repeated."""
    known = len(evidence.intervals_ms) > 0
    rate = float(1000 / np.median(evidence.intervals_ms)) if known else float("nan")
    gap = float(evidence.intervals_ms.max()) if known else float("nan")
    # Slow motion saved without a tag looks like any other video; a drop height reveals it.
    known_rate = evidence.rate_known or evidence.drop_height_m is not None
    passed = rate >= 0.97 * FPS_HZ and gap <= GAP_MS and evidence.repeated == 0 and known_rate
    says = f"longest gap {gap:.1f} ms, {evidence.repeated} frames repeated"
    if not known_rate:
        says += (
            "; the file does not say at what rate it was captured: confirm the rate in step 1, or "
            "measure the drop height"
        )
    return Check("120 fps", rate, "fps", f"at least {FPS_HZ:g}, no gaps", passed, says)


def visible(evidence: Evidence) -> Check:
    """Share of frames that show the dropping object whole, inside the crop."""
    bad = leaves(evidence.track)
    value = 100 * (1 - len(bad) / len(evidence.track))
    seconds = len(evidence.track) / FPS_HZ
    says = f"in all {len(evidence.track)} frames"
    if bad:
        says = f"it touches the crop's edge or is lost in {len(bad)} frames, first in {bad[0]}"
    if seconds > MAX_CLIP_S:
        says += f"; the clip is longer than {MAX_CLIP_S:g} s"
    return Check("visible throughout", value, "% of frames", "100", not bad, says)


def same_object(evidence: Evidence) -> Check:
    """Largest change of a mask's area against frame 0, and whether each mask stays on its object.

    The first mask matters most: a benchmark prompts its tracker with it. It must be one piece,
    share no pixel with another object's, and agree with the mask of frame 1.
    """
    areas = np.count_nonzero(evidence.masks, axis=(2, 3)).astype(float)
    first = np.where(areas[0] > 0, areas[0], np.nan)
    grown = float(np.nanmax(areas / first)) if np.isfinite(first).any() else float("nan")
    seen = areas[:, evidence.dropping]
    seen = seen[seen > 0]  # lost frames fail ``visible``
    shrunk = float(first[evidence.dropping] / seen.min()) if len(seen) else float("nan")
    value = float(np.nanmax([grown, shrunk])) if np.isfinite([grown, shrunk]).any() else np.nan
    fault = _first_mask_fault(evidence.masks) or _jump_fault(evidence.masks)
    says = fault or "each mask keeps to its object"
    if not fault and not value <= AREA_RATIO:
        says = "a mask grows or shrinks: the tracker loses its object; add points where it does"
    passed = bool(value <= AREA_RATIO) and not fault
    limit = f"at most {AREA_RATIO:g}, one object in each first mask, no jumps"
    return Check("same object", value, "x the first area", limit, passed, says)


def _first_mask_fault(masks: Bool[np.ndarray, "t n h w"]) -> str:
    """A sentence about first masks that don't cover one object each; empty where all do."""
    for index, mask in enumerate(masks[0]):
        parts, _ = label(mask, structure=np.ones((3, 3)))
        sizes = np.sort(np.bincount(parts.ravel())[1:])
        if len(sizes) > 1 and sizes[-2] >= PART * sizes.sum():
            return f"the first mask of object {index + 1} has parts that lie apart: two objects?"
        for other in range(index):
            if (mask & masks[0, other]).any():
                return f"the first masks of objects {other + 1} and {index + 1} overlap"
        if len(masks) > 1 and masks[1, index].any() and iou(mask, masks[1, index]) < FIRST_IOU:
            agreement = iou(mask, masks[1, index])
            return (
                f"the first mask of object {index + 1} disagrees with that of frame 1 (IoU "
                f"{agreement:.2f}): does it cover one object, and all of it?"
            )
    return ""


def _jump_fault(masks: Bool[np.ndarray, "t n h w"]) -> str:
    """A sentence about a mask that leaps to another place; empty where none does.

    A frame may be off the straight continuation of the two before it by the object's size, and by
    twice its speed, because a bounce at most reverses it.
    """
    for index in range(masks.shape[1]):
        centres = centroids(masks[:, index])
        box = bounding_box(masks[0, index])
        if box is None:
            continue
        size = float(np.hypot(*(side.stop - side.start for side in box)))
        steps = np.diff(centres, axis=0)
        off = np.hypot(*np.diff(steps, axis=0).T)
        allowed = size + 2 * np.hypot(*steps[:-1].T)
        leaps = np.flatnonzero(off > allowed)
        if len(leaps):
            return f"the mask of object {index + 1} leaps to another place in frame {leaps[0] + 2}"
    return ""


def acceleration(evidence: Evidence) -> Check:
    """With a drop height: g in m/s^2. Without: the height of the world in the picture for 9.81."""
    fall = fit_fall(evidence.track)
    read = read_out(evidence.track, FPS_HZ)
    height_px = evidence.track.shape[1]
    if evidence.drop_height_m is None:
        value = GRAVITY_M_S2 * height_px / (read.g_px * FPS_HZ**2) if read.g_px > 0 else np.nan
        plausible = bool(HEIGHT_M[0] <= value <= HEIGHT_M[1])
        unit, limit = "m picture height", f"{HEIGHT_M[0]:g} to {HEIGHT_M[1]:g}"
    else:
        fallen = fall.y_px[fall.impact - 1 if fall.impact else -1] - fall.y0_px
        value = read.g_px * FPS_HZ**2 * evidence.drop_height_m / fallen
        plausible = bool(abs(value / GRAVITY_M_S2 - 1) <= GRAVITY_OFF)
        unit, limit = "m/s²", f"{GRAVITY_M_S2} ± {100 * GRAVITY_OFF:.0f} %"
    even = bool(fall.misfit <= MISFIT)
    says = f"the parabola fits to {100 * fall.misfit:.1f} % of the fall"
    if not even:
        says += f", worse than {100 * MISFIT:.0f} %: no free fall, or masks that jump"
    return Check("acceleration", float(value), unit, limit, plausible and even, says)


def fit_fall(track: Bool[np.ndarray, "t h w"]) -> Fall:
    """The parabola of the frames before the impact; NaN where nothing falls."""
    y_px = centroids(track)[:, 1]
    impact = impact_frame(y_px, 0.02 * track.shape[1])
    t = np.flatnonzero(~np.isnan(y_px[:impact]))
    if len(t) < 5 or y_px[t].max() - y_px[t[0]] < 0.04 * track.shape[1]:
        return Fall(y_px, impact, *[float("nan")] * 4)
    gravity, speed, start = np.polynomial.Polynomial.fit(t, y_px[t], 2).convert().coef[::-1]
    fall = Fall(y_px, impact, float(start), float(speed), float(2 * gravity), 0.0)
    residual = y_px[t] - fall.curve(t)
    misfit = float(np.sqrt((residual**2).mean()) / (y_px[t].max() - y_px[t].min()))
    usable = gravity > 0
    rest = (fall.y0_px, fall.speed_px, fall.gravity_px) if usable else (float("nan"),) * 3
    return Fall(y_px, impact, *rest, misfit)


def background_shift_px(
    frames: UInt8[np.ndarray, "t h w 3"], masks: Bool[np.ndarray, "t n h w"]
) -> Float[np.ndarray, "t 2"]:
    """Shift (dx, dy) of the background against frame 0, by least squares on the gradients.

    One step of Lucas-Kanade over the whole picture: right for the shifts below some two pixels
    that a tripod should have, too small for larger ones, which fail all the same.
    """
    near = masks.any(axis=(0, 1))
    still = ~binary_dilation(near, iterations=2)
    still[[0, -1]] = still[:, [0, -1]] = False
    if still.sum() < 50:
        return np.full((len(frames), 2), np.nan)
    first = frames[0].mean(axis=-1)
    dy, dx = np.gradient(first)
    slopes = np.stack([dx[still], dy[still]], axis=1)
    inverse = np.linalg.pinv(slopes)
    return np.array([inverse @ (first - picture.mean(axis=-1))[still] for picture in frames])


def late_frames(evidence: Evidence) -> int | None:
    """By how many frames the start should move (positive: later); None where nothing moves."""
    onset = onset_near(evidence.signal, evidence.start)
    return None if onset is None else onset - SEEN_AFTER - evidence.start
