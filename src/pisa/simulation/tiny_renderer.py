"""Images, masks and depth of a scene: TinyRenderer for shapes and shading, NumPy for materials."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from pisa.ops.camera import conjugate, ray_directions, rotate
from pisa.simulation.assets import load_asset
from pisa.simulation.engine import BulletClient, bullet, pybullet
from pisa.simulation.materials import Background, background, object_material
from pisa.simulation.scene import Scene, SceneObject
from pisa.types import Camera, Poses

NEAR_M, FAR_M = 0.1, 40.0
FloatArray = NDArray[np.floating]


@dataclass(frozen=True)
class Rendering:
    """``rgb`` uint8 ``[T, H, W, 3]``; ``ids`` int ``[T, H, W]`` (-1 background, else object);
    ``depth_m`` float32 ``[T, H, W]``, Euclidean."""

    rgb: NDArray[np.uint8]
    ids: NDArray[np.int_]
    depth_m: NDArray[np.float32]


def render(scene: Scene, poses: Poses) -> Rendering:
    """Render every frame of a motion."""
    look = background(scene.background)
    if scene.wall_distance_m is not None:
        look = replace(look, wall_distance_m=scene.wall_distance_m)
    shading, ids, planar = _rasterise(scene, poses, look)
    directions = ray_directions(scene.camera).numpy()
    depth = planar / directions[..., 1]
    ground_depth, albedo = _backdrop(look, scene.camera, directions)
    image = np.broadcast_to(albedo, (*ids.shape, 3)).copy()
    if scene.shadows:
        image *= _shadows(scene, poses, look, directions * ground_depth[..., None])[..., None]
    depth = np.where(ids >= 0, depth, ground_depth)
    _paint_objects(image, scene, poses, shading, ids, depth, directions)
    rgb = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    return Rendering(rgb, ids, depth.astype(np.float32))


def _rasterise(scene: Scene, poses: Poses, look: Background):
    """Grey shading in [0, 1], object index and planar depth (along the view axis) per pixel."""
    with bullet() as world:
        bodies = [_add_mesh(world, o) for o in scene.objects]
        lookup = np.full(max(bodies) + 2, -1)
        lookup[bodies] = np.arange(len(bodies))
        frames = []
        for t in range(poses.position_m.shape[0]):
            for n, body in enumerate(bodies):
                world.resetBasePositionAndOrientation(
                    body, poses.position_m[t, n].tolist(), poses.quaternion[t, n].tolist()
                )
            frames.append(_snapshot(world, scene.camera, look))
    rgb, buffer, body_ids = (np.stack(parts) for parts in zip(*frames, strict=True))
    planar = FAR_M * NEAR_M / (FAR_M - (FAR_M - NEAR_M) * buffer.astype(np.float64))
    return rgb[..., 0] / 255.0, lookup[body_ids], planar


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
    projection = world.computeProjectionMatrixFOV(fov_deg, 1.0, NEAR_M, FAR_M)
    _, _, rgba, depth, ids = world.getCameraImage(
        camera.width,
        camera.height,
        view,
        projection,
        lightDirection=look.light_direction.tolist(),
        lightAmbientCoeff=look.ambient,
        lightDiffuseCoeff=0.95 - look.ambient,
        lightSpecularCoeff=0.0,
        shadow=0,
        renderer=pybullet.ER_TINY_RENDERER,
    )
    shape = (camera.height, camera.width)
    return (
        np.reshape(rgba, (*shape, 4)).astype(np.uint8),
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
    light = np.where(on_floor, look.light_direction[2], 0.75)
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


def _paint_objects(image, scene: Scene, poses: Poses, shading, ids, depth, directions) -> None:
    origin = np.array(scene.camera.position_m)
    for n, thing in enumerate(scene.objects):
        t, y, x = np.nonzero(ids == n)
        if len(t) == 0:
            continue
        world = torch.from_numpy(origin + directions[y, x] * depth[t, y, x, None])
        local = rotate(conjugate(poses.quaternion[t, n]), world - poses.position_m[t, n])
        albedo = object_material(thing.material)(local.numpy() / thing.size_m)
        image[t, y, x] = albedo * shading[t, y, x, None]
