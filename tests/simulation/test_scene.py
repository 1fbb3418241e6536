"""The prior: ranges, splits, camera placement, and errors."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import kstest

from pisa.errors import PisaError
from pisa.simulation.assets import asset_names, load_asset
from pisa.simulation.physics import Overlap, simulate_fall
from pisa.simulation.scene import Prior, draw_scene

TINY = Prior(num_dropping=(1, 2), num_pile=(0, 2), size_m=None, span_px=(9.0, 20.0))


def test_train_and_test_objects_are_disjoint_in_the_papers_proportion():
    train, test = set(asset_names("train")), set(asset_names("test"))
    assert not train & test
    assert len(test) / (len(train) + len(test)) == pytest.approx(0.1, abs=0.005)


def test_every_thing_can_be_loaded_and_most_are_procedural():
    names = asset_names("train") + asset_names("test")
    assert sum(name.startswith("shape:") for name in names) == len(names) - 6
    assert all(len(load_asset(name).hull) >= 4 for name in names)
    assert load_asset("duck.obj").textured and not load_asset("bunny.obj").textured


@pytest.mark.parametrize("prior", [TINY, Prior()], ids=["tiny", "paper"])
def test_scenes_stay_inside_the_prior(prior):
    for seed in range(20):
        scene = draw_scene(prior, seed, "train", 64)
        dropping = [o for o in scene.objects if o.dropping]
        assert prior.num_dropping[0] <= len(dropping) <= prior.num_dropping[1]
        assert scene.num_pile <= len(dropping) * prior.num_pile[1]
        assert scene.objects[-1].dropping
        assert all(0.5 <= h <= 1.5 for h in scene.drop_heights_m)
        assert 0.4 <= scene.camera.position_m[2] <= 0.6
        assert scene.camera.position_m[1] <= -1.0
        assert all(abs(o.position_m[0]) <= 1.2 for o in dropping)


def test_every_object_starts_inside_the_view():
    for seed in range(20):
        scene = draw_scene(TINY, seed, "test", 64)
        half = scene.camera.sensor_mm / scene.camera.focal_mm / 2
        for o in scene.objects:
            x, y, z = np.subtract(o.position_m, scene.camera.position_m)
            assert max(abs(x), abs(z)) < half * y


def test_drop_height_is_that_of_the_lowest_vertex():
    from scipy.spatial.transform import Rotation

    scene = draw_scene(TINY, 3, "train", 64)
    for o, height in zip(scene.objects[scene.num_pile :], scene.drop_heights_m, strict=True):
        hull = Rotation.from_quat(o.quaternion).apply(load_asset(o.asset).hull) * o.size_m
        assert hull[:, 2].min() + o.position_m[2] == pytest.approx(height, abs=1e-9)


def test_an_impossible_view_is_one_sentence():
    with pytest.raises(PisaError, match="no camera position"):
        draw_scene(replace(TINY, camera_height_m=(90.0, 91.0)), 0, "train", 64)


@pytest.mark.parametrize(
    "broken",
    [{"span_px": None}, {"motion": "fly"}, {"num_dropping": (0, 1)}],
)
def test_a_broken_prior_is_refused(broken):
    with pytest.raises(PisaError):
        replace(TINY, **broken)


def test_a_pile_in_the_way_is_reported():
    scene = draw_scene(replace(TINY, num_pile=(1, 1), num_dropping=(1, 1)), 0, "train", 64)
    pile, falling = scene.objects
    low = replace(falling, position_m=(*pile.position_m[:2], 0.1))
    with pytest.raises(Overlap):
        simulate_fall(replace(scene, objects=(pile, low)), 4, 16)


def test_a_set_of_scenes_is_uniform_where_the_prior_is():
    prior = Prior()
    scenes = [draw_scene(prior, seed, "train", 256) for seed in range(150)]
    assert min(chances(scenes, prior).values()) > 0.005
    dropping = [o for scene in scenes for o in scene.objects if o.dropping]
    piles = sum(scene.num_pile for scene in scenes)
    assert piles / len(dropping) == pytest.approx(2.0, abs=0.25)
    assert all(
        thing.position_m[1] - scene.camera.position_m[1] >= 1
        for scene in scenes
        for thing in scene.objects[scene.num_pile :]
    )
    assert chances(scenes, replace(prior, drop_height_m=(0.5, 1.8)))["drop_height_m"] < 1e-6


def chances(scenes, prior) -> dict[str, float]:
    """Probabilities (Kolmogorov-Smirnov) that a set drawn from the prior is further off.

    Whole numbers are spread over the unit interval around them first.
    """
    spread = np.random.default_rng(0).uniform(-0.5, 0.5, len(scenes))
    low, high = prior.num_dropping
    samples = {
        "num_dropping": (
            np.array([len(s.objects) - s.num_pile for s in scenes]) + spread,
            (low - 0.5, high + 0.5),
        ),
        "drop_height_m": ([h for s in scenes for h in s.drop_heights_m], prior.drop_height_m),
        "camera_height_m": ([s.camera.position_m[2] for s in scenes], prior.camera_height_m),
        "size_m": ([o.size_m for s in scenes for o in s.objects], prior.size_m),
    }
    return {
        key: float(kstest(sample, "uniform", args=(low, high - low)).pvalue)
        for key, (sample, (low, high)) in samples.items()
    }
