"""Figure 3: objects per video and kinds of scenes of the real clips.

The number of objects is that of the annotated points (else of the masks). Scenes are what ``scene``
in ``clip_info.json`` says; clips without it are counted as "not recorded", never left out.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pisa.data.clip_info import NOT_RECORDED, fps_of, read_info, scene_of
from pisa.data.image_files import frame_paths
from pisa.data.manifest import list_clips
from pisa.data.mask_files import read_masks
from pisa.errors import PisaError
from pisa.reports.figures import style
from pisa.reports.figures.style import origin_of_data

PAPER_CLIPS = 361


@dataclass(frozen=True)
class RealStatistics:
    """Counts over ``num_clips`` clips; every dictionary sums to it."""

    num_clips: int
    objects: dict[int, int]  # number of objects: clips (Figure 3a)
    scenes: dict[str, int]  # scene: clips, most frequent first (Figure 3b)
    fps_hz: dict[str, int]  # frame rate: clips
    duration_s: tuple[float, float, float]  # shortest, mean, longest

    @property
    def scene_shares(self) -> dict[str, float]:
        """Proportions of the scenes, as the paper draws them."""
        return {scene: count / self.num_clips for scene, count in self.scenes.items()}


def real_statistics(clips: Iterable[Path]) -> RealStatistics:
    """Statistics over clip folders. Raises ``PisaError`` for none, and for a broken one."""
    objects: Counter[int] = Counter()
    scenes: Counter[str] = Counter()
    rates: Counter[str] = Counter()
    durations_s: list[float] = []
    for clip in clips:
        info, paths = read_info(clip), frame_paths(clip)
        fps_hz = fps_of(info, paths[0])
        objects[num_objects(info, clip)] += 1
        scenes[scene_of(info, clip) or NOT_RECORDED] += 1
        rates[f"{fps_hz:g}"] += 1
        durations_s.append(len(paths) / fps_hz)
    if not durations_s:
        raise PisaError("there are no clips to take statistics of")
    return RealStatistics(
        num_clips=len(durations_s),
        objects=dict(sorted(objects.items())),
        scenes=dict(sorted(scenes.items(), key=lambda item: (-item[1], item[0]))),
        fps_hz=dict(rates),
        duration_s=(min(durations_s), sum(durations_s) / len(durations_s), max(durations_s)),
    )


def num_objects(info: dict, clip: Path) -> int:
    """Annotated objects of a clip; where there are no points, its masks.

    Raises ``PisaError`` where the points are no list.
    """
    points = info.get("points")
    if points is None:
        return read_masks(clip).shape[1]
    if not isinstance(points, list):
        raise PisaError(f"{clip / 'clip_info.json'}: points must be a list")
    return len(points)


def draw(statistics: RealStatistics) -> Figure:
    """(a) clips by number of objects, (b) proportions of the scenes."""
    figure = style.new_figure(style.TEXT_IN, 2.5)
    left, right = figure.subplots(1, 2)
    left.bar([str(n) for n in statistics.objects], list(statistics.objects.values()))
    left.set(xlabel="objects in the video", ylabel="videos", title="(a)")
    left.set_xlim(-1, len(statistics.objects))  # one kind alone would fill the plot
    left.yaxis.set_major_locator(MaxNLocator(integer=True))
    shares = statistics.scene_shares
    right.pie(list(shares.values()), labels=list(shares), autopct="%.0f%%")
    right.set_title("(b)")
    return figure


def report(statistics: RealStatistics) -> str:
    """Plain text, every number with what it was taken over."""
    shortest, mean, longest = statistics.duration_s
    lines = [f"{statistics.num_clips} clips (the paper's set has {PAPER_CLIPS})"]
    lines += [f"  {n} objects: {count}" for n, count in statistics.objects.items()]
    lines += [
        f"  scene {scene}: {count} ({statistics.scene_shares[scene]:.1%})"
        for scene, count in statistics.scenes.items()
    ]
    lines += [f"  {rate} frames per second: {count}" for rate, count in statistics.fps_hz.items()]
    lines += [f"  {shortest:.2f} to {longest:.2f} s long, {mean:.2f} s on average"]
    return "\n".join(lines)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data_set", type=Path, help="folder of clip folders, data/real for one")
    style.add_out(parser, "figure3")


def main(given: argparse.Namespace) -> None:
    """Draw the statistics and print them."""
    statistics = real_statistics(list_clips(given.data_set))
    print(report(statistics))
    title = "Figure 3: real clips"
    style.write(given.out, origin_of_data(given.data_set), lambda: draw(statistics), title=title)
