"""Which key does what; the help page and the page itself read the same table."""

from __future__ import annotations

from dataclasses import dataclass

from pisa.annotate.session import Mode


@dataclass(frozen=True)
class Binding:
    """``action`` is a method of ``View``; ``mode`` None: everywhere."""

    key: str
    action: str
    arguments: tuple[object, ...]
    help: str
    mode: Mode | None = None


def _steps() -> tuple[Binding, ...]:
    named = ((",", -1), (".", 1), ("<", -10), (">", 10))
    return tuple(
        Binding(key, "step", (by,), f"{abs(by)} frame{'s' * (abs(by) > 1)} {_side(by)}")
        for key, by in named
    )


def _side(by: int) -> str:
    return "on" if by > 0 else "back"


BINDINGS: tuple[Binding, ...] = (
    Binding("1", "go", (Mode.CUT,), "step 1: cut"),
    Binding("2", "go", (Mode.CROP,), "step 2: crop"),
    Binding("3", "go", (Mode.POINTS,), "step 3: points"),
    Binding("4", "go", (Mode.CHECK,), "step 4: check and save"),
    Binding("ArrowLeft", "arrow", (-1, 0), "1 frame back (Shift: 10); crop, cross hair: move"),
    Binding("ArrowRight", "arrow", (1, 0), "1 frame on (Shift: 10); crop, cross hair: move"),
    Binding("ArrowUp", "arrow", (0, -1), "crop, cross hair: move; else 1 s back"),
    Binding("ArrowDown", "arrow", (0, 1), "crop, cross hair: move; else 1 s on"),
    *_steps(),
    Binding("Home", "seek_clip", (0,), "start of the clip"),
    Binding("End", "seek_clip", (-1,), "end of the clip"),
    Binding(" ", "play", (), "play at half speed, stop"),
    Binding("r", "next_recording", (1,), "next recording"),
    Binding("j", "next_clip", (1,), "next clip"),
    Binding("k", "next_clip", (-1,), "clip before"),
    Binding("z", "undo", (), "undo"),
    Binding("?", "help", (), "this list"),
    Binding("n", "next_release", (1,), "next release moment found", Mode.CUT),
    Binding("p", "next_release", (-1,), "release moment before", Mode.CUT),
    Binding("m", "mark", (), "mark a clip that starts at this frame", Mode.CUT),
    Binding("b", "set_start", (), "begin the clip at this frame", Mode.CUT),
    Binding("e", "set_stop", (), "end the clip at this frame", Mode.CUT),
    Binding("Delete", "remove_clip", (), "remove the clip (undo brings it back)", Mode.CUT),
    Binding("+", "grow_crop", (8,), "larger crop", Mode.CROP),
    Binding("-", "grow_crop", (-8,), "smaller crop", Mode.CROP),
    Binding("g", "suggest_crop", (), "crop around what moves", Mode.CROP),
    Binding("a", "add_object", (), "add an object", Mode.POINTS),
    Binding("]", "next_object", (1,), "next object", Mode.POINTS),
    Binding("[", "next_object", (-1,), "object before", Mode.POINTS),
    Binding("x", "remove_object", (), "remove the object", Mode.POINTS),
    Binding("Backspace", "unclick", (), "remove the newest point", Mode.POINTS),
    Binding("c", "toggle_cursor", (), "cross hair for the arrow keys, on and off", Mode.POINTS),
    Binding("Enter", "cursor_click", (True,), "positive point at the cross hair", Mode.POINTS),
    Binding("0", "cursor_click", (False,), "negative point at the cross hair", Mode.POINTS),
    Binding("v", "preview", (), "preview of the masks in this frame", Mode.POINTS),
    Binding("t", "track", (), "propagate through the clip", Mode.POINTS),
    Binding("f", "fix_start", (), "move the start to the release that is measured", Mode.CHECK),
    Binding("s", "save", (), "save the clip", Mode.CHECK),
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
