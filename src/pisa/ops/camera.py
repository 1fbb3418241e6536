"""Pinhole geometry of a level camera (paper Appendix D) and the optical flow of rigid objects."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pisa.types import Camera, Poses


def project(points_m: Float[Tensor, "... 3"], camera: Camera) -> Float[Tensor, "... 2"]:
    """World points to pixel coordinates ``(x, y)``; points must lie in front of the camera."""
    offset = points_m - points_m.new_tensor(camera.position_m)
    forward = offset[..., 1]
    x = (camera.width - 1) / 2 + camera.focal_px * offset[..., 0] / forward
    y = (camera.height - 1) / 2 - camera.focal_px * offset[..., 2] / forward
    return torch.stack([x, y], dim=-1)


def ray_directions(camera: Camera, dtype: torch.dtype = torch.float64) -> Float[Tensor, "h w 3"]:
    """Unit vectors from the camera centre through every pixel centre, in world axes."""
    y, x = torch.meshgrid(
        torch.arange(camera.height, dtype=dtype),
        torch.arange(camera.width, dtype=dtype),
        indexing="ij",
    )
    right = (x - (camera.width - 1) / 2) / camera.focal_px
    up = ((camera.height - 1) / 2 - y) / camera.focal_px
    directions = torch.stack([right, torch.ones_like(right), up], dim=-1)
    return directions / directions.norm(dim=-1, keepdim=True)


def unproject(depth_m: Float[Tensor, "*t h w"], camera: Camera) -> Float[Tensor, "*t h w 3"]:
    """World points of every pixel from its Euclidean depth."""
    origin = torch.tensor(camera.position_m, dtype=depth_m.dtype)
    return origin + depth_m[..., None] * ray_directions(camera, depth_m.dtype)


def rotate(
    quaternion: Float[Tensor, "*#n 4"], vector: Float[Tensor, "*#n 3"]
) -> Float[Tensor, "*n 3"]:
    """Rotate vectors by unit quaternions ``(x, y, z, w)``; leading dimensions broadcast."""
    axis, w = quaternion[..., :3], quaternion[..., 3:]
    axis, vector = torch.broadcast_tensors(axis, vector)
    cross = 2 * torch.linalg.cross(axis, vector)
    return vector + w * cross + torch.linalg.cross(axis, cross)


def conjugate(quaternion: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n 4"]:
    """The inverse rotation of a unit quaternion."""
    return quaternion * quaternion.new_tensor([-1.0, -1.0, -1.0, 1.0])


def rigid_flow(
    depth_m: Float[Tensor, "t h w"],
    masks: Bool[Tensor, "n t h w"],
    poses: Poses,
    camera: Camera,
) -> Float[Tensor, "2 u h w"]:
    """Forward optical flow in pixels from depth, visible masks and rigid poses (u = t - 1).

    A pixel of object ``n`` moves as that rigid body does; every other pixel stays. Pixels that
    are hidden in the next frame keep the flow of their surface point.
    """
    num_frames = depth_m.shape[0]
    flow = torch.zeros(2, num_frames - 1, *depth_m.shape[1:], dtype=torch.float32)
    for n in range(masks.shape[0]):
        t, y, x = torch.nonzero(masks[n, :-1], as_tuple=True)
        if t.numel() == 0:
            continue
        directions = ray_directions(camera)[y, x]
        world = depth_m[t, y, x].double()[:, None] * directions
        world = world + torch.tensor(camera.position_m, dtype=torch.float64)
        moved = _move(world, poses, n, t)
        start = torch.stack([x, y], dim=-1).double()
        flow[:, t, y, x] = (project(moved, camera) - start).T.float()
    return flow


def _move(points_m: Tensor, poses: Poses, n: int, t: Tensor) -> Tensor:
    position, quaternion = poses.position_m[:, n].double(), poses.quaternion[:, n].double()
    local = rotate(conjugate(quaternion[t]), points_m - position[t])
    return rotate(quaternion[t + 1], local) + position[t + 1]
