"""Pipelines from the hub, with every reason that they cannot be had in one sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pisa.errors import PisaError, reason
from pisa.io.weights import check_pretrained
from pisa.ops.devices import dtype_of

OFFLOAD = ("none", "model", "sequential")


def load_pipeline(
    name: str,
    repository: str,
    revision: str | None,
    dtype: str,
    vae_dtype: str | None = None,
) -> Any:
    """A pipeline of diffusers' class ``name``, its VAE in ``vae_dtype``.

    Raises:
        PisaError: not there, gated and no token, damaged, or of a model of another kind.
    """
    import diffusers  # takes seconds

    dtypes = {"default": dtype_of(dtype), "vae": dtype_of(vae_dtype or dtype)}

    if repository.startswith(("/", ".", "~")) and not Path(repository).is_dir():
        raise PisaError(f"no folder {repository} (model.repository)")
    try:
        config = diffusers.DiffusionPipeline.load_config(repository, revision=revision)
        check_family(str(config.get("_class_name")), name, repository)
        pipe = getattr(diffusers, name).from_pretrained(repository, revision=revision, dtype=dtypes)
    except (OSError, ValueError, ImportError) as error:  # the hub's errors are OSErrors
        raise PisaError(why_not_loaded(repository, error)) from error
    for part, module in pipe.components.items():
        if isinstance(module, nn.Module):
            folder = Path(repository).expanduser() / part
            check_pretrained(module, folder if folder.is_dir() else f"{repository} ({part})")
    return pipe


@contextmanager
def visiting(parts: Sequence[nn.Module], device: torch.device) -> Iterator[None]:
    """Frozen encoders on the device within the block; afterwards back on the CPU."""
    for part in parts:
        part.requires_grad_(False).eval().to(device)
    yield
    for part in parts:
        part.to("cpu")


def check_family(found: str, wanted: str, repository: str) -> None:
    """Refuse the pipelines of other families; some repositories name their text-to-video class.

    Raises:
        PisaError: the repository holds a model of another family.
    """
    if _family(found) != _family(wanted):
        raise PisaError(f"{repository} is a {found}; this configuration needs a {wanted}")


def _family(name: str) -> tuple[str, list[str]]:
    """How a pipeline's name starts and its numbers: LTX2Pipeline is of the family LTX 2."""
    return name[:3], re.findall(r"\d+", name)


def place_pipeline(pipe: Any, offload: str, device: torch.device) -> None:
    """Turn on an offload of diffusers; ``sequential`` is the smallest and slowest.

    Raises:
        PisaError: no such offload, or no GPU to offload from.
    """
    if offload not in OFFLOAD:
        raise PisaError(f"no offload named {offload!r}; valid: {', '.join(OFFLOAD)}")
    if device.type == "cpu":
        raise PisaError(f"model.offload={offload} needs a GPU; on the CPU set model.offload=none")
    switch = f"enable_{offload}_cpu_offload"
    getattr(pipe, switch)(device=device)


def gated(repository: str) -> str:
    return (
        f"{repository} is gated: accept its licence on the hub and set HF_TOKEN "
        "(or run: hf auth login)"
    )


def why_not_loaded(repository: str, error: BaseException) -> str:
    """One sentence; diffusers wraps the hub's errors in an OSError of its own, at times wrongly."""
    from huggingface_hub.constants import HF_HUB_OFFLINE
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    behind = list(_causes(error))
    unreachable = HF_HUB_OFFLINE or "couldn't connect" in str(error)
    if any(isinstance(e, GatedRepoError) for e in behind):
        return gated(repository)
    if any(isinstance(e, RepositoryNotFoundError) for e in behind):
        return f"no repository {repository} on the hub that this account may read, nor a folder"
    if not Path(repository).is_dir() and (unreachable or _no_connection(behind)):
        return (
            f"cannot reach the hub for {repository}: fetch the repository where there is a network "
            "and give its folder as model.repository"
        )
    return f"cannot load {repository}: {reason(error).rstrip('. ')}"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _no_connection(errors: list[BaseException]) -> bool:
    names = {base.__name__ for e in errors for base in type(e).__mro__}
    return bool(names & {"ConnectionError", "ConnectError", "LocalEntryNotFoundError"})
