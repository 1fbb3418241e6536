"""Masks on disk: found again for the same content, never for another."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pisa.errors import PisaError
from pisa.perception.base import ALL_OBJECTS
from pisa.perception.mask_cache import LOGIT, CachedTracker, tracker_identity


class Brightness(nn.Module):
    """Every bright pixel belongs to every object; counts its calls."""

    def __init__(self, threshold: float = 0.0) -> None:
        super().__init__()
        self.threshold = nn.Parameter(torch.tensor(threshold))
        self.calls = 0
        self.fail_at = -1

    def segment(self, video: Tensor, first_masks: Tensor, tracked: slice = ALL_OBJECTS) -> Tensor:
        if self.calls == self.fail_at:
            raise KeyboardInterrupt
        self.calls += 1
        count = first_masks[:, tracked].shape[1]
        return (video.mean(dim=1) - self.threshold)[:, None].repeat(1, count, 1, 1, 1)


@pytest.fixture
def clips(falling_square: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    video, masks = falling_square
    return video, masks[:, :, 0]


def cached(tracker: Brightness, folder: Path) -> CachedTracker:
    return CachedTracker(tracker, folder, tracker_identity(tracker))


def test_masks_are_those_of_the_tracker(clips, tmp_path: Path) -> None:
    tracker = Brightness()
    for which in (ALL_OBJECTS, slice(-1, None)):
        expected = tracker.segment(*clips, which) > 0
        first, again = (cached(tracker, tmp_path).segment(*clips, which) for _ in range(2))
        assert torch.equal(first > 0, expected) and torch.equal(first, again)
        assert set(first.unique().tolist()) == {-LOGIT, LOGIT}


def test_second_time_nothing_is_tracked(clips, tmp_path: Path) -> None:
    tracker = Brightness()
    cached(tracker, tmp_path).segment(*clips)
    assert tracker.calls == 2  # clips are kept one by one
    again = cached(tracker, tmp_path)
    again.segment(*clips)
    assert tracker.calls == 2 and (again.hits, again.misses) == (2, 0)


def test_anything_else_is_another_file(clips, tmp_path: Path) -> None:
    video, first = clips
    base = cached(Brightness(), tmp_path)
    path = base.path_of(video[0], first[0], ALL_OBJECTS)
    other_video, other_first = video[0].clone(), first[0].clone()
    other_video[0, 0, 0, 0] += 1e-6
    other_first[1, 0, 0] = True
    different = [
        base.path_of(other_video, first[0], ALL_OBJECTS),
        base.path_of(video[0], other_first, ALL_OBJECTS),
        base.path_of(video[0], first[0], slice(-1, None)),
        base.path_of(video[0], first[0].flip(0), ALL_OBJECTS),
        cached(Brightness(0.1), tmp_path).path_of(video[0], first[0], ALL_OBJECTS),
    ]
    assert len({path, *different}) == 6
    assert tracker_identity(Brightness(), "size: 256") != tracker_identity(Brightness())
    assert tracker_identity(Brightness()) == tracker_identity(Brightness())


def test_an_interrupted_run_goes_on(clips, tmp_path: Path) -> None:
    tracker = Brightness()
    tracker.fail_at = 1
    with pytest.raises(KeyboardInterrupt):
        cached(tracker, tmp_path).segment(*clips)
    tracker.fail_at = -1
    resumed = cached(tracker, tmp_path)
    resumed.segment(*clips)
    assert (resumed.hits, resumed.misses) == (1, 1)
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("damage", [b"", b"nonsense", None])
def test_damaged_files_are_made_again(clips, tmp_path: Path, damage: bytes | None) -> None:
    tracker = Brightness()
    expected = cached(tracker, tmp_path).segment(*clips)
    for path in tmp_path.rglob("*.npz"):
        path.write_bytes(path.read_bytes()[:-30] if damage is None else damage)
    again = cached(tracker, tmp_path)
    assert torch.equal(again.segment(*clips), expected)
    assert again.misses == 2


def test_an_unwritable_folder_is_one_line(clips, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(PisaError, match="cannot write"):
        cached(Brightness(), tmp_path / "file").segment(*clips)
