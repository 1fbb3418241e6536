"""Images, masks and depth of a scene: TinyRenderer for shapes and shading, NumPy for materials."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from einops import reduce
from numpy.typing import NDArray

from pisa.ops.camera import conjugate, ray_directions, rotate
from pisa.simulation.assets import load_asset
from pisa.simulation.materials import Background, background, object_material
from pisa.simulation.physics import BulletClient, bullet, pybullet
from pisa.simulation.scene import Scene, SceneObject
from pisa.types import Camera, Poses

NEAR_M, FAR_M = 0.1, 40.0
GLOSS = 0.25  # strength of the highlight
FloatArray = NDArray[np.floating]


@dataclass(frozen=True)
class Rendering:
    """``rgb`` uint8 ``[T, H, W, 3]``; ``ids`` int ``[T, H, W]`` (-1 background, else object);
    ``depth_m`` float32 ``[T, H, W]``, Euclidean."""

    rgb: NDArray[np.uint8]
    ids: NDArray[np.int_]
    depth_m: NDArray[np.float32]


@dataclass(frozen=True)
class _Samples:
    """Those of the ``k`` samples that hit an object: where, what, its light and its depth."""

    frame: NDArray[np.int_]  # [k]
    row: NDArray[np.int_]  # of the sample, not of its pixel
    column: NDArray[np.int_]
    thing: NDArray[np.int_]  # index in the scene's objects
    light: FloatArray  # [k, 3] in [0, 1]; of a painted mesh, its colour in that light
    depth_m: FloatArray  # Euclidean


def render(scene: Scene, poses: Poses, *, samples: int = 2) -> Rendering:
    """Render every frame of a motion with ``samples`` x ``samples`` rays a pixel.

    Colours are averaged. A pixel belongs to what most of its samples hit (of as many, to the
    object of the lowest index, and to the background last), and has the mean depth of those
    samples. Shadows are computed once a pixel.
    """
    look = background(scene.background)
    if scene.wall_distance_m is not None:
        look = replace(look, wall_distance_m=scene.wall_distance_m)
    fine = replace(
        scene.camera, height=samples * scene.camera.height, width=samples * scene.camera.width
    )
    rays = ray_directions(fine).numpy()
    ground_m, albedo = _backdrop(look, fine, rays)
    hits = _rasterise(scene, poses, look, fine, rays)
    centre = ray_directions(scene.camera).numpy()
    shade = np.ones((poses.position_m.shape[0], *centre.shape[:2]))
    if scene.shadows:
        depth_m, _ = _backdrop(look, scene.camera, centre)
        shade = _shadows(scene, poses, look, centre * depth_m[..., None])
    image = _mean(albedo, samples) * shade[..., None]
    pixel = (hits.frame, hits.row // samples, hits.column // samples)
    colour = _object_colours(scene, poses, hits, rays)
    behind = albedo[hits.row, hits.column] * shade[pixel][:, None]
    np.add.at(image, pixel, (colour - behind) / samples**2)
    ids, depth_m = _majority(hits, pixel, shade.shape, len(scene.objects), ground_m, samples)
    rgb = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    return Rendering(rgb, ids, depth_m.astype(np.float32))


def _mean(values: FloatArray, samples: int) -> FloatArray:
    """Per-sample values ``[s H, s W, ...]`` averaged over each pixel."""
    return reduce(values, "(h s) (w r) ... -> h w ...", "mean", s=samples, r=samples)


def _majority(hits: _Samples, pixel, shape, num_objects: int, ground_m: FloatArray, samples: int):
    """Object index and depth of each pixel, ``[T, H, W]``."""
    count = np.zeros((num_objects + 1, *shape), np.int64)
    depth_m = np.zeros((num_objects + 1, *shape))
    place = (hits.thing, *pixel)
    np.add.at(count, place, 1)
    np.add.at(depth_m, place, hits.depth_m)
    count[-1] = samples**2 - count[:-1].sum(axis=0)
    behind = np.zeros(shape)
    np.add.at(behind, pixel, ground_m[hits.row, hits.column])
    depth_m[-1] = samples**2 * _mean(ground_m, samples) - behind
    winner = count.argmax(axis=0)[None]
    total, number = (np.take_along_axis(values, winner, axis=0)[0] for values in (depth_m, count))
    return np.where(winner[0] == num_objects, -1, winner[0]), total / number


def _rasterise(scene: Scene, poses: Poses, look: Background, camera: Camera, rays) -> _Samples:
    """The picture of TinyRenderer at the camera's resolution, as samples."""
    with bullet() as world:
        bodies = [_add_mesh(world, o) for o in scene.objects]
        lookup = np.full(max(bodies) + 2, -1)
        lookup[bodies] = np.arange(len(bodies))
        found = []
        for t in range(poses.position_m.shape[0]):
            for n, body in enumerate(bodies):
                world.resetBasePositionAndOrientation(
                    body, poses.position_m[t, n].tolist(), poses.quaternion[t, n].tolist()
                )
            rgb, buffer, body_ids = _snapshot(world, camera, look)
            row, column = np.nonzero(body_ids >= 0)
            place = (row, column)
            found.append(
                (
                    np.full(len(row), t),
                    row,
                    column,
                    lookup[body_ids[place]],
                    rgb[place],
                    buffer[place],
                )
            )
    frame, row, column, thing, rgb, buffer = (
        np.concatenate(part) for part in zip(*found, strict=True)
    )
    planar = FAR_M * NEAR_M / (FAR_M - (FAR_M - NEAR_M) * buffer.astype(np.float64))
    return _Samples(frame, row, column, thing, rgb / 255.0, planar / rays[row, column, 1])


