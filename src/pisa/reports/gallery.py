"""A static page that shows a data set: `pisa gallery DATASET`; and pictures of clips.

For each clip the video, its masks, depth and flow as moving pictures, and all frames in one (paper
Figure 1); above them the distributions of the set's scenes, with those of a given prior over them.
"""

from __future__ import annotations

import argparse
import colorsys
import html
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib as mpl
import numpy as np
import yaml
from jaxtyping import Bool, Float, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from PIL import Image

from pisa.data.clip_io import read_clip
from pisa.data.manifest import list_clips
from pisa.errors import PisaError
from pisa.io.files import write_atomic
from pisa.ops.video import to_frames
from pisa.reports.curves import inline_svg
from pisa.simulation.scene import Prior
from pisa.simulation.statistics import LABELS, Values, prior_ranges, scene_values, uniformity
from pisa.types import Clip

STYLE = Path(__file__).parent / "templates" / "report.css"
CAPTIONS = {
    "video": "clip",
    "masks": "masks",
    "depth": "depth (near is bright)",
    "flow": "flow (colour: direction)",
    "strobe": "all frames in one",
}
LAYOUT = """
.clip { margin: 1.6rem 0; }
.clip > div { display: grid; grid-template-columns: repeat(5, minmax(0, 1fr)); gap: .5rem; }
.clip img { width: 100%; aspect-ratio: 1; display: block; border-radius: 4px; }
.clip figure { padding: .35rem; }
.clip figcaption { font-size: .8rem; margin: .25rem 0 0; }
.charts svg { background: transparent; }
@media (max-width: 48rem) { .clip > div { grid-template-columns: repeat(2, minmax(0, 1fr)); } }
"""


def write_gallery(data_set: Path, folder: Path, prior: Prior | None, num_clips: int = 24) -> Path:
    """Write ``folder/index.html`` and its pictures; returns the page.

    The first ``num_clips`` clips are shown; the distributions are those of the whole set. Raises
    ``PisaError`` for a folder that holds no clips.
    """
    clips = list_clips(data_set)
    records = [json.loads((c / "clip_info.json").read_text(encoding="utf-8")) for c in clips]
    cards = [
        _card(path, record, folder)
        for path, record in zip(clips[:num_clips], records, strict=False)
    ]
    page = folder / "index.html"
    text = _page(data_set.name, len(clips), _charts(records, prior), cards)
    write_atomic(page, text.encode("utf-8"))
    return page


def _card(path: Path, record: Mapping[str, Any], folder: Path) -> str:
    clip = read_clip(path, depth=(path / "truth.npz").is_file())
    if clip.depth_m is not None:
        clip = read_clip(path, depth=True, flow=True)
    figures = []
    for key, content in clip_pictures(clip).items():
        name = f"{path.name}-{key}.webp"
        write_atomic(folder / name, content)
        figures.append(
            f'<figure><img src="{name}" alt="{CAPTIONS[key]} of {path.name}" loading="lazy">'
            f"<figcaption>{CAPTIONS[key]}</figcaption></figure>"
        )
    title = f"<h3>{html.escape(path.name)} <small>{html.escape(_facts(clip, record))}</small></h3>"
    return f'<section class="clip">{title}<div>{"".join(figures)}</div></section>'


def _facts(clip: Clip, record: Mapping[str, Any]) -> str:
    dropping = len(record.get("drop_heights_m", [])) or 1
    facts = [f"{dropping} dropping, {len(clip.masks) - dropping} in piles"]
    if clip.drop_height_m is not None:
        facts.append(f"last one falls {clip.drop_height_m:.2f} m")
    if clip.camera is not None:
        facts.append(f"camera {-clip.camera.position_m[1]:.1f} m back")
    facts += [str(record[key]) for key in ("split", "hdri") if key in record]
    return " · ".join(facts)


def _charts(records: Sequence[Mapping[str, Any]], prior: Prior | None) -> str:
    try:
        values = scene_values(records, prior or Prior())
    except PisaError as error:
        return f'<p class="quiet">No distributions: {html.escape(str(error))}.</p>'
    figures = "".join(
        f"<figure><figcaption>{html.escape(chart.label)}"
        f'<span class="quiet">{html.escape(chart.note)}</span></figcaption>{chart.svg}</figure>'
        for chart in draw_distributions(values, prior)
    )
    return f'<div class="charts">{figures}</div>'


