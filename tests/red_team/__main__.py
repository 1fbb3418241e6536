"""The red-team page: how the protocols respond to attacks on true clips, in figures and pictures.

``python -m tests.red_team DATA_SET... --page docs/reference/metrics.md --images docs/img`` attacks
the true masks of every clip in the data sets with ``tests.red_team.attacks``, writes its tables
between the marks of the page, and one picture per group of attacks. A clip that an attack doesn't
apply to (swap: one object only) is left out of its row, and the count says so. The second table
(``tests.red_team.measures``) adds attacks on the pixels.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from einops import rearrange
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from scipy import ndimage

from pisa.data.clip_io import read_clip
from pisa.data.manifest import list_clips
from pisa.errors import PisaError
from pisa.io.files import write_atomic
from pisa.ops.masks import MaskError, centroids
from pisa.ops.video import to_frames
from pisa.types import Clip
from tests.red_team.attacks import ATTACKS, EXTRA_ATTACKS, LOST_TRACKER, Attack, losses
from tests.red_team.contact_sheet import contact_sheet, save_png
from tests.red_team.measures import measure_table, responses

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
PROTOCOLS = ("official", "paper", "strict")
TABLES = ("protocols", "measures")
_PICTURED, _EVERY, _SCALE = 0.75, 5, 2
_OBJECT, _OUTLINE = np.array([255, 140, 0]), np.array([0, 90, 200])
_ROUNDING = 1e-9

Losses = Float[np.ndarray, "clips strengths metrics"]  # l2, Chamfer, 1 - IoU


def measure(attack: Attack, clips: Iterable[Clip], protocol: str) -> Losses:
    """Losses of every clip that the attack applies to, at ``STRENGTHS``."""
    rows = []
    for clip in clips:
        masks = true_masks(clip)
        try:
            tracks = [attack(masks, strength) for strength in STRENGTHS]
        except MaskError:
            continue
        scores = [losses(masks, track, clip.fps_hz, protocol) for track in tracks]
        rows.append([list(score.values()) for score in scores])
    return np.array(rows).reshape(len(rows), len(STRENGTHS), 3)


def true_masks(clip: Clip) -> Bool[np.ndarray, "t n h w"]:
    return rearrange(clip.masks, "n t h w -> t n h w").numpy().astype(bool)


def response_table(measured: Mapping[str, Mapping[str, Losses]]) -> str:
    """Mean losses per attack and protocol at strength 1; undefined clips are left out of a mean."""
    most = max(len(by_protocol["strict"]) for by_protocol in measured.values())
    lines = ["| attack | " + " | ".join(PROTOCOLS) + " |", "|---" * 4 + "|"]
    for name, by_protocol in measured.items():
        means = [np.nanmean(by_protocol[protocol][:, -1], axis=0) for protocol in PROTOCOLS]
        count = len(by_protocol["strict"])
        label = name if count == most else f"{name} ({count} clips)"
        lines.append(f"| {label} | " + " | ".join("/".join(map(_short, m)) for m in means) + " |")
    return "\n".join(lines)


def monotony(measured: Mapping[str, Mapping[str, Losses]]) -> str:
    """The attacks that ``strict`` does not rank in full, over all their clips and strengths."""
    others = []
    for name, by_protocol in measured.items():
        table = by_protocol["strict"]
        steps = np.diff(table, axis=1)
        better = (table[:, 1:] < table[:, :1] - _ROUNDING).any(axis=(1, 2))
        same = (table[:, -1] <= table[:, 0] + _ROUNDING).all(axis=1)
        back = (steps < -_ROUNDING).any(axis=(1, 2))
        if (better | same | back).any():
            largest = "/".join(_short(max(0.0, value)) for value in -steps.min(axis=(0, 1)))
            others.append(
                f"{name} (of {len(table)} clips {better.sum()} are better than untouched, "
                f"{same.sum()} no worse, {back.sum()} better at a higher strength, by {largest})"
            )
    return (
        f"{len(measured) - len(others)} of {len(measured)} attacks worsen every clip under "
        f"`strict`, and a higher strength never costs less. Others: {', '.join(others) or 'none'}."
    )


def attack_sheet(attacks: Mapping[str, Attack], clip: Clip) -> UInt8[np.ndarray, "i j 3"]:
    """Rows are attacks, columns frames: the attacked mask in orange, the true outline in blue."""
    masks = true_masks(clip)
    rows = {"untouched": masks[:, -1]} | {
        name: attack(masks, _PICTURED) for name, attack in attacks.items()
    }
    frames = to_frames(clip.video)
    pictures = {name: _draw(frames, masks[:, -1], track) for name, track in rows.items()}
    return contact_sheet(pictures, every=_EVERY, scale=1)


def _draw(
    frames: UInt8[np.ndarray, "t h w 3"],
    truth: Bool[np.ndarray, "t h w"],
    track: Bool[np.ndarray, "s h w"],
) -> UInt8[np.ndarray, "s i j 3"]:
    """Enlarged frames in pale grey, with mask and outline; only as many as the track has."""
    drawn = []
    for frame, true_mask, mask in zip(frames, truth, track, strict=False):
        grey = np.asarray(Image.fromarray(frame).convert("L"), dtype=np.float64)
        image = _enlarge(np.repeat(176 + 0.3 * grey[..., None], 3, axis=2))
        inside, outline = _enlarge(mask), _outline(_enlarge(true_mask))
        image[inside] = 0.15 * image[inside] + 0.85 * _OBJECT
        image[outline] = _OUTLINE
        drawn.append(np.clip(image, 0, 255).astype(np.uint8))
    return np.stack(drawn)


def _enlarge(image: np.ndarray) -> np.ndarray:
    return image.repeat(_SCALE, axis=0).repeat(_SCALE, axis=1)


def _outline(mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    return mask & ~ndimage.binary_erosion(mask, border_value=0)


def _short(value: float) -> str:
    """Three decimals without the leading zero; 0 for what rounds to it."""
    text = f"{value:.3f}"
    return "0" if float(text) == 0 else text.removeprefix("0")


def marks(table: str) -> tuple[str, str]:
    """The lines of a page between which a table is written."""
    return f"<!-- red team, {table}: begin -->", f"<!-- red team, {table}: end -->"


def fill_page(page: str, table: str, text: str) -> str:
    """The page with ``text`` between the table's marks. Raises ``PisaError`` where it has none."""
    first, last = marks(table)
    head, begin, rest = page.partition(first)
    _, end, tail = rest.partition(last)
    if not begin or not end:
        raise PisaError(f"the page needs the marks {first} and {last}")
    return f"{head}{first}\n{text}\n{last}{tail}"


