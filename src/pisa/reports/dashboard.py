"""The W&B workspace as code: save it in a project, or write it as JSON without an account."""

from __future__ import annotations

import argparse
import fnmatch
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pisa.bench.row import METRICS
from pisa.errors import PisaError, reason
from pisa.io.files import write_atomic
from pisa.reports.names import metric_label

NAME = "PISA"
GROUP_BY = ("experiment", "stage")  # keys of the configuration; a curve is the mean over seeds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("project", nargs="?", help="ENTITY/PROJECT to save the workspace in")
    parser.add_argument("--spec", type=Path, help="write the workspace as JSON; needs no account")


def main(given: argparse.Namespace) -> None:
    """Save or write the workspace; raises ``PisaError`` where neither is requested."""
    if not (given.project or given.spec):
        raise PisaError("give ENTITY/PROJECT to save the workspace there, or --spec FILE")
    if given.spec:
        write_atomic(given.spec, json.dumps(spec_of(build(given.project or "you/pisa"))).encode())
        print(f"written: {given.spec}")
    elif given.project:
        print(f"saved: {save(given.project)}")


def build(project: str) -> Any:
    """The workspace of ``SECTIONS`` for ``ENTITY/PROJECT``; nothing is sent.

    Raises ``PisaError`` for a project of another form.
    """
    ws, _ = _library()
    entity, _, name = project.partition("/")
    if not entity or not name or "/" in name:
        raise PisaError(f"{project!r} is not ENTITY/PROJECT")
    return ws.Workspace(
        entity=entity,
        project=name,
        name=NAME,
        sections=[_section(section) for section in SECTIONS],
        settings=ws.WorkspaceSettings(x_axis=X_AXIS, max_runs=20),
        runset_settings=ws.RunsetSettings(groupby=[ws.Config(key) for key in GROUP_BY]),
    )


def spec_of(workspace: Any) -> dict[str, Any]:
    """The request to the server, as plain JSON."""
    return json.loads(workspace._to_model().spec.model_dump_json(by_alias=True))


def save(project: str) -> str:
    """Create the workspace on the server; returns its address. Raises ``PisaError``."""
    import wandb

    try:
        return str(build(project).save().url)
    except (wandb.errors.Error, ValueError, OSError) as error:
        raise PisaError(f"cannot save the dashboard of {project}: {reason(error)}") from error


def _section(section: Section) -> Any:
    ws, wr = _library()
    panels: list[Any] = [_plot(panel) for panel in section.panels]
    panels += [wr.MediaBrowser(title=key, media_keys=[key], num_columns=2) for key in section.media]
    panels += [wr.WeavePanelSummaryTable(table_name=key) for key in section.tables]
    layout = ws.SectionLayoutSettings(columns=4 if section.panels else 2, rows=2)
    return ws.Section(name=section.title, panels=panels, is_open=True, layout_settings=layout)


def _plot(panel: Panel) -> Any:
    _, wr = _library()
    key, smooth = panel.key, {"smoothing_factor": panel.smooth, "smoothing_type": "exponential"}
    return wr.LinePlot(
        title=panel.title,
        x=X_AXIS,
        y=[] if "*" in key else [key],
        metric_regex=_regex(key) if "*" in key else None,
        log_y=panel.log_y or None,
        aggregate=True,
        groupby_aggfunc="mean",
        groupby_rangefunc="minmax",
        **(smooth if panel.smooth else {}),
    )


def _regex(key: str) -> str:
    """A pattern of W&B's for keys that may hold ``*``."""
    return "^" + fnmatch.translate(key).removeprefix("(?s:").removesuffix(")\\Z") + "$"


def _library() -> tuple[Any, Any]:
    try:
        import wandb_workspaces.reports.v2 as wr
        import wandb_workspaces.workspaces as ws
    except ImportError as error:
        raise PisaError("the dashboard needs the package wandb-workspaces") from error
    return ws, wr


SPLITS = {"sim_seen": "seen objects", "sim_unseen": "unseen objects"}
X_AXIS = "trainer/global_step"


@dataclass(frozen=True)
class Panel:
    """Curves in one plot; ``key`` may hold ``*``. ``smooth`` from 0 (none) to 1."""

    title: str
    key: str
    smooth: float = 0.0
    log_y: bool = False


@dataclass(frozen=True)
class Section:
    """Plots, sample videos (``media``) and tables of one subject."""

    title: str
    panels: tuple[Panel, ...] = ()
    media: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()


SECTIONS = (
    Section(
        "PisaBench",
        tuple(
            Panel(f"{metric_label(metric)}, {objects}", f"pisabench/{split}/{metric}")
            for split, objects in SPLITS.items()
            for metric in METRICS
        ),
    ),
    Section(
        "Loss and reward",
        (
            Panel("training loss", "train/loss", smooth=0.8),
            Panel("validation loss", "val/loss"),
            Panel("reward, training", "train/reward*", smooth=0.8),
            Panel("reward, validation", "val/reward*"),
        ),
    ),
    Section(
        "Gradient microscope",
        (
            Panel("length of the gradient by denoising step", "microscope/step_*_norm"),
            Panel("direction by step (cosine)", "microscope/step_*_cosine"),
            Panel("share by step", "microscope/step_*_share"),
            Panel("used against full gradient", "microscope/used_*"),
        ),
    ),
    Section(
        "Samples: truth | generated",
        media=tuple(f"samples/{split}/{i}" for split in SPLITS for i in range(2)),
    ),
    Section("Worst clips", tables=tuple(f"worst_clips/{split}" for split in SPLITS)),
    Section(
        "Optimiser and machine",
        (
            Panel("gradient norm", "train/gradient_norm", log_y=True),
            Panel("learning rate", "lr-*"),
            Panel("steps skipped (not finite)", "train/nonfinite_steps"),
            Panel("fraction of steps clipped", "train/clipped_fraction"),
            Panel("seconds per step", "throughput/step_s"),
            Panel("peak memory (GiB)", "memory/*"),
        ),
    ),
)
