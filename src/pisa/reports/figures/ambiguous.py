"""Figure 6: one first frame, several depths, several falls (paper section 5.2, Appendix F)."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pisa.data.clip_info import study_of
from pisa.data.clip_io import read_clip
from pisa.data.manifest import list_clips
from pisa.errors import PisaError
from pisa.ops.drop_ray import DropRay
from pisa.ops.video import to_frames
from pisa.reports.figures import style
from pisa.reports.figures.style import origin_of_data
from pisa.types import Clip

MEMBERS = 3  # as in the paper
_COLOURS = (style.BLUE, style.ORANGE, style.PURPLE)
_TIMES = 6


@dataclass(frozen=True)
class Member:
    """A clip of a family: its depth and height in metres, and when it reaches the floor."""

    clip: Clip
    slope: float
    depth_m: float
    height_m: float

    @property
    def ray(self) -> DropRay:
        camera = self.clip.camera
        if camera is None:
            raise PisaError(f"clip {self.clip.name} records no camera, which figure 6 needs")
        return DropRay(self.slope, camera.position_m[2], camera.focal_mm / 1000)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data_set", type=Path, help="an ambiguous data set")
    parser.add_argument("--family", type=int, help="which first frame; default: the widest spread")
    style.add_out(parser, "figure6")


def main(given: argparse.Namespace) -> None:
    origin = origin_of_data(given.data_set)
    members = family(given.data_set, given.family)
    title = "Figure 6: first frames that do not tell the depth"
    style.write(given.out, origin, lambda: draw(members), title=title)


def family(folder: Path, number: int | None, count: int = MEMBERS) -> list[Member]:
    """Clips with one first frame, ordered by depth: the nearest, the deepest, and between.

    Raises ``PisaError`` for a set of another kind, or without such a family.
    """
    groups: dict[int, list[tuple[float, Path]]] = {}
    for path in list_clips(folder):
        study = study_of(path, "ambiguous")
        groups.setdefault(study["group"], []).append((study["depth_m"], path))
    first = min(groups)
    full = {g - first: sorted(c) for g, c in groups.items() if len(c) >= count}
    if not full:
        raise PisaError(f"{folder}: no first frame has {count} clips, which figure 6 needs")
    if number is None:
        number = max(full, key=lambda g: full[g][-1][0] / full[g][0][0])
    if number not in full:
        raise PisaError(f"{folder}: no family {number}; there are {min(full)} to {max(full)}")
    chosen = full[number]
    places = np.linspace(0, len(chosen) - 1, count).round().astype(int)
    return [_member(chosen[i][1]) for i in places]


def _member(path: Path) -> Member:
    study = study_of(path, "ambiguous")
    return Member(read_clip(path), study["slope"], study["depth_m"], study["height_m"])


def draw(members: Sequence[Member]) -> Figure:
    """Left the geometry from the side; right what the camera sees of each drop."""
    figure = style.new_figure(style.TEXT_IN, 1.95)
    side, films = figure.subfigures(1, 2, squeeze=False, width_ratios=(1.0, 1.75))[0]
    _draw_side(side.subplots(), members)
    grid = films.subplots(len(members), _TIMES, squeeze=False)
    frames = np.linspace(0, members[0].clip.video.shape[1] - 1, _TIMES).round().astype(int)
    for row, (axes_row, member) in enumerate(zip(grid, members, strict=True)):
        film = to_frames(member.clip.video)
        for axes, frame in zip(axes_row, frames, strict=True):
            style.show_frame(axes, film[frame])
            if row == 0:
                axes.set_title(f"{frame / member.clip.fps_hz:.2f} s", fontsize=6.5)
        axes_row[0].set_ylabel(f"{member.depth_m:.1f} m", color=_colour(row), fontweight="bold")
    return figure


def _draw_side(axes: Axes, members: Sequence[Member]) -> None:
    ray = members[0].ray
    far_m = 1.08 * max(member.depth_m for member in members)
    ends = np.array([0.0, far_m])
    axes.plot(ends, ray.height_m(ends), "--", color=style.INK, linewidth=0.8)
    axes.plot(0, ray.camera_height_m, marker=">", markersize=6, color=style.INK)
    axes.annotate(
        "camera", (0, ray.camera_height_m), (-4, 15), textcoords="offset points", fontsize=6.5
    )
    axes.axhline(0, color=style.INK, linewidth=1.0)
    for row, member in enumerate(members):
        colour = _colour(row)
        fall_s = float(member.ray.drop_time_s(member.depth_m))
        axes.plot(member.depth_m, member.height_m, "o", color=colour, markersize=3 + 2 * row)
        arrow = {"arrowstyle": "->", "color": colour, "linewidth": 1.2}
        place = (member.depth_m, member.height_m)
        axes.annotate("", (member.depth_m, 0), place, arrowprops=arrow)
        offset, side = ((-3, 0), "right") if row == 0 else ((3, 0), "left")  # two are close
        axes.annotate(
            f"{fall_s:.2f} s", (member.depth_m, 0.4 * member.height_m), offset, fontsize=6.5,
            textcoords="offset points", color=colour, ha=side,
        )  # fmt: skip
    axes.set_xlim(-0.1 * far_m, 1.12 * far_m)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("depth (m)")
    axes.set_ylabel("height (m)")


def _colour(row: int) -> str:
    return _COLOURS[row % len(_COLOURS)]
