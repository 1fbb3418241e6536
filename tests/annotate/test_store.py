"""The project file: no edit is lost, whoever makes it, and each can be taken back."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pisa.annotate.motion import Crop
from pisa.annotate.store import ClipDraft, ConflictError, ProjectStore
from pisa.errors import PisaError

CLIP = ClipDraft("drop_01", "a.mp4", 100, 220, Crop(0, 0, 64))


@pytest.fixture
def store(tmp_path: Path) -> ProjectStore:
    return ProjectStore(tmp_path / ".annotate" / "project.json")


def test_what_is_written_is_read_again(store: ProjectStore) -> None:
    project, key = store.add(CLIP)
    again = ProjectStore(store.path).read()
    assert again.clips == {key: CLIP} and again.version == project.version == 1


def test_edits_of_different_fields_in_two_tabs_are_both_kept(store: ProjectStore) -> None:
    seen = store.add(CLIP)[0].version
    store.edit("c1", {"description": "a cup"}, seen, "description")
    store.edit("c1", {"start": 90}, seen, "start")  # the second tab has not seen the first edit
    clip = store.read().clips["c1"]
    assert (clip.description, clip.start) == ("a cup", 90)


def test_an_edit_of_what_changed_meanwhile_is_refused_aloud(store: ProjectStore) -> None:
    seen = store.add(CLIP)[0].version
    store.edit("c1", {"description": "a cup"}, seen, "description")
    with pytest.raises(ConflictError, match="description of drop_01 changed in another tab"):
        store.edit("c1", {"description": "a mug", "start": 3}, seen, "description")
    assert store.read().clips["c1"].description == "a cup"
    assert store.read().clips["c1"].start == 100  # all of an edit, or nothing


def test_a_stale_tab_cannot_remove_an_edited_clip(store: ProjectStore) -> None:
    seen = store.add(CLIP)[0].version
    store.edit("c1", {"stop": 300}, seen, "end")
    with pytest.raises(ConflictError):
        store.remove("c1", seen)
    store.remove("c1", store.read().version)
    with pytest.raises(ConflictError, match="removed in another tab"):
        store.edit("c1", {"stop": 310}, store.read().version, "end")


def test_many_writers_at_once_lose_nothing(store: ProjectStore) -> None:
    def add(n: int) -> None:
        own = ProjectStore(store.path)  # as another process would have
        own.add(ClipDraft(f"clip_{n:02d}", "a.mp4", n, n + 50, Crop(0, 0, 64)))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(24)))
    project = store.read()
    assert len(project.clips) == project.version == 24
    assert len({clip.name for clip in project.clips.values()}) == 24


def test_undo_goes_back_step_by_step(store: ProjectStore) -> None:
    seen = store.add(CLIP)[0].version
    seen = store.edit("c1", {"start": 90}, seen, "start").version
    seen = store.edit("c1", {"start": 80, "stop": 200}, seen, "start").version
    store.remove("c1", seen)
    states = [store.undo(None)[0].clips.get("c1") for _ in range(4)]
    cuts = [(c.start, c.stop) if c else None for c in states]
    assert cuts == [(80, 200), (90, 220), (100, 220), None]
    with pytest.raises(PisaError, match="nothing to undo"):
        store.undo(None)


def test_undo_of_one_clip_leaves_the_other(store: ProjectStore) -> None:
    store.add(CLIP)
    seen = store.add(ClipDraft("other", "a.mp4", 5, 50, Crop(0, 0, 64)))[0].version
    store.edit("c1", {"start": 90}, seen, "start")
    store.edit("c2", {"start": 6}, seen, "start")
    project, label = store.undo("c1")
    assert label == "start of drop_01"
    assert (project.clips["c1"].start, project.clips["c2"].start) == (100, 6)


def test_undo_counts_as_a_change_for_other_tabs(store: ProjectStore) -> None:
    seen = store.add(CLIP)[0].version
    seen = store.edit("c1", {"start": 90}, seen, "start").version
    store.undo("c1")
    with pytest.raises(ConflictError):
        store.edit("c1", {"start": 70}, seen, "start")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"schema": 9}', '{"schema": 1}', '{"schema": 1, "version": "x"}']
)
def test_a_broken_file_is_named_and_kept(store: ProjectStore, text: str) -> None:
    store.path.parent.mkdir()
    store.path.write_text(text)
    with pytest.raises(PisaError, match=r"project\.json"):
        store.add(CLIP)
    assert store.path.read_text() == text


def test_an_impossible_clip_never_reaches_the_file(store: ProjectStore) -> None:
    seen = store.add(CLIP)[0].version
    click = {"frame": 0, "x": "left", "y": 1.0, "positive": True}
    for changes in (
        {"stop": 90},
        {"stop": 100 + 1441},
        {"objects": []},
        {"objects": [{"clicks": [click]}]},
        {"crop": {"left": 0, "top": None, "side": 64}},
        {"name": "../up"},
    ):
        with pytest.raises(PisaError):
            store.edit("c1", changes, seen, "end")
    assert store.read().clips["c1"] == CLIP
    assert json.loads(store.path.read_text())["version"] == 1
    assert not list(store.path.parent.glob("*.part"))