def _add_mesh(world: BulletClient, thing: SceneObject) -> int:
    asset = load_asset(thing.asset)
    scale = thing.size_m / asset.extent
    shape = world.createVisualShape(
        pybullet.GEOM_MESH,
        fileName=str(asset.path),
        meshScale=[scale] * 3,
        visualFramePosition=[-scale * c for c in asset.center],
        rgbaColor=[1, 1, 1, 1],
    )
    return int(world.createMultiBody(0, baseVisualShapeIndex=shape))


def _snapshot(world: BulletClient, camera: Camera, look: Background):
    x, y, z = camera.position_m
    view = world.computeViewMatrix([x, y, z], [x, y + 1, z], [0, 0, 1])
    fov_deg = float(np.degrees(2 * np.arctan(camera.sensor_mm / camera.focal_mm / 2)))
    projection = list(world.computeProjectionMatrixFOV(fov_deg, 1.0, NEAR_M, FAR_M))
    # TinyRenderer samples the corners of pixels; this moves the samples to their centres.
    projection[8], projection[9] = 1 / camera.width, 1 / camera.height
    _, _, rgba, depth, ids = world.getCameraImage(
        camera.width,
        camera.height,
        view,
        projection,
        lightDirection=look.light_direction.tolist(),
        lightAmbientCoeff=look.ambient,
        lightDiffuseCoeff=1.0 - look.ambient,
        lightSpecularCoeff=GLOSS,
        shadow=0,
        renderer=pybullet.ER_TINY_RENDERER,
    )
    shape = (camera.height, camera.width)
    return (
        np.reshape(rgba, (*shape, 4)).astype(np.uint8)[..., :3],
        np.reshape(depth, shape),
        np.reshape(ids, shape),
    )


def _backdrop(look: Background, camera: Camera, directions: FloatArray):
    """Depth and colour of the floor and the back wall behind all objects."""
    x0, y0, z0 = camera.position_m
    wall = (look.wall_distance_m - y0) / directions[..., 1]
    down = np.minimum(directions[..., 2], -1e-9)
    floor = -z0 / down
    on_floor = floor < wall
    depth = np.where(on_floor, floor, wall)
    points = np.array([x0, y0, z0]) + directions * depth[..., None]
    colour = np.where(on_floor[..., None], look.floor(points), look.wall(points))
    light = np.where(on_floor, look.light_direction[2], 0.85)
    return depth, colour * (look.ambient + (1 - look.ambient) * light)[..., None]


def _shadows(scene: Scene, poses: Poses, look: Background, offsets: FloatArray) -> FloatArray:
    """Soft shadows on the floor, darker and smaller the nearer the object, ``[T, H, W]``."""
    points = np.array(scene.camera.position_m) + offsets
    factor = np.ones((poses.position_m.shape[0], *points.shape[:2]))
    floor = points[..., 2] < 1e-6
    ground = points[floor][:, :2]
    for n, thing in enumerate(scene.objects):
        centre = poses.position_m[:, n].numpy()
        height = np.maximum(centre[:, 2] - thing.size_m / 2, 0)
        radius = 0.45 * thing.size_m + 0.25 * height
        strength = look.shadow / (1 + 3 * height)
        distance2 = ((ground[None] - centre[:, None, :2]) ** 2).sum(-1)
        factor[:, floor] *= 1 - strength[:, None] * np.exp(-distance2 / radius[:, None] ** 2)
    return factor


def _object_colours(scene: Scene, poses: Poses, hits: _Samples, rays: FloatArray) -> FloatArray:
    """Colour ``[k, 3]`` of every sample: its light on the pattern where it was hit."""
    colour = hits.light.copy()
    for n, thing in enumerate(scene.objects):
        if load_asset(thing.asset).textured:
            continue
        own = np.nonzero(hits.thing == n)[0]
        offset = rays[hits.row[own], hits.column[own]] * hits.depth_m[own, None]
        world = torch.from_numpy(np.array(scene.camera.position_m) + offset)
        frame = hits.frame[own]
        local = rotate(conjugate(poses.quaternion[frame, n]), world - poses.position_m[frame, n])
        colour[own] *= object_material(thing.material)(local.numpy() / thing.size_m)
    return colour
