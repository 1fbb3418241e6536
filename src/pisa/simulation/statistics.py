"""Statistics of a data set's scenes, to hold against the prior (paper section 4.1, Appendix K)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kstest

from pisa.errors import PisaError
from pisa.simulation.scene import Prior

Values = dict[str, NDArray[np.floating]]

LABELS = {
    "num_dropping": "dropping objects in a clip",
    "drop_height_m": "drop height of the lowest point (m)",
    "camera_height_m": "camera height (m)",
    "size_m": "longest side of an object (m)",
    "num_pile": "objects in all piles of a clip",
    "camera_back_m": "steps the camera went back (m)",
    "depth_m": "dropping object's distance along the view (m)",
    "contact_s": "time of first contact (s)",
}


def scene_values(records: Sequence[Mapping[str, Any]], prior: Prior) -> Values:
    """Numbers out of ``clip_info.json`` records, one array per key of ``LABELS``.

    Raises ``PisaError`` for clips that were not simulated here.
    """
    values: dict[str, list[float]] = {key: [] for key in LABELS}
    for record in records:
        if "objects" not in record or "camera" not in record:
            raise PisaError("this data set does not say what its scenes were drawn from")
        _, y, z = record["camera"]["position_m"]
        dropping = [o for o in record["objects"] if o["dropping"]]
        values["num_dropping"].append(len(dropping))
        values["num_pile"].append(len(record["objects"]) - len(dropping))
        values["drop_height_m"] += record["drop_heights_m"]
        values["camera_height_m"].append(z)
        values["camera_back_m"].append(-y - prior.camera_distance_m)
        values["size_m"] += [o["size_m"] for o in record["objects"]]
        values["depth_m"] += [o["position_m"][1] - y for o in dropping]
        values["contact_s"] += [t for t in record["contact_s"] if t is not None]
    return {key: np.asarray(v, float) for key, v in values.items()}


def prior_ranges(prior: Prior) -> dict[str, tuple[float, float]]:
    """The keys that the prior draws uniformly, with their range."""
    ranges: dict[str, tuple[float, float]] = {
        "num_dropping": prior.num_dropping,
        "drop_height_m": prior.drop_height_m,
        "camera_height_m": prior.camera_height_m,
    }
    if prior.size_m is not None:
        ranges["size_m"] = prior.size_m
    return {key: (float(low), float(high)) for key, (low, high) in ranges.items()}


def uniformity(values: Values, prior: Prior) -> dict[str, float]:
    """For each uniform key the probability (Kolmogorov-Smirnov) of a set that is further off.

    Whole numbers are spread over the unit interval around them first.
    """
    rng = np.random.default_rng(0)
    result = {}
    for key, (low, high) in prior_ranges(prior).items():
        sample = values[key]
        if key.startswith("num_"):
            sample, low, high = sample + rng.uniform(-0.5, 0.5, len(sample)), low - 0.5, high + 0.5
        result[key] = float(kstest(sample, "uniform", args=(low, high - low)).pvalue)
    return result