def _page(name: str, total: int, charts: str, cards: Sequence[str]) -> str:
    shown = "" if len(cards) == total else f" The first {len(cards)} are shown."
    style = STYLE.read_text(encoding="utf-8") + LAYOUT
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(name)}</title><style>{style}</style>"
        f'<h1>{html.escape(name)}</h1><p class="quiet">{total} clips.{shown}</p>'
        f"<h2>Distributions</h2>{charts}<h2>Clips</h2>{''.join(cards)}</html>"
    )


def read_prior(path: Path | None) -> Prior | None:
    """The prior of a YAML of ``configs/prior``; None without one.

    Raises ``PisaError`` for any other file.
    """
    if path is None:
        return None
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        return Prior.of(**{k: v for k, v in values.items() if not k.startswith("_")})
    except (OSError, yaml.YAMLError, AttributeError, TypeError) as error:
        raise PisaError(f"{path}: is not a prior: {' '.join(str(error).split())}") from error


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", type=Path, help="data set folder")
    parser.add_argument("--out", type=Path, help="folder of the page; default: DATASET/gallery")
    parser.add_argument(
        "--prior",
        type=Path,
        help="YAML of configs/prior, to test the set against",
    )
    parser.add_argument("--clips", type=int, default=24, help="how many to show")


def main(given: argparse.Namespace) -> None:
    """Write the page and print its path."""
    out = given.out or given.dataset / "gallery"
    with np.errstate(all="raise", under="ignore"):
        print(write_gallery(given.dataset, out, read_prior(given.prior), given.clips))


GREY, BLUE, RED = "#808890", "#3b8bc0", "#d0603a"


@dataclass(frozen=True)
class Distribution:
    """One chart: what it shows, how far from the prior it is, an inline SVG."""

    label: str
    note: str
    svg: str


def draw_distributions(values: Values, prior: Prior | None) -> Iterator[Distribution]:
    """One chart per key that has values, tested against the prior that the set was drawn from."""
    ranges = {} if prior is None else prior_ranges(prior)
    p_values = {} if prior is None else uniformity(values, prior)
    for key, label in LABELS.items():
        sample = values[key]
        if len(sample) == 0:
            continue
        figure = Figure(figsize=(3.6, 1.9), layout="constrained")
        axes = figure.add_subplot()
        width = _histogram(axes, sample, whole=key.startswith("num_"))
        note = f"{len(sample)} values, mean {sample.mean():.2f}"
        if key in ranges:
            _prior(axes, len(sample) * width, ranges[key], whole=key.startswith("num_"))
            note += f"; against the prior (red): p = {p_values[key]:.2f}"
        with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": key}):
            yield Distribution(label, note, inline_svg(figure))


