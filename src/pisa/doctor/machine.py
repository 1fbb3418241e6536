"""Libraries against what the project asks for, processor, memory, GPUs and disks."""

from __future__ import annotations

import os
import platform
import shutil
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import torch
from huggingface_hub import constants
from packaging.requirements import Requirement

from pisa.ops.devices import precision_of

DISTRIBUTION = "pisa-lab"
GIB = 2**30
TINY_GIB = 3.0  # peak memory of the demo, measured (README)


@dataclass(frozen=True)
class Finding:
    """One line of the report. ``good`` None is a statement, neither good nor bad."""

    name: str
    text: str
    good: bool | None = None


def versions() -> Iterator[Finding]:
    """Python and every library that the project asks for; one that does not fit is bad."""
    yield Finding("python", platform.python_version(), platform.python_version()[:4] == "3.11")
    try:
        asked = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        yield Finding(DISTRIBUTION, "is not installed; `make install` does it", False)
        return
    for requirement in map(Requirement, asked):
        if requirement.marker is None or requirement.marker.evaluate():
            yield version_of(requirement)


def version_of(requirement: Requirement) -> Finding:
    """The installed version of one library, and whether it is the requested one."""
    try:
        found = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return Finding(requirement.name, f"is missing (wanted: {requirement})", False)
    if requirement.specifier.contains(found, prereleases=True):
        return Finding(requirement.name, found, True)
    return Finding(requirement.name, f"{found}, but {requirement.specifier} is wanted", False)


def hardware() -> Iterator[Finding]:
    """Processor, memory and GPUs."""
    fast = "with" if precision_of("auto") == "bf16-mixed" else "without"
    yield Finding("processor", f"{os.cpu_count()} cores, {fast} fast bfloat16 arithmetic")
    memory = psutil.virtual_memory()
    free, total = memory.available / GIB, memory.total / GIB
    need = f"scale=tiny takes {TINY_GIB:g} GiB"
    yield Finding("memory", f"{free:.1f} of {total:.1f} GiB free; {need}", free >= TINY_GIB)
    if not torch.cuda.is_available():
        yield Finding("GPU", "none; scale=tiny needs none")
    for number in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(number)
        size = card.total_memory / GIB
        kind = f"compute capability {card.major}.{card.minor}, CUDA {torch.version.cuda}"
        yield Finding(f"GPU {number}", f"{card.name}, {size:.0f} GiB, {kind}", True)


def gpu_memory_gib() -> list[float]:
    """Memory of every GPU."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return [torch.cuda.get_device_properties(i).total_memory / GIB for i in range(count)]


def disks(folders: Sequence[Path]) -> Iterator[Finding]:
    """Room and permission where data, runs and downloaded weights go."""
    for folder in folders:
        there = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
        room = f"{shutil.disk_usage(there).free / GIB:.1f} GiB free"
        writable = os.access(there, os.W_OK)
        yield Finding(str(folder), room if writable else f"{room}, but not writable", writable)


def hub_reachable(timeout_s: float = 3.0) -> bool:
    """Whether weights can be fetched: the hub's machine answers and HF_HUB_OFFLINE is not set."""
    if constants.HF_HUB_OFFLINE:
        return False
    place = urlsplit(constants.ENDPOINT)
    try:
        with socket.create_connection((place.hostname or "", place.port or 443), timeout_s):
            return True
    except OSError:
        return False
