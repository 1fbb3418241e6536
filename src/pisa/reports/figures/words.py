"""Figure 12 (a): the words of the captions of real clips, larger where they are more frequent."""

from __future__ import annotations

import argparse
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from matplotlib.figure import Figure

from pisa.data.clip_info import caption_of, read_info
from pisa.data.manifest import list_clips
from pisa.errors import PisaError
from pisa.reports.figures import style
from pisa.reports.figures.style import origin_of_data

COLOURS = (style.BLUE, style.RED, style.GREEN, style.PURPLE, style.INK)
STOP_WORDS = frozenset(
    re.findall(
        r"\w+",
        """a an and are as at be being by down drop dropped dropping drops fall falling falls for
        from in into is it its object of off on onto out over that the then this to towards two
        video which while with""",
    )
)
_NOTES = "Words by how many captions hold them; articles, prepositions and falling are left out."
_LARGEST_PT, _SMALLEST_PT = 26.0, 5.0
_WIDTH_PT, _HEIGHT_PT = 0.62, 1.15  # of a letter and of a line, as parts of the font's size
_STEPS = 4000  # along the spiral, until a word counts as without room


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data_set", type=Path, help="clips with captions, data/real for one")
    parser.add_argument("--words", type=int, default=60, help="the most frequent ones")
    style.add_out(parser, "figure12a")


def main(given: argparse.Namespace) -> None:
    """Draw the words of a data set's captions, and print the most frequent."""
    clips = list_clips(given.data_set)
    counts = count_words(caption_of(read_info(clip), clip) for clip in clips)
    if not counts:
        raise PisaError(f"{given.data_set}: no clip has a caption")
    shown = dict(counts.most_common(given.words))
    print(", ".join(f"{word} {count}" for word, count in list(shown.items())[:10]))
    origin, title = origin_of_data(given.data_set), "Figure 12 (a): words in captions"
    style.write(given.out, origin, lambda: draw(shown), title=title, notes=_NOTES)


def count_words(captions: Iterable[str]) -> Counter[str]:
    """In how many captions each word is; a word counts once in a caption."""
    counts: Counter[str] = Counter()
    for caption in captions:
        words = set(re.findall(r"[a-z][a-z'-]+", caption.lower()))
        counts.update(sorted(words - STOP_WORDS))
    return counts


def draw(counts: Mapping[str, int]) -> Figure:
    """The cloud; words for which there is no room are left out."""
    width_in, height_in = style.COLUMN_IN, 2.4
    figure = style.new_figure(width_in, height_in)
    axes = figure.subplots()
    axes.set_axis_off()
    width, height = width_in * 72, (height_in - 0.3) * 72
    axes.set_xlim(-width / 2, width / 2)
    axes.set_ylim(-height / 2, height / 2)
    for i, (word, (x, y, size)) in enumerate(layout(counts, width, height).items()):
        axes.text(
            x, y, word, fontsize=size, ha="center", va="center", color=COLOURS[i % len(COLOURS)]
        )
    return figure


def layout(
    counts: Mapping[str, int], width: float, height: float
) -> dict[str, tuple[float, float, float]]:
    """Centre (x, y) and font size of each word, in points; no two overlap.

    The most frequent word is in the middle, the others on a spiral around it.
    """
    largest = max(counts.values())
    placed: dict[str, tuple[float, float, float]] = {}
    boxes: list[tuple[float, float, float, float]] = []
    for word, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        size = max(_SMALLEST_PT, _LARGEST_PT * math.sqrt(count / largest))
        half_x, half_y = _WIDTH_PT * size * len(word) / 2, _HEIGHT_PT * size / 2
        for step in range(_STEPS):
            angle = 0.3 * math.sqrt(step)
            x, y = 6.0 * angle * math.cos(angle * 2.5), 3.6 * angle * math.sin(angle * 2.5)
            box = (x - half_x, y - half_y, x + half_x, y + half_y)
            inside = abs(x) + half_x <= width / 2 and abs(y) + half_y <= height / 2
            if inside and not any(_overlap(box, other) for other in boxes):
                boxes.append(box)
                placed[word] = (x, y, size)
                break
    return placed


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
