"""Section 5.2, test (2): drop times of 128 samples of 50 images, and how many fit (Figure 8)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from pisa.bench.references import VideoSource
from pisa.io.progress import clip_progress
from pisa.section5.drop_time import (
    TRUTH_DRAWS,
    DropTimes,
    calibration_curve,
    crps_s,
    exact_energy,
    exact_ks,
    holm,
    naive_ks,
    to_frames,
    two_sample_ks,
)
from pisa.section5.impact import Drop, count_rows, count_statuses, read_drop
from pisa.section5.study import StudyClip, Subject, sampled_masks, true_masks
from pisa.simulation.produce import DataSetSpec

LEVEL = 0.05  # paper section 5.2
CURVE_LEVELS = tuple(np.linspace(0, 1, 21).round(2).tolist())
_EVEN = "even"  # among the tracks
Tracks = dict[str, np.ndarray]


def drop_tracks(
    subject: Subject,
    codec: VideoSource,
    spec: DataSetSpec,
    items: Sequence[StudyClip],
    *,
    num_samples: int,
    truth_samples: int,
    even_drops: int,
) -> Tracks:
    """``count_rows`` of every sample in [images, samples, frames, h], by row of the results.

    ``truth_samples`` of each first frame are simulated too, and tracked alike, as they are (row
    ``truth``) and encoded and decoded (row ``codec``). ``even_drops`` are simulated at evenly
    spaced depths. 0 leaves either out.
    """
    tracks: dict[str, list[list[np.ndarray]]] = {}
    each = even_drops + 2 * truth_samples + num_samples
    with clip_progress() as progress:
        task = progress.add_task("drop times", total=len(items) * each)
        for item in items:
            drops = {
                _EVEN: true_masks(subject, spec, item, even_drops, even_depths=True),
                "truth": true_masks(subject, spec, item, truth_samples),
                "codec": true_masks(subject, spec, item, truth_samples, videos=codec),
                subject.row: sampled_masks(subject, item.clip, num_samples),
            }
            for name, clips in drops.items():
                found = []
                for masks in clips:
                    found.append(count_rows(masks))
                    progress.advance(task)
                if found:
                    tracks.setdefault(name, []).append(found)
    return {name: np.array(found) for name, found in tracks.items()}


def drop_models(items: Sequence[StudyClip], tracks: Tracks) -> dict[str, Any]:
    """The tests of each row's drop times, as in drop_time.json."""
    drops = {
        name: [[read_drop(track) for track in image] for image in images]
        for name, images in tracks.items()
    }
    even = drops.pop(_EVEN, None)
    return {name: _fit(items, found, even) for name, found in drops.items()}


def _fit(
    items: Sequence[StudyClip],
    drops: Sequence[Sequence[Drop]],
    even: Sequence[Sequence[Drop]] | None,
) -> dict[str, Any]:
    clip = items[0].clip
    num_frames, fps_hz = clip.video.shape[1], clip.fps_hz
    fits = []
    for i, (item, found) in enumerate(zip(items, drops, strict=True)):
        frames = np.array([drop.category(num_frames) for drop in found])
        read_shares = None
        if even is not None:
            read = [drop.category(num_frames) for drop in even[i]]
            read_shares = np.bincount(read, minlength=num_frames + 1) / len(read)
        fits.append(
            fit_image(
                item.clip.name,
                frames,
                item.drop_times,
                fps_hz,
                num_frames,
                read_shares=read_shares,
                statuses=count_statuses(found),
                seed=i,
            )
        )
    return document(correct(fits), fps_hz, num_frames)


@dataclass(frozen=True)
class ImageFit:
    """One first frame. Times in seconds; ``frames`` of the samples, the last one is censored."""

    image: str
    slope: float
    camera_height_m: float
    depth_range_m: tuple[float, float]
    bounds_s: tuple[float, float]
    frames: tuple[int, ...]
    shares: tuple[float, ...]  # of every frame, in the truth
    statuses: dict[str, int]
    ks: float
    p_ks: float  # calibrated
    p_ks_holm: float
    p_two_sample: float  # the paper's test
    p_naive: float
    energy: float
    p_energy: float
    p_energy_holm: float
    crps_s: float
    crps_best_s: float
    calibration: tuple[float, ...]  # at CURVE_LEVELS
    read_shares: tuple[float, ...] | None = None  # of every frame, as true drops are read
    ks_read: float | None = None
    p_read: float | None = None  # calibrated, against read_shares


