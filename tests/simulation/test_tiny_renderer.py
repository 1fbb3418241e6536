"""Supersampling: averaged colours, masks by majority, depth of the majority."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pisa.simulation.fast import FastSimulator, draw_moving_scene
from pisa.simulation.scene import Prior
from pisa.simulation.tiny_renderer import render

TINY = Prior(num_dropping=(1, 2), num_pile=(0, 2), size_m=None, span_px=(9.0, 20.0))


@pytest.fixture(scope="module")
def scene_and_poses():
    scene, motion = draw_moving_scene(TINY, 3, "train", 32, 4, 16)
    return replace(scene, shadows=False), motion.poses


@pytest.mark.parametrize("samples", [2, 4])
def test_samples_of_a_pixel_are_the_pixels_of_a_finer_image(scene_and_poses, samples):
    scene, poses = scene_and_poses
    camera = replace(scene.camera, width=32 * samples, height=32 * samples)
    fine = render(replace(scene, camera=camera), poses, samples=1)
    coarse = render(scene, poses, samples=samples)
    blocks = (4, 32, samples, 32, samples)
    colour = fine.rgb.reshape(*blocks, 3).mean(axis=(2, 4))
    assert np.abs(colour - coarse.rgb).max() <= 1.0
    same = fine.ids.reshape(blocks) == coarse.ids[:, :, None, :, None]
    depth = (fine.depth_m.reshape(blocks) * same).sum(axis=(2, 4)) / same.sum(axis=(2, 4))
    assert np.allclose(depth, coarse.depth_m, rtol=1e-5)


def test_no_other_object_has_more_samples_than_the_winner(scene_and_poses):
    scene, poses = scene_and_poses
    camera = replace(scene.camera, width=64, height=64)
    fine = render(replace(scene, camera=camera), poses, samples=1).ids.reshape(4, 32, 2, 32, 2)
    winner = render(scene, poses, samples=2).ids
    of_winner = (fine == winner[:, :, None, :, None]).sum(axis=(2, 4))
    for n in range(-1, len(scene.objects)):
        assert np.all((fine == n).sum(axis=(2, 4)) <= of_winner)


def test_edges_are_soft_and_masks_stay_whole():
    hard = FastSimulator(TINY, num_frames=2, samples=1).make_clip(1, "train", "x")[0]
    soft = FastSimulator(TINY, num_frames=2, samples=2).make_clip(1, "train", "x")[0]
    assert soft.video.diff(dim=-1).abs().max() <= hard.video.diff(dim=-1).abs().max()
    assert (hard.masks & soft.masks).sum() / (hard.masks | soft.masks).sum() > 0.8
    assert torch.isfinite(soft.depth_m).all()
