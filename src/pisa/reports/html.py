"""One self-contained HTML page: tables, learning curves and every clip, with no outside request."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from pisa.bench.row import METRICS
from pisa.io.files import write_atomic
from pisa.metrics.beyond import MEASURES
from pisa.reports.comparison import KindTable
from pisa.reports.curves import Curve, draw_charts, titled
from pisa.reports.metrics_json import summarise, validate_metrics
from pisa.reports.names import (
    METRIC_MEANINGS,
    SPLIT_MEANINGS,
    TRUTH,
    direction,
    metric_arrow,
    metric_label,
    model_colours,
    model_label,
    order_metrics,
    order_models,
    order_splits,
    split_label,
)
from pisa.reports.panels import Panel, build_panels
from pisa.reports.published import PublishedRow, published_elsewhere
from pisa.reports.table import (
    PUBLISHED_CAVEAT,
    Cell,
    ResultTable,
    result_table,
    status_notice,
)

_TEMPLATES = Path(__file__).with_name("templates")
GROUP_LABELS = {"num_objects": "objects in the clip"}  # of the breakdown
LOST_L2 = 0.03  # of the true clip itself: its tracked path is not the object's


@dataclass(frozen=True, kw_only=True)
class Section:
    """A table, and a picture above it, that come before the results."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str
    svg: str = ""  # from ``curves.inline_svg``
    svg_caption: str = ""


@dataclass(frozen=True, kw_only=True)
class Page:
    """A report's content beside its numbers."""

    title: str
    videos: Sequence[Mapping[str, Any]] = ()  # see ``panels.build_panels``
    fps_hz: float = 16.0  # of the videos
    curves: Mapping[str, Curve] = field(default_factory=dict)  # {name: [(step, value), ...]}
    config_text: str = ""
    published: Sequence[PublishedRow] = ()
    kinds: KindTable | None = None  # how clips fail, by model
    notes: Sequence[str] = ()  # lines below the title
    ranked: bool = False  # the results are sorted by their first column
    # merged runs, {"run", "models", "commit", "config_sha256"} each
    runs: Sequence[Mapping[str, str]] = ()
    correction: str = ""  # of the paired differences for several models
    sections: Sequence[Section] = ()


def write_report(out_html: Path | str, metrics: Mapping[str, Any], page: Page) -> Path:
    """Write the page atomically and return its path.

    The page shows ``paired`` and ``breakdown`` where the document has them (``with_details``).
    Raises ``ValueError`` for metrics that are not schema 1, ``PisaError`` for an unwritable path.
    """
    validate_metrics(metrics)
    panels = build_panels(page.videos, metrics["per_clip"], page.fps_hz)
    models = order_models(model for panel in panels for model in panel.models)
    sort_by = _sort_choices(panels)
    errors = [panel.scores.get(TRUTH, {}).get("l2") or 0.0 for panel in panels]  # the tracker's
    lost = [l2 if l2 > LOST_L2 else None for l2 in errors]
    text = (
        _environment()
        .get_template("report.html.j2")
        .render(
            title=page.title,
            metrics=metrics,
            table=result_table(metrics, page.published),
            published_caveat=PUBLISHED_CAVEAT if page.published else "",
            elsewhere=published_elsewhere() if page.published else [],
            meanings=_meanings(metrics),
            splits=order_splits(panel.split for panel in panels),
            lost=lost,
            empty=Cell(),
            notice=status_notice(metrics),
            pairs=_pairs(metrics.get("paired", ())),
            correction=page.correction,
            beyond=_beyond_table(metrics),
            measure_meanings=_measure_meanings(metrics["per_clip"]),
            kinds=page.kinds,
            notes=page.notes,
            ranked=page.ranked,
            sections=page.sections,
            runs=page.runs,
            breakdown=_breakdown_tables(metrics),
            charts=draw_charts(*titled(page.curves, metrics["summary"])),
            panels=_worst_first(panels, sort_by, lost),
            sort_by=sort_by,
            data=_page_data(panels, models, page.fps_hz, lost),
            fps_hz=page.fps_hz,
            colours=model_colours(models),
            config_text=page.config_text,
        )
    )
    write_atomic(Path(out_html), text.encode("utf-8"))
    return Path(out_html)


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "model_label": model_label,
        "metric_label": metric_label,
        "metric_arrow": metric_arrow,
        "direction": direction,
        "split_label": split_label,
        "signed": _signed,
        "bold": _bold,
    }
    return environment