def _histogram(axes: Axes, sample: NDArray[np.floating], *, whole: bool) -> float:
    """Draws the bars; returns the width of a bin."""
    if whole:
        numbers, counts = np.unique(sample, return_counts=True)
        axes.bar(numbers, counts, width=0.8, color=BLUE)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        width = 1.0
    else:
        _, edges, _ = axes.hist(sample, bins=15, color=BLUE)
        width = float(edges[1] - edges[0])
    axes.tick_params(colors=GREY, labelsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(GREY)
    return width


def _prior(axes: Axes, area: float, limits: tuple[float, float], *, whole: bool) -> None:
    low, high = limits
    if whole:
        expected = area / (high - low + 1)
        low, high = low - 0.4, high + 0.4
    else:
        expected = area / (high - low)
    axes.plot([low, low, high, high], [0, expected, expected, 0], color=RED, linewidth=1.5)


def stroboscopic(
    frames: UInt8[np.ndarray, "t h w 3"], masks: Bool[np.ndarray, "t h w"], every: int = 2
) -> UInt8[np.ndarray, "h w 3"]:
    """The object of every ``every``-th frame over one background (the paper's Figure 1).

    Background pixels are the median over the frames in which the object does not cover them (the
    first frame where it always does); earlier positions are fainter, the last frame is opaque.

    Raises ``ValueError`` where frames and masks differ in length or size.
    """
    if frames.shape[:3] != masks.shape:
        raise ValueError(f"frames {frames.shape} and masks {masks.shape} do not belong together")
    image = _background(frames, masks)
    chosen = sorted({*range(0, len(frames), every), len(frames) - 1})
    for opacity, t in zip(np.linspace(0.45, 1.0, len(chosen)), chosen, strict=True):
        over = opacity * frames[t] + (1 - opacity) * image
        image = np.where(masks[t][..., None], over, image)
    return np.round(image).astype(np.uint8)


def _background(frames: np.ndarray, masks: np.ndarray) -> np.ndarray:
    covered = np.broadcast_to(masks[..., None], frames.shape)
    median = np.ma.median(np.ma.masked_array(frames, covered), axis=0)
    return np.where(np.ma.getmaskarray(median), frames[0], median.filled(0)).astype(np.float64)


FAR_M = 50.0  # anything behind, sky included, is drawn black
Frames = UInt8[np.ndarray, "t h w 3"]


def clip_pictures(clip: Clip) -> dict[str, bytes]:
    """WebP files by kind: video, masks, depth and flow (where known; moving), strobe (still)."""
    frames = np.asarray(to_frames(clip.video))
    masks = clip.masks.numpy()
    moving = {"video": frames, "masks": paint_masks(frames, masks)}
    if clip.depth_m is not None:
        moving["depth"] = paint_depth(clip.depth_m.numpy())
    if clip.flow_px is not None:
        moving["flow"] = paint_flow(clip.flow_px.numpy())
    pictures = {key: _moving(value, clip.fps_hz) for key, value in moving.items()}
    return pictures | {"strobe": _still(all_in_one(frames, masks))}


def paint_masks(frames: Frames, masks: Bool[np.ndarray, "n t h w"]) -> Frames:
    """Each object in a colour of its own over the greyed video."""
    painted = 0.35 * frames + 0.35 * frames.mean(axis=-1, keepdims=True)
    for n, mask in enumerate(masks):
        hue = (n * 0.618034) % 1.0  # golden section: neighbours differ
        colour = 255 * np.array(colorsys.hsv_to_rgb(hue, 0.75, 1.0))
        painted[mask] = 0.25 * painted[mask] + 0.75 * colour
    return painted.astype(np.uint8)


def paint_depth(depth_m: Float[np.ndarray, "t h w"]) -> Frames:
    """Inverse depth, nearest bright."""
    inverse = np.where(depth_m < FAR_M, 1 / np.clip(depth_m, 0.1, FAR_M), 0.0)
    scaled = inverse / inverse.max()
    return (255 * matplotlib.colormaps["magma"](scaled)[..., :3]).astype(np.uint8)


def paint_flow(flow_px: Float[np.ndarray, "2 u h w"]) -> Frames:
    """Hue is the direction, brightness the length, up to the longest of the clip."""
    length = np.hypot(flow_px[0], flow_px[1])
    angle = np.arctan2(flow_px[1], flow_px[0]) / (2 * np.pi) % 1.0
    value = np.sqrt(length / max(float(length.max()), 1e-6))
    hsv = np.stack([angle, np.full_like(angle, 0.8), value], axis=-1)
    return (255 * matplotlib.colors.hsv_to_rgb(hsv)).astype(np.uint8)


def all_in_one(frames: Frames, masks: Bool[np.ndarray, "n t h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """Every second frame of whatever moves over one background (paper Figure 1)."""
    moves = (masks != masks[:, :1]).any(axis=(1, 2, 3))
    return stroboscopic(frames, masks[moves].any(axis=0), every=2)


def _moving(frames: Frames, fps_hz: float) -> bytes:
    pictures = [Image.fromarray(frame) for frame in frames]
    stream = io.BytesIO()
    pictures[0].save(
        stream,
        "WEBP",
        save_all=True,
        append_images=pictures[1:],
        duration=round(1000 / fps_hz),
        loop=0,
        quality=80,
        method=0,
    )
    return stream.getvalue()


def _still(picture: UInt8[np.ndarray, "h w 3"]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "WEBP", quality=90)
    return stream.getvalue()