def protocol_text(clips: Sequence[Clip]) -> str:
    """Table and sentence on how the protocols respond to the attacks."""
    measured = {
        name: {protocol: measure(attack, clips, protocol) for protocol in PROTOCOLS}
        for name, attack in (ATTACKS | EXTRA_ATTACKS | LOST_TRACKER).items()
    }
    return f"{response_table(measured)}\n\n{textwrap.fill(monotony(measured), 116)}"


def pictured_clip(clips: Sequence[Clip]) -> Clip:
    """A long fall that every attack applies to, of a large object in sight, beside another."""

    def visibility(clip: Clip) -> float:
        masks = true_masks(clip)
        areas = masks[:, [0, -1]].sum(axis=(2, 3))  # [T, 2]
        if masks.shape[1] < 2 or not areas.all():
            return -1.0
        try:
            for attack in (ATTACKS | EXTRA_ATTACKS | LOST_TRACKER).values():
                attack(masks, _PICTURED)
        except MaskError:
            return -1.0
        y_px = centroids(masks[:, -1])[:, 1]
        return float(max(y_px) - y_px[0]) * float(np.sqrt(np.median(areas, axis=0).min()))

    return max(clips, key=visibility)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 0, or 2 with a line that says what is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.red_team", description=__doc__)
    parser.add_argument("data_sets", type=Path, nargs="+", help="data/sim_seen-beb90c75 for one")
    parser.add_argument("--page", type=Path, help="put the results between this page's marks")
    parser.add_argument("--images", type=Path, help="folder for the pictures")
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=TABLES)
    options = parser.parse_args(arguments)
    try:
        page = options.page.read_text(encoding="utf-8") if options.page else None
        clips = [read_clip(path) for folder in options.data_sets for path in list_clips(folder)]
        if options.images:
            for name, group in (("red_team", ATTACKS), ("red_team_extra", EXTRA_ATTACKS)):
                save_png(options.images / f"{name}.png", attack_sheet(group, pictured_clip(clips)))
        for table in options.tables:
            text = protocol_text(clips) if table == "protocols" else measure_table(responses(clips))
            print(text)
            if page is not None:
                page = fill_page(page, table, text)
                write_atomic(options.page, page.encode())
    except FileNotFoundError as error:
        print(f"error: {error.filename}: there is no such page to fill", file=sys.stderr)
        return 2
    except PisaError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
