"""Mask arrays: what the values mean, and which axes and values are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pisa.data.mask_files import (
    MaskValues,
    check_axes,
    describe,
    mask_values,
    read_mask_array,
    to_bool,
)
from pisa.errors import PisaError

PATH = Path("m.npy")


def masks(objects: int = 1) -> np.ndarray:
    """A box that falls, bool [24, objects, 64, 64]."""
    drawn = np.zeros((24, objects, 64, 64), dtype=bool)
    for t in range(24):
        drawn[t, :, 6 + t : 16 + t, 20:30] = True
    return drawn


@pytest.mark.parametrize(
    ("store", "values"),
    [
        (lambda m: m, MaskValues.BOOLEAN),
        (lambda m: m.astype(np.uint8), MaskValues.ONES),
        (lambda m: m.astype(np.float16), MaskValues.ONES),
        (lambda m: m.astype(np.int64), MaskValues.ONES),
        (lambda m: np.zeros(m.shape), MaskValues.ONES),
        (lambda m: m.astype(np.uint8) * 255, MaskValues.BYTES),
        (lambda m: m.astype(np.uint16) * 255, MaskValues.BYTES),
        (lambda m: np.where(m, 0.93, 0.02), MaskValues.PROBABILITIES),
    ],
)
def test_clear_values_are_named(store: Callable, values: MaskValues) -> None:
    stored = store(masks())
    assert mask_values(stored, PATH) is values
    if values is not MaskValues.PROBABILITIES:
        assert np.array_equal(to_bool(stored, PATH), masks() & bool(stored.any()))


@pytest.mark.parametrize(
    ("store", "says"),
    [
        (lambda m: m.astype(np.uint8) + 1, "largest value 2 .an id map"),
        (lambda m: m.astype(np.uint8) * 7, "largest value 7 .an id map"),
        (lambda m: np.where(m, 255, 1), "0 and 255 only"),
        (lambda m: np.where(m, 1, -1).astype(np.int8), "smallest value -1 .logits"),
        (lambda m: np.where(m, 0.3, -0.3), "smallest value -0.3 .logits"),
        (lambda m: np.where(m, 3.0, 0.0), "largest value 3 "),
        (lambda m: np.where(m, 0.4, 0.0), "never exceed 0.5"),
        (lambda m: np.where(m, 1.0, np.nan), "NaN or infinity"),
        (lambda m: np.where(m, np.inf, 0.0), "NaN or infinity"),
    ],
)
def test_ambiguous_values_are_refused(store: Callable, says: str) -> None:
    with pytest.raises(PisaError, match=rf"m\.npy: .*{says}"):
        mask_values(store(masks()), PATH)


def test_a_true_mask_holds_no_probabilities() -> None:
    with pytest.raises(PisaError, match="probabilities"):
        to_bool(np.where(masks(), 0.93, 0.02), PATH)


@pytest.mark.parametrize(
    ("store", "says"),
    [
        (lambda m: m[:, 0][None], "24 objects in 1 frame"),
        (lambda m: m.swapaxes(0, 1), "2 objects in 24 frame|24 objects in 2 frame"),
        (lambda m: m[:, 0, ..., None], "64 objects in 24 frame"),
        (lambda m: m.repeat(4, 0)[:, 0, ..., None], "frames of 1x64 px"),
        (lambda m: m.transpose(2, 3, 0, 1)[..., 0][..., None], "frames of 1x24 px"),
        (lambda m: m.repeat(4, 0)[:, 0, ..., None].repeat(3, 3), "frames of 3x64 px"),
        (lambda m: m[:, 0].transpose(1, 2, 0), "64 frames of 24x64 px, or 24 frames of 64x64 px"),
    ],
)
def test_swapped_axes_are_refused(store: Callable, says: str) -> None:
    with pytest.raises(PisaError, match=rf"({says}).*axes swapped"):
        check_axes(store(masks(objects=2)), PATH)


@pytest.mark.parametrize(
    "shape",
    [(24, 64, 64), (64, 1, 64, 48), (64, 64, 64), (24, 1, 64, 64), (24, 5, 48, 64), (1, 1, 8, 8)],
)
def test_usual_axes_pass(shape: tuple[int, ...]) -> None:
    assert check_axes(np.zeros(shape, dtype=bool), PATH) is None


def test_a_note_says_what_each_protocol_counts() -> None:
    assert describe(MaskValues.ONES, PATH) == describe(MaskValues.BOOLEAN, PATH) == ""
    assert "m.npy holds 0 and 255; paper and strict count 255, official counts only 1" in (
        describe(MaskValues.BYTES, PATH)
    )
    assert "count values above 0.5" in describe(MaskValues.PROBABILITIES, PATH)


def test_fortran_order_reads_as_it_is_indexed(tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", np.asfortranarray(masks()))
    assert np.array_equal(read_mask_array(tmp_path / "m.npy"), masks())
