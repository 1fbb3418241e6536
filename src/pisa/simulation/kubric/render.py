"""One scene description to images by Kubric's Blender renderer (runs inside Blender).

The description is `pisa.simulation.kubric.description`'s; the arrays returned follow
`pisa.types` (flow as (dx, dy) in pixels, Euclidean depth in metres).
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import bpy
import kubric as kb
import numpy as np
from kubric.renderer.blender import Blender
from kubric.utils import next_global_count
from mathutils import Matrix
from numpy.typing import NDArray

from pisa.simulation.kubric.look import dome_material, pattern_material

LAYERS = ("rgba", "segmentation", "depth", "forward_flow", "backward_flow")
FLOOR_HALF_M = 40.0
DOME_RADIUS_M = 25.0
SKY_DEPTH_M = 1000.0  # Blender gives 1e10, which float16 cannot hold

Arrays = dict[str, NDArray]


class SceneError(Exception):
    """Something in the description that cannot be rendered; the message is for the user."""


def render(description: dict[str, Any]) -> Arrays:
    """Render every frame.

    Returns ``rgb`` uint8 ``[T, H, W, 3]``, ``ids`` int16 ``[T, H, W]`` (-1: no object),
    ``depth_m`` float32 ``[T, H, W]``, ``forward_px`` float32 ``[T-1, 2, H, W]`` (frame t to t+1),
    ``backward_px`` likewise (on frame t+1: how far its points have come since t), and the poses
    that Blender had at each frame. Raises ``SceneError``.
    """
    scratch = Path(tempfile.mkdtemp(prefix="pisa-kubric-"))
    try:
        scene, objects = _build(description, scratch)
        renderer = scene.views[0]
        _set_up_cycles(renderer, description["render"])
        try:
            layers = renderer.render(return_layers=LAYERS)
        except RuntimeError as error:
            raise SceneError(" ".join(str(error).split())) from error
        return {**_convert(layers, scene, objects), **_poses(renderer, objects, description)}
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _build(description: dict[str, Any], scratch: Path) -> tuple[kb.Scene, list]:
    next_global_count("", reset=True)  # the same names, whatever was rendered before
    camera = description["camera"]
    scene = kb.Scene(
        frame_start=0,
        frame_end=description["num_frames"] - 1,
        frame_rate=description["fps_hz"],
        resolution=(camera["width"], camera["height"]),
    )
    settings = description["render"]
    renderer = Blender(
        scene,
        scratch_dir=scratch,
        samples_per_pixel=settings["samples"],
        use_denoising=settings["denoise"],
        adaptive_sampling=settings["adaptive"],
    )
    x, y, z = camera["position_m"]
    scene += kb.PerspectiveCamera(
        name="camera",
        position=(x, y, z),
        look_at=(x, y + 1, z),
        focal_length=camera["focal_mm"],
        sensor_width=camera["sensor_mm"],
    )
    scene.camera = scene.assets[-1]
    objects = [_add_object(scene, renderer, o, n) for n, o in enumerate(description["objects"])]
    for thing in objects:
        _hide_from_light(thing.linked_objects[renderer], description["shadows"])
    _add_hdri(renderer, description["hdri"])
    if description["dome"]:
        _add_dome(scene, renderer, description["hdri"])
    else:
        _add_floor(scene, renderer, description["floor"])
    _add_lights(renderer, description["lights"])
    return scene, objects


def _add_object(scene: kb.Scene, renderer: Blender, thing: dict[str, Any], number: int):
    path = Path(thing["mesh"])
    if not path.is_file():
        raise SceneError(f"mesh {path} is not there")
    asset = kb.FileBasedObject(
        name=f"object_{number:02d}",
        asset_id=path.stem,
        render_filename=str(path),
        simulation_filename=None,
        scale=thing["size_m"],
    )
    try:
        scene += asset
    except (AssertionError, RuntimeError) as error:
        raise SceneError(
            f"mesh {path} cannot be imported: {error or 'it holds no faces'}"
        ) from error
    body = asset.linked_objects[renderer]
    if not body.data.polygons:
        raise SceneError(f"mesh {path} holds no faces")
    offset = Matrix.Translation([-c for c in thing["center"]])
    body.data.transform(Matrix.Scale(1 / thing["extent"], 4) @ offset)
    if thing["pattern"] is not None:
        body.data.materials.clear()
        body.data.materials.append(
            pattern_material(f"look_{number:02d}", thing["pattern"], world=False, roughness=0.45)
        )
    for frame, (position, (qx, qy, qz, qw)) in enumerate(
        zip(thing["position_m"], thing["quaternion"], strict=True)
    ):
        asset.position, asset.quaternion = position, (qw, qx, qy, qz)
        asset.keyframe_insert("position", frame)
        asset.keyframe_insert("quaternion", frame)
    return asset


def _hide_from_light(body, shadows: bool) -> None:
    body.visible_shadow = shadows
    body.visible_diffuse = shadows
    body.visible_glossy = shadows


def _add_floor(scene: kb.Scene, renderer: Blender, pattern: dict[str, Any]) -> None:
    floor = kb.Cube(
        name="floor",
        scale=(FLOOR_HALF_M, FLOOR_HALF_M, 0.1),
        position=(0, 0, -0.1),
        background=True,
    )
    scene += floor
    body = floor.linked_objects[renderer]
    body.data.materials.append(pattern_material("floor", pattern, world=True, roughness=0.8))


def _add_dome(scene: kb.Scene, renderer: Blender, hdri: dict[str, Any]) -> None:
    """Floor and sky in one, which show the HDRI: a sphere whose lower half is pressed flat."""
    dome = kb.Sphere(name="dome", scale=DOME_RADIUS_M, position=(0, 0, 0), background=True)
    scene += dome
    body = dome.linked_objects[renderer]
    for vertex in body.data.vertices:
        vertex.co.z = max(vertex.co.z, 0.0)
    for polygon in body.data.polygons:
        polygon.use_smooth = False
    body.data.materials.clear()
    body.data.materials.append(dome_material(hdri["path"], hdri["rotation_rad"]))
    # The light of the HDRI comes from outside and must pass.
    body.visible_shadow = body.visible_diffuse = body.visible_glossy = False


def _add_lights(renderer: Blender, lights: list[dict[str, Any]]) -> None:
    """The sun and the point lights of the release's simulator."""
    for number, light in enumerate(lights):
        lamp = bpy.data.lights.new(f"light_{number}", type=light["kind"].upper())
        lamp.energy = light["energy"]
        if light["kind"] == "point":
            lamp.shadow_soft_size = light["radius_m"]
        body = bpy.data.objects.new(lamp.name, lamp)
        body.location = light["position_m"]
        body.rotation_euler = (*np.radians(light["tilt_deg"]), 0.0)
        renderer.blender_scene.collection.objects.link(body)


