"""The priors of section 5: one first frame with many drop times, and the depth-height grid."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, binary_erosion
from scipy.stats import kstest

from pisa.errors import PisaError
from pisa.ops.drop_ray import drop_time_s
from pisa.simulation.ambiguous import AmbiguousPrior, depth_of, ray_of
from pisa.simulation.fast import FastSimulator
from pisa.simulation.ood import OodPrior
from pisa.simulation.physics import simulate_fall
from pisa.simulation.scene import Prior

TINY = Prior(num_dropping=(1, 2), num_pile=(0, 2), size_m=None, span_px=(9.0, 20.0))
AMBIGUOUS = AmbiguousPrior(TINY, min_slope=0.04, max_drop_s=0.875)


def test_a_family_shares_its_first_frame():
    """At most 1 % of the pixels at the object's edge differ, in the mask and in colour."""
    simulator = FastSimulator(AMBIGUOUS, num_frames=2)
    for group in (3, 8):
        clips = [simulator.make_clip(5 * group + i, "train", "x")[0] for i in range(5)]
        first = clips[0].masks[-1, 0].numpy()
        edge = binary_dilation(first) & ~binary_erosion(first)
        for clip in clips[1:]:
            assert ((clip.masks[-1, 0].numpy() != first) & edge).sum() <= 0.01 * edge.sum()
            assert (clip.video[:, 0] - clips[0].video[:, 0]).abs().max() < 0.05
        depths = [depth_of_clip(clip) for clip in clips]
        assert len(set(depths)) == 5


def test_one_camera_height_for_all_families():
    scenes = [replace(AMBIGUOUS, camera_height_m=0.5).draw(5 * k, "train", 64) for k in range(5)]
    assert {scene.camera.position_m[2] for scene in scenes} == {0.5}
    free = [AMBIGUOUS.draw(5 * k, "train", 64) for k in range(5)]
    assert len({scene.camera.position_m[2] for scene in free}) == 5


def depth_of_clip(clip) -> float:
    return float(clip.poses.position_m[0, -1, 1]) - clip.camera.position_m[1]


def test_contacts_come_when_the_depth_says():
    for seed in range(8):
        scene = AMBIGUOUS.draw(seed, "train", 64)
        study = scene.study
        assert not scene.shadows and scene.num_pile == 0 and len(scene.objects) == 1
        assert study["depth_m"] == pytest.approx(depth_of(scene.objects[-1], scene))
        assert ray_of(scene).slope == pytest.approx(study["slope"])
        contact_s = simulate_fall(scene, 16, 16).contact_s[-1]
        expected_s = drop_time_s(ray_of(scene).height_m(study["depth_m"]))
        assert contact_s == pytest.approx(float(expected_s), abs=0.015)
        assert contact_s <= AMBIGUOUS.max_drop_s + 1 / 240


def test_drop_times_follow_eq_4():
    """Over 300 members of 60 families, F(t | y) is uniform."""
    levels = []
    for seed in range(300):
        scene = AMBIGUOUS.draw(seed, "train", 64)
        ray = ray_of(scene)
        time_s = float(drop_time_s(scene.drop_heights_m[-1]))
        low_s, high_s = ray.drop_time_s(2.0), ray.drop_time_s(18.0)
        levels.append((time_s**2 - low_s**2) / (high_s**2 - low_s**2))  # the integral of Eq. 4
    assert kstest(levels, "uniform").pvalue > 0.01
    assert min(levels) >= 0 and max(levels) <= 1


def test_members_are_functions_of_their_seed():
    again = AmbiguousPrior(TINY, min_slope=0.04, max_drop_s=0.875)
    assert AMBIGUOUS.draw(7, "train", 64) == again.draw(7, "train", 64)
    assert AMBIGUOUS.draw(7, "train", 64).study["group"] == 1


def test_depths_can_be_spread_evenly():
    even = replace(AMBIGUOUS, trajectories=4, even_depths=True)
    scenes = [even.draw(seed, "train", 64) for seed in range(8, 12)]
    assert [scene.study["depth_m"] for scene in scenes] == [4.0, 8.0, 12.0, 16.0]
    assert [depth_of(s.objects[-1], s) for s in scenes] == pytest.approx([4.0, 8.0, 12.0, 16.0])
    drawn = replace(AMBIGUOUS, trajectories=4).draw(8, "train", 64)
    assert drawn.study["slope"] == scenes[0].study["slope"]


def test_slopes_can_be_spread_evenly():
    prior = AmbiguousPrior(TINY, min_slope=0.04, max_drop_s=0.875, trajectories=1, num_slopes=5)
    slopes = [prior.draw(seed, "train", 64).study["slope"] for seed in range(5)]
    assert np.all(np.diff(slopes) > 0.01)
    assert slopes[0] > 0.04 and slopes[-1] < 0.2


def test_impossible_limits_are_one_sentence():
    with pytest.raises(PisaError, match="max_drop_s"):
        AmbiguousPrior(TINY, min_slope=0.3, max_drop_s=0.4).draw(0, "train", 64)
    with pytest.raises(PisaError, match="depth_m"):
        AmbiguousPrior(TINY, depth_m=(5.0, 2.0))


def test_ood_drops_cover_the_range_in_view_and_know_their_label():
    prior = OodPrior(TINY)
    studies = []
    for seed in range(60):
        scene = prior.draw(seed, "test", 64)
        study, thing = scene.study, scene.objects[-1]
        assert scene.camera.position_m[2] == 0.5 and len(scene.objects) == 1
        assert depth_of(thing, scene) == pytest.approx(study["depth_m"])
        assert scene.drop_heights_m[-1] == study["height_m"]
        rise = (study["height_m"] - 0.5) / study["depth_m"]
        assert rise < 16 / 35  # inside the frustum
        trained = 1 <= study["depth_m"] <= 3 and 0.5 <= study["height_m"] <= 1.5
        assert study["in_distribution"] == trained
        studies.append(study)
    # objects of 9-20 px reach the top of the view before 2.5 m
    assert max(s["height_m"] for s in studies) > 1.6 and max(s["depth_m"] for s in studies) > 4.5
    share = np.mean([s["in_distribution"] for s in studies])
    assert 0.1 < share < 0.6


def test_an_ood_range_out_of_view_is_one_sentence():
    with pytest.raises(PisaError, match="in view"):
        OodPrior(TINY, height_m=(8.0, 9.0)).draw(0, "test", 64)
