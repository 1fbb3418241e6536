"""Which key does what; the help page and the page itself read the same table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pisa.annotate.page.actions import Actions
from pisa.annotate.session import Mode


@dataclass(frozen=True)
class Binding:
    """``mode`` None: everywhere. ``repeats``: again and again while the key is held."""

    key: str
    action: Callable[[Actions], object]
    help: str
    mode: Mode | None = None
    repeats: bool = False


def _steps() -> tuple[Binding, ...]:
    named = ((",", -1), (".", 1), ("<", -10), (">", 10))
    return tuple(
        Binding(
            key,
            lambda page, by=by: page.step(by),  # type: ignore[misc]
            f"{abs(by)} frame{'s' * (abs(by) > 1)} {'on' if by > 0 else 'back'}",
            repeats=True,
        )
        for key, by in named
    )


BINDINGS: tuple[Binding, ...] = (
    Binding("1", lambda page: page.go(Mode.CUT), "step 1: cut"),
    Binding("2", lambda page: page.go(Mode.CROP), "step 2: crop"),
    Binding("3", lambda page: page.go(Mode.POINTS), "step 3: points"),
    Binding("4", lambda page: page.go(Mode.CHECK), "step 4: check and save"),
    Binding(
        "ArrowLeft",
        lambda page: page.arrow(-1, 0),
        "1 frame back (Shift: 10); crop, cross hair: move",
        repeats=True,
    ),
    Binding(
        "ArrowRight",
        lambda page: page.arrow(1, 0),
        "1 frame on (Shift: 10); crop, cross hair: move",
        repeats=True,
    ),
    Binding(
        "ArrowUp",
        lambda page: page.arrow(0, -1),
        "crop, cross hair: move; else 1 s back",
        repeats=True,
    ),
    Binding(
        "ArrowDown",
        lambda page: page.arrow(0, 1),
        "crop, cross hair: move; else 1 s on",
        repeats=True,
    ),
    *_steps(),
    Binding("Home", lambda page: page.seek_clip(0), "start of the clip"),
    Binding("End", lambda page: page.seek_clip(-1), "end of the clip"),
    Binding(" ", lambda page: page.play(), "play at half speed, stop"),
    Binding("r", lambda page: page.next_recording(1), "next recording"),
    Binding("j", lambda page: page.do(page.session.next_clip, 1), "next clip"),
    Binding("k", lambda page: page.do(page.session.next_clip, -1), "clip before"),
    Binding("z", lambda page: page.undo(), "undo"),
    Binding("?", lambda page: page.help(), "this list"),
    Binding(
        "n",
        lambda page: page.do(page.session.next_release, 1),
        "next release moment found",
        Mode.CUT,
    ),
    Binding(
        "p", lambda page: page.do(page.session.next_release, -1), "release moment before", Mode.CUT
    ),
    Binding(
        "m",
        lambda page: page.do(page.session.mark),
        "mark a clip that starts at this frame",
        Mode.CUT,
    ),
    Binding(
        "b",
        lambda page: page.do(page.session.set_start, page.session.frame),
        "begin the clip at this frame",
        Mode.CUT,
    ),
    Binding(
        "e", lambda page: page.do(page.session.set_stop), "end the clip at this frame", Mode.CUT
    ),
    Binding(
        "Delete",
        lambda page: page.do(page.session.remove_clip),
        "remove the clip (undo brings it back)",
        Mode.CUT,
    ),
    Binding("+", lambda page: page.grow_crop(8), "larger crop", Mode.CROP, repeats=True),
    Binding("-", lambda page: page.grow_crop(-8), "smaller crop", Mode.CROP, repeats=True),
    Binding("g", lambda page: page.suggest_crop(), "crop around what moves", Mode.CROP),
    Binding("a", lambda page: page.do(page.session.add_object), "add an object", Mode.POINTS),
    Binding("]", lambda page: page.do(page.session.next_object, 1), "next object", Mode.POINTS),
    Binding("[", lambda page: page.do(page.session.next_object, -1), "object before", Mode.POINTS),
    Binding(
        "x", lambda page: page.do(page.session.remove_object), "remove the object", Mode.POINTS
    ),
    Binding(
        "Backspace",
        lambda page: page.do(page.session.unclick),
        "remove the newest point",
        Mode.POINTS,
    ),
    Binding(
        "c",
        lambda page: page.toggle_cursor(),
        "cross hair for the arrow keys, on and off",
        Mode.POINTS,
    ),
    Binding(
        "Enter",
        lambda page: page.cursor_click(True),
        "positive point at the cross hair",
        Mode.POINTS,
    ),
    Binding(
        "0", lambda page: page.cursor_click(False), "negative point at the cross hair", Mode.POINTS
    ),
    Binding("v", lambda page: page.preview(), "preview of the masks in this frame", Mode.POINTS),
    Binding("t", lambda page: page.track(), "propagate through the clip", Mode.POINTS),
    Binding(
        "f",
        lambda page: page.fix_start(),
        "move the start to the release that is measured",
        Mode.CHECK,
    ),
    Binding("s", lambda page: page.save(), "save the clip", Mode.CHECK),
)


def binding_of(key: str, mode: Mode) -> Binding | None:
    """Letters count in either case."""
    wanted = key.lower() if len(key) == 1 else key
    found = (b for b in BINDINGS if b.key == wanted and b.mode in (None, mode))
    return next(found, None)


def listed(mode: Mode | None) -> list[tuple[str, str]]:
    """Key and meaning of one step's keys (None: those that hold everywhere)."""
    names = {" ": "Space", "ArrowLeft": "←", "ArrowRight": "→", "ArrowUp": "↑", "ArrowDown": "↓"}
    return [(names.get(b.key, b.key.upper()), b.help) for b in BINDINGS if b.mode == mode]