def _meanings(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Name and meaning of each metric and split in the table."""
    splits = [cells for model in metrics["summary"].values() for cells in model.items()]
    names = order_metrics(metric for _, cells in splits for metric in cells)
    found = [(metric_label(m), METRIC_MEANINGS[m]) for m in names if m in METRIC_MEANINGS]
    shown = order_splits(split for split, _ in splits)
    return found + [(split_label(s), SPLIT_MEANINGS[s]) for s in shown if s in SPLIT_MEANINGS]


def _measure_meanings(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Name and meaning of each measure beyond position that a row has."""
    found = [m for m in MEASURES if any(row.get(m) is not None for row in rows)]
    return [(metric_label(m), METRIC_MEANINGS[m]) for m in found]


def _beyond_table(metrics: Mapping[str, Any]) -> ResultTable | None:
    """Means of the measures beyond position; None where no row has one."""
    seed = int(metrics["provenance"].get("seed") or 0)
    summary = summarise(metrics["per_clip"], MEASURES, seed=seed)
    found = any(cells for splits in summary.values() for cells in splits.values())
    return result_table({"summary": summary}) if found else None


def _pairs(pairs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Paired differences with a verdict in each cell."""
    return [
        {**pair, "cells": {m: {**c, "verdict": _verdict(c, m)} for m, c in pair["cells"].items()}}
        for pair in pairs
    ]


def _breakdown_tables(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One table per group and value (a scene, a number of objects)."""
    return [
        {
            "group": GROUP_LABELS.get(group, group),
            "value": value,
            "table": result_table({"summary": part}),
        }
        for group, values in metrics.get("breakdown", {}).items()
        for value, part in values.items()
    ]


def _verdict(cell: Mapping[str, Any], metric: str) -> str:
    low, high = cell["ci95"]
    if cell["n"] < 2 or low is None or high is None or not direction(metric):
        return ""
    if low <= 0 <= high:
        return "not clear"
    if _signed(cell["mean"]) == "0.000":
        return "negligible"
    return "better" if (low > 0) == (direction(metric) > 0) else "worse"


def _sort_choices(panels: Sequence[Panel]) -> dict[str, list[str]]:
    """Models and metrics to sort the clips by; the first of each gives the page's first order."""
    models = order_models(m for p in panels for m in p.models if m != TRUTH and p.scores[m])
    names = {name for panel in panels for m in models for name in panel.scores.get(m, {})}
    scored = Counter(m for panel in panels for m, scores in panel.scores.items() if scores)
    return {
        # the model scored on most clips comes first, of several the one trained last
        "models": sorted(models[::-1], key=lambda model: -scored[model]),
        "metrics": [name for name in order_metrics(sorted(names)) if name in METRICS],
    }


def _worst_first(
    panels: Sequence[Panel], sort_by: Mapping[str, list[str]], lost: Sequence[float | None]
) -> list[tuple[int, Panel]]:
    """Panels with their index in the page's data.

    Clips without a score come before all others, those that the tracker lost after them.
    """
    numbered = list(enumerate(panels))
    if not sort_by["models"] or not sort_by["metrics"]:
        return numbered
    model, metric = sort_by["models"][0], sort_by["metrics"][0]

    def badness(entry: tuple[int, Panel]) -> tuple[bool, float]:
        value = entry[1].scores.get(model, {}).get(metric)
        bad = float("inf") if value is None else -direction(metric) * value
        return lost[entry[0]] is None, bad

    return sorted(numbered, key=badness, reverse=True)


def _page_data(
    panels: Sequence[Panel], models: Sequence[str], fps_hz: float, lost: Sequence[float | None]
) -> dict[str, Any]:
    """Data of the page's script; Jinja's ``tojson`` makes it safe inside a script element."""
    return {
        "fps": fps_hz,
        "truth": TRUTH,
        "colours": model_colours(models),
        "labels": {model: model_label(model) for model in models},
        "directions": {metric: direction(metric) for metric in METRICS},
        "panels": [
            {
                "clip": panel.clip,
                "split": panel.split,
                "models": panel.models,
                "frames": panel.num_frames,
                "overlay": panel.overlay,
                "scores": panel.scores,
                "lost": l2 is not None,
            }
            for panel, l2 in zip(panels, lost, strict=True)
        ],
    }


def _bold(text: str) -> Markup:
    """Escaped, with ``**markdown's**`` bold."""
    return Markup(re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", str(escape(text))))


def _signed(value: float) -> str:
    """Three decimals with a sign; a true minus, and no sign for what prints as zero."""
    text = f"{value:+.3f}"
    return "0.000" if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")
