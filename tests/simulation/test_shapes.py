"""Procedural things: closed meshes with outward faces, files that read back, names that stay."""

import numpy as np
import pytest

from pisa.errors import PisaError
from pisa.simulation.shapes import FAMILIES, VARIANTS, shape_file, shape_mesh, shape_names


@pytest.mark.parametrize("family", FAMILIES)
def test_faces_look_outwards(family):
    """The volume by the divergence theorem is positive and at most the bounding box's."""
    vertices, faces = shape_mesh(f"shape:{family}/00")
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    volume = (np.cross(a, b) * c).sum() / 6
    assert 0.02 < volume / np.prod(np.ptp(vertices, axis=0)) <= 1.0 + 1e-6


def test_numbers_of_a_family_differ_and_repeat():
    first, second = (shape_mesh(f"shape:bottle/{k:02d}").vertices for k in (0, 1))
    assert not np.allclose(first, second)
    assert np.array_equal(first, shape_mesh("shape:bottle/00").vertices)


def test_the_file_holds_the_mesh_with_unit_normals():
    mesh = shape_mesh("shape:mug/03")
    lines = shape_file("shape:mug/03").read_text().splitlines()
    read = {
        k: np.array([x.split()[1:] for x in lines if x.startswith(f"{k} ")]) for k in ("v", "vn")
    }
    points = read["v"].astype(float)
    assert np.allclose(points.min(axis=0), mesh.vertices.min(axis=0), atol=1e-5)
    assert np.allclose(points.max(axis=0), mesh.vertices.max(axis=0), atol=1e-5)
    assert np.allclose(np.linalg.norm(read["vn"].astype(float), axis=1), 1, atol=1e-3)


def test_every_name_has_a_family():
    assert len(set(shape_names())) == len(FAMILIES) * VARIANTS
    for name in ("shape:nothing/00", "shape:mug/x", "mug"):
        with pytest.raises(PisaError, match="no procedural object"):
            shape_mesh(name)
