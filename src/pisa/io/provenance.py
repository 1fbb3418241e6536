"""Where a number came from: code version, configuration, data, seed and library versions."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
import torch

import pisa

GIB = 2**30
SETTINGS = "pisa"  # where the launcher logs ``settings_of`` in W&B's config
_LIBRARIES = ("torch", "lightning", "diffusers")


def provenance(config: Mapping[str, Any], data_sha256: str | None, seed: int) -> dict[str, Any]:
    """The ``provenance`` part of metrics.json.

    ``config`` holds plain JSON values (a resolved configuration); anything else raises
    ``TypeError``, because its hash would not be reproducible.
    """
    return {
        "commit": git_commit(Path(pisa.__file__).parent),
        "config_sha256": config_sha256(config),
        "experiment_sha256": experiment_sha256(config),
        "data_sha256": data_sha256,
        "seed": seed,
        "versions": {"pisa": pisa.__version__} | {name: _version(name) for name in _LIBRARIES},
    }


def config_sha256(config: Mapping[str, Any]) -> str:
    """Hash of plain JSON values. Raises ``TypeError`` for anything else."""
    canonical = json.dumps(config, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode("utf-8")).hexdigest()


def experiment_sha256(config: Mapping[str, Any]) -> str:
    """Hash of a configuration without seeds, the run's own folder and the weights it scores.

    It is equal for the runs of one experiment that differ in their seed only, and for scorings of
    their weights.
    """
    own = ("run_dir", "ckpt")
    kept = _without_seeds({key: value for key, value in config.items() if key not in own})
    folder, text = config.get("run_dir"), json.dumps(kept, sort_keys=True)
    text = text.replace(json.dumps(folder)[1:-1], "") if folder else text
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _without_seeds(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_seeds(part) for key, part in value.items() if key != "seed"}
    return [_without_seeds(part) for part in value] if isinstance(value, list) else value


def settings_of(config: Mapping[str, Any], stage: str) -> dict[str, Any]:
    """The settings that distinguish the runs of an ablation (Figure 5).

    ``config`` is a training run's configuration, as in its config.yaml.
    """
    model, chosen = config["model"], config[stage]
    fresh = model.get("denoiser", "") is None or model.get("weights", "") is None
    clips = (chosen.get("data") or {}).get("num_train_clips")
    made = config["simulation"]["datasets"].get(chosen["train"], {}).get("num_clips")
    return {
        "name": config["name"],
        "stage": stage,
        "initialisation": "random" if fresh else "pre-trained",
        "train_clips": min(clips or made, made) if made else clips,
        "max_steps": chosen["max_steps"],
    }


def machine_facts() -> dict[str, Any]:
    """Facts of the machine to log with a run; neither its name nor its user."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu_cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / GIB, 1),
        "gpus": [torch.cuda.get_device_name(i) for i in range(gpus)],
    }


def git_commit(folder: Path) -> str | None:
    """Commit of the checkout that tracks ``folder``, with ``-dirty`` when files differ from it.

    None outside a checkout (an installed package) or where git is not installed.
    """
    try:
        tracked = _git(folder, "ls-files", "--error-unmatch", "__init__.py")
        head = _git(folder, "rev-parse", "HEAD") if tracked is not None else None
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    except FileNotFoundError:  # no git on this machine
        return None
    return None if head is None else head + ("-dirty" if changed else "")


def _git(folder: Path, *arguments: str) -> str | None:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else None


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
