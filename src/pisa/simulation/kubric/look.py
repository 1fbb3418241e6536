"""Shader nodes: the fast backend's patterns as Cycles materials (runs inside Blender).

A pattern is described by the fields of `pisa.simulation.materials.Pattern`; the nodes below
compute the same albedo, so that one seed has the same colours in both backends.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import bpy

DOME_EYE_M = 1.5


class _Maths:
    """Builds arithmetic out of shader nodes; values are sockets or numbers."""

    def __init__(self, tree) -> None:
        self._tree = tree

    def __call__(self, operation: str, *values):
        return self._node("ShaderNodeMath", operation, values).outputs[0]

    def dot(self, vector, other: Sequence[float]):
        return self._node("ShaderNodeVectorMath", "DOT_PRODUCT", (vector, tuple(other))).outputs[1]

    def _node(self, kind: str, operation: str, values):
        node = self._tree.nodes.new(kind)
        node.operation = operation
        for socket, value in zip(node.inputs, values, strict=False):
            if isinstance(value, bpy.types.NodeSocket):
                self._tree.links.new(value, socket)
            else:
                socket.default_value = value
        return node


def pattern_material(name: str, pattern: dict[str, Any], *, world: bool, roughness: float):
    """A material whose albedo is the pattern at the object's (or the world's) coordinates."""
    material = bpy.data.materials.new(name)
    material.use_nodes = True
    tree = material.node_tree
    surface = tree.nodes["Principled BSDF"]
    surface.inputs["Roughness"].default_value = roughness
    surface.inputs["Specular IOR Level"].default_value = 0.3
    if world:
        points = tree.nodes.new("ShaderNodeNewGeometry").outputs["Position"]
    else:
        points = tree.nodes.new("ShaderNodeTexCoord").outputs["Object"]
    mix = tree.nodes.new("ShaderNodeMix")
    mix.data_type = "RGBA"
    mix.inputs["A"].default_value = _linear(pattern["colour_a"])
    mix.inputs["B"].default_value = _linear(pattern["colour_b"])
    tree.links.new(_share(_Maths(tree), points, pattern), mix.inputs["Factor"])
    tree.links.new(mix.outputs["Result"], surface.inputs["Base Color"])
    return material


def dome_material(path: str, rotation_rad: float):
    """The HDRI as it is seen from ``DOME_EYE_M`` above the middle of the dome."""
    material = bpy.data.materials.new("dome")
    material.use_nodes = True
    tree = material.node_tree
    surface = tree.nodes["Principled BSDF"]
    surface.inputs["Roughness"].default_value = 0.9
    surface.inputs["Specular IOR Level"].default_value = 0.0
    points = tree.nodes.new("ShaderNodeNewGeometry").outputs["Position"]
    offset = tree.nodes.new("ShaderNodeVectorMath")
    offset.operation = "SUBTRACT"
    tree.links.new(points, offset.inputs[0])
    offset.inputs[1].default_value = (0.0, 0.0, DOME_EYE_M)
    turn = tree.nodes.new("ShaderNodeMapping")
    turn.inputs["Rotation"].default_value = (0.0, 0.0, rotation_rad)
    tree.links.new(offset.outputs[0], turn.inputs["Vector"])
    picture = tree.nodes.new("ShaderNodeTexEnvironment")
    picture.image = bpy.data.images.load(path, check_existing=True)
    tree.links.new(turn.outputs["Vector"], picture.inputs["Vector"])
    tree.links.new(picture.outputs["Color"], surface.inputs["Base Color"])
    return material


def _share(maths: _Maths, points, pattern: dict[str, Any]):
    """How much of colour b: the formula of `Pattern.__call__`."""
    direction, phase = pattern["direction"], pattern["phase"]
    wave = maths("SINE", maths("ADD", maths.dot(points, _scaled(direction, 2 * math.pi)), phase))
    if pattern["checker"]:
        x, y, z = direction
        other = _scaled((z, -x, y), 2 * math.pi)
        wave = maths("MULTIPLY", wave, maths("SINE", maths("ADD", maths.dot(points, other), phase)))
    ripple = maths("ADD", maths.dot(points, _scaled(direction[::-1], 9.7)), phase)
    ripple = maths("SINE", maths("ADD", ripple, maths("MULTIPLY", wave, 3.0)))
    sum_ = maths("ADD", wave, maths("MULTIPLY", ripple, pattern["noise"]))
    tanh = maths("TANH", maths("MULTIPLY", sum_, pattern["sharpness"]))
    return maths("ADD", maths("MULTIPLY", tanh, 0.5), 0.5)


def _scaled(vector: Sequence[float], factor: float) -> tuple[float, ...]:
    return tuple(factor * v for v in vector)


def _linear(colour: Sequence[float]) -> tuple[float, float, float, float]:
    """sRGB in [0, 1] to the linear RGBA that Cycles computes with."""
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour)
    return (r, g, b, 1.0)