def _add_hdri(renderer: Blender, hdri: dict[str, Any]) -> None:
    """One HDRI lights the scene and is seen behind it, as in the paper."""
    path = Path(hdri["path"])
    if not path.is_file():
        raise SceneError(f"HDRI {path} is not there")
    rotation = (0.0, 0.0, hdri["rotation_rad"])
    try:
        renderer._set_ambient_light_hdri(str(path), rotation, hdri["strength"])
        renderer._set_background_hdri(str(path), rotation)
    except RuntimeError as error:
        raise SceneError(f"HDRI {path} cannot be read: {error}") from error
    if tuple(renderer.ambient_hdri_node.image.size) == (0, 0):
        raise SceneError(f"HDRI {path} holds no picture")
    renderer.bg_node.inputs["Strength"].default_value = hdri["strength"]


def _set_up_cycles(renderer: Blender, settings: dict[str, Any]) -> None:
    scene = renderer.blender_scene
    scene.render.threads_mode, scene.render.threads = "FIXED", settings["threads"]
    scene.view_settings.view_transform = "Standard" if settings["stock"] else "AgX"
    if settings["stock"]:
        return
    # Rebuilding the importance map of the HDRI at full size costs more than the picture.
    scene.world.cycles.sampling_method = "MANUAL"
    scene.world.cycles.sample_map_resolution = 256
    scene.cycles.denoiser = "OPENIMAGEDENOISE"
    scene.cycles.denoising_quality = "FAST"
    scene.cycles.denoising_prefilter = "FAST"
    scene.cycles.max_bounces = settings["bounces"]
    scene.cycles.seed = 0


def _convert(layers: Arrays, scene: kb.Scene, objects: list) -> Arrays:
    lookup = np.full(len(scene.assets) + 1, -1, np.int16)
    for n, thing in enumerate(objects):
        lookup[scene.assets.index(thing) + 1] = n
    forward = np.stack([layers["forward_flow"][..., 1], layers["forward_flow"][..., 0]], axis=1)
    backward = np.stack([layers["backward_flow"][..., 1], layers["backward_flow"][..., 0]], axis=1)
    return {
        "rgb": layers["rgba"][..., :3],
        "ids": lookup[layers["segmentation"][..., 0]],
        "depth_m": np.minimum(layers["depth"][..., 0], SKY_DEPTH_M).astype(np.float32),
        "forward_px": forward[:-1].astype(np.float32),
        "backward_px": backward[1:].astype(np.float32),
    }


def _poses(renderer: Blender, objects: list, description: dict[str, Any]) -> Arrays:
    """Where Blender had each object: ``position_m`` [T, N, 3], ``quaternion`` [T, N, 4] (xyzw)."""
    shape = (description["num_frames"], len(objects))
    position, quaternion = np.zeros((*shape, 3)), np.zeros((*shape, 4))
    for frame in range(shape[0]):
        renderer.blender_scene.frame_set(frame)
        for n, thing in enumerate(objects):
            place, turn, _ = thing.linked_objects[renderer].matrix_world.decompose()
            position[frame, n] = place
            quaternion[frame, n] = (turn.x, turn.y, turn.z, turn.w)
    return {"position_m": position, "quaternion": quaternion}


def versions() -> dict[str, str]:
    """Versions of the libraries that decide the pixels, by name."""
    return {"blender": bpy.app.version_string, "kubric": kb.__version__, "numpy": np.__version__}
