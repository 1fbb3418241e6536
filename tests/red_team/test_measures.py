"""The measures beyond position respond to the attacks they are meant to catch, and to no other."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from pisa.ops.video import to_frames
from pisa.simulation.fast import FastSimulator
from pisa.simulation.scene import Prior
from pisa.types import Clip
from tests.red_team.attacks import ATTACKS, EXTRA_ATTACKS
from tests.red_team.measures import VIDEO_ATTACKS, caught, measure_table, measured

WORSE = {
    "recolour": "colour_change",
    "smooth": "texture_change",
    "dissolve": "colour_change",
    "pan": "background_change",
    "repaint": "background_change",
    "dim": "background_change",
}


@cache
def simulated() -> Clip:
    prior = Prior(size_m=None, span_px=(12.0, 20.0))
    return FastSimulator(prior).make_clip(8_100_000, "test", "x")[0]


def values(name: str, strength: float) -> dict[str, float]:
    clip = simulated()
    frames, track = to_frames(clip.video), clip.masks[-1].numpy()
    return measured(*VIDEO_ATTACKS[name](frames, track, strength), clip)


@pytest.mark.parametrize(("attack", "measure"), WORSE.items())
def test_each_attack_on_pixels_raises_its_measure_the_more_the_stronger_it_is(
    attack: str, measure: str
) -> None:
    found = [values(attack, strength)[measure] for strength in (0.0, 0.5, 1.0)]
    assert found[0] < found[1] < found[2]


def test_strength_zero_changes_nothing() -> None:
    clip = simulated()
    frames, track = to_frames(clip.video), clip.masks[-1].numpy()
    for attack in VIDEO_ATTACKS.values():
        changed, same = attack(frames, track, 0.0)
        np.testing.assert_array_equal(changed, frames)
        np.testing.assert_array_equal(same, track)


def test_a_shadow_changes_the_picture_and_no_measure() -> None:
    with_shadow, without = values("shadow", 1.0), values("shadow", 0.0)
    frames, track = to_frames(simulated().video), simulated().masks[-1].numpy()
    assert (VIDEO_ATTACKS["shadow"](frames, track, 1.0)[0] != frames).sum() > 500
    for name, value in without.items():
        assert with_shadow[name] == pytest.approx(value, abs=0.003, nan_ok=True), name


@pytest.mark.parametrize("attack", ["vanish", "flicker"])
def test_a_missing_object_has_no_area(attack: str) -> None:
    clip = simulated()
    wrong = (ATTACKS | EXTRA_ATTACKS)[attack](clip.masks.numpy().swapaxes(0, 1), 1.0)
    assert measured(to_frames(clip.video), wrong, clip)["area_kept"] < 0.05


def rows(**columns: list[float]) -> list[dict[str, float]]:
    everything = {"colour_change": 0.0, "texture_change": 0.0, "background_change": 0.0}
    everything |= {"brightness_change": 0.0, "high_frequency_change": 0.0}
    everything |= {"area_kept": 1.0, "piece_share": 1.0, "path_length": 1.0, "g_m_s2": 9.81}
    count = len(next(iter(columns.values())))
    return [everything | {k: v[i] for k, v in columns.items()} for i in range(count)]


def test_caught_is_worse_than_95_percent_of_the_untouched_clips() -> None:
    untouched = rows(colour_change=list(np.arange(101) / 100), g_m_s2=list(np.arange(101.0)))
    attacked = rows(colour_change=[0.94, 0.96, 1.5, 0.0], g_m_s2=[1.0, 50.0, 99.0, np.nan])
    partly = [{"area_kept": 0.5}]
    shares = caught({"untouched": untouched, "worse": attacked, "partly": partly})
    assert shares["worse"]["colour_change"] == 0.5  # a low value is no fault
    assert shares["worse"]["g_m_s2"] == 0.5  # on either side; undefined is not caught
    assert shares["worse"]["area_kept"] == 0.0
    assert shares["partly"] == {"area_kept": 1.0}
    lines = measure_table({"untouched": untouched, "partly": partly}).splitlines()
    assert lines[-1] == "| partly |  |  |  |  |  | **100** |  |  |  |"