def fit_image(
    image: str,
    frames: Int[np.ndarray, " n"],
    truth: DropTimes,
    fps_hz: float,
    num_frames: int,
    *,
    read_shares: Float[np.ndarray, " k"] | None = None,
    statuses: dict[str, int] | None = None,
    seed: int = 0,
) -> ImageFit:
    """All tests of one image; Holm's correction is left to ``correct``.

    With ``read_shares``, those that true drops have when they are read as the samples are, there
    is a test free of the errors of that reading, which are the same for both.

    Raises ``PisaError`` with fewer samples than the tests need.
    """
    rng = np.random.default_rng([13, seed])
    shares = truth.frame_shares(fps_hz, num_frames)
    drawn = to_frames(truth.sample(TRUTH_DRAWS, rng), fps_hz, num_frames)
    ks, p_ks = exact_ks(frames, shares, rng)
    energy, p_energy = exact_energy(frames, shares, fps_hz, rng)
    score, best = crps_s(frames, shares, fps_hz)
    fit = ImageFit(
        image=image,
        slope=truth.ray.slope,
        camera_height_m=truth.ray.camera_height_m,
        depth_range_m=truth.depth_m,
        bounds_s=truth.bounds_s,
        frames=tuple(frames.tolist()),
        shares=tuple(shares.tolist()),
        statuses=statuses or {},
        ks=ks,
        p_ks=p_ks,
        p_ks_holm=p_ks,
        p_two_sample=two_sample_ks(frames, drawn),
        p_naive=naive_ks(frames, truth, fps_hz),
        energy=energy,
        p_energy=p_energy,
        p_energy_holm=p_energy,
        crps_s=score,
        crps_best_s=best,
        calibration=tuple(calibration_curve(frames, shares, np.array(CURVE_LEVELS)).tolist()),
    )
    if read_shares is None:
        return fit
    ks_read, p_read = exact_ks(frames, read_shares, rng)
    return replace(fit, read_shares=tuple(read_shares.tolist()), ks_read=ks_read, p_read=p_read)


def correct(fits: Sequence[ImageFit]) -> list[ImageFit]:
    """The fits with Holm's correction over all images."""
    ks = holm(np.array([fit.p_ks for fit in fits])).tolist()
    energy = holm(np.array([fit.p_energy for fit in fits])).tolist()
    return [
        replace(fit, p_ks_holm=k, p_energy_holm=e)
        for fit, k, e in zip(fits, ks, energy, strict=True)
    ]


def summarise(fits: Sequence[ImageFit]) -> dict[str, Any]:
    """How many images pass each test at 0.05, and means over the images."""
    tests = ("p_ks", "p_ks_holm", "p_two_sample", "p_naive", "p_energy", "p_energy_holm")
    passed = {name: sum(getattr(fit, name) >= LEVEL for fit in fits) for name in tests}
    read = [fit.p_read for fit in fits if fit.p_read is not None]
    if read:
        passed["p_read"] = sum(p >= LEVEL for p in read)
    statuses = [fit.statuses for fit in fits]
    return {
        "images": len(fits),
        "samples": sum(len(fit.frames) for fit in fits),
        "level": LEVEL,
        "passed": passed,
        "statuses": {key: sum(s.get(key, 0) for s in statuses) for key in statuses[0]},
        "mean_ks": float(np.mean([fit.ks for fit in fits])),
        "mean_energy": float(np.mean([fit.energy for fit in fits])),
        "mean_crps_s": float(np.mean([fit.crps_s for fit in fits])),
        "mean_crps_best_s": float(np.mean([fit.crps_best_s for fit in fits])),
        "calibration_levels": list(CURVE_LEVELS),
        "calibration": np.mean([fit.calibration for fit in fits], axis=0).tolist(),
    }


def document(fits: Sequence[ImageFit], fps_hz: float, num_frames: int) -> dict[str, Any]:
    """The saved results of one model: JSON values only, enough to draw Figure 8."""
    return {
        "fps_hz": fps_hz,
        "num_frames": num_frames,
        "summary": summarise(fits),
        "images": [asdict(fit) for fit in fits],
    }
