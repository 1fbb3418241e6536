"""The crop stays square and inside whatever is dragged where."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pisa.annotate.motion import MIN_SIDE_PX, Crop, check_inside, full, inside, leaves, suggest
from pisa.errors import PisaError

SIZE = (240, 320)
far = st.integers(-2000, 2000)
crops = st.builds(lambda x, y, s: inside(x, y, s, SIZE), far, far, st.integers(1, 900))


@given(crops, far, far)
def test_moving_keeps_the_side_and_stays_inside(crop: Crop, dx: float, dy: float) -> None:
    moved = crop.moved(dx, dy, SIZE)
    check_inside(moved, SIZE)
    assert moved.side == crop.side


@given(crops, st.sampled_from(["nw", "ne", "sw", "se"]), far, far)
def test_dragging_a_corner_leaves_the_opposite_one(crop, corner: str, x: float, y: float) -> None:
    dragged = crop.dragged(corner, x, y, SIZE)
    check_inside(dragged, SIZE)
    if "w" in corner:
        assert dragged.left + dragged.side == crop.left + crop.side
    else:
        assert dragged.left == crop.left
    if "n" in corner:
        assert dragged.top + dragged.side == crop.top + crop.side
    else:
        assert dragged.top == crop.top


def test_a_dragged_corner_follows_the_pointer() -> None:
    assert Crop(40, 40, 100).dragged("se", 170, 120, SIZE) == Crop(40, 40, 130)


@given(crops, st.integers(-500, 500))
def test_growing_stays_inside(crop: Crop, by: int) -> None:
    check_inside(crop.grown(by, SIZE), SIZE)


def test_nothing_moves_gives_the_largest_crop() -> None:
    assert suggest(np.zeros((24, 32), dtype=bool), SIZE) == full(SIZE) == Crop(40, 0, 240)


@pytest.mark.parametrize("crop", [Crop(0, 0, MIN_SIDE_PX - 1), Crop(300, 0, 100), Crop(-1, 0, 90)])
def test_a_crop_outside_is_refused(crop: Crop) -> None:
    with pytest.raises(PisaError, match="crop"):
        check_inside(crop, SIZE)


def test_leaving_is_touching_the_edge_or_being_lost() -> None:
    masks = np.zeros((4, 8, 8), dtype=bool)
    masks[0, 3:5, 3:5] = True
    masks[1, 6:8, 3:5] = True  # at the lower edge
    masks[3, 1:3, 1:3] = True  # frame 2 shows nothing
    assert leaves(masks) == [1, 2]
