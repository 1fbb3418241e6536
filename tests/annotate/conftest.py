"""A recording of two drops, drawn once, and a workspace over a copy of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pisa.annotate.tracking import ClipTracker
from pisa.annotate.workspace import Workspace
from pisa.perception.base import PointTracker, Tracker
from tests.annotate import drawn
from tests.annotate.colour import Colour


@pytest.fixture(scope="session")
def footage() -> drawn.Drawn:
    return drawn.draw()


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory, footage: drawn.Drawn) -> Path:
    """An mp4 that tests only read."""
    return drawn.write(tmp_path_factory.mktemp("recorded") / "drops.mp4", footage.frames)


@pytest.fixture(scope="session")
def imported(recorded: Path) -> Path:
    """The recording's folder after it has been read, to be copied."""
    workspace(recorded.parent).open("drops.mp4")
    return recorded.parent


@pytest.fixture
def folder(imported: Path, tmp_path: Path) -> Path:
    """A folder with the recording, read already, that a test may write to."""
    shutil.copytree(imported, tmp_path / "clips")  # keeps times, so that nothing is read again
    return tmp_path / "clips"


@pytest.fixture
def space(folder: Path) -> Workspace:
    return workspace(folder)


def workspace(folder: Path, tracker: PointTracker | Tracker | None = None) -> Workspace:
    return Workspace(folder, lambda: ClipTracker(tracker or Colour(), (64, 64), "cpu"))
