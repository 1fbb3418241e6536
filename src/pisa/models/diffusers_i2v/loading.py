"""Pipelines from the hub, with every reason that they cannot be had in one sentence."""

from __future__ import annotations

import re
from typing import Any

import torch

from pisa.types import PisaError

OFFLOAD = ("none", "model", "sequential")


def load_pipeline(name: str, repository: str, revision: str | None, dtype: torch.dtype) -> Any:
    """A pipeline of diffusers' class ``name``.

    Raises:
        PisaError: not there, gated and no token, damaged, or of a model of another kind.
    """
    import diffusers  # takes seconds
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        config = diffusers.DiffusionPipeline.load_config(repository, revision=revision)
        check_family(str(config.get("_class_name")), name, repository)
        return getattr(diffusers, name).from_pretrained(
            repository, revision=revision, torch_dtype=dtype
        )
    except GatedRepoError as error:
        raise PisaError(gated(repository)) from error
    except RepositoryNotFoundError as error:
        raise PisaError(f"no repository {repository} on the hub, nor a folder") from error
    except (OSError, ValueError, ImportError) as error:
        raise PisaError(_reason(repository, error)) from error


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


def _reason(repository: str, error: Exception) -> str:
    text = " ".join(str(error).split())
    if "gated repo" in text.lower() or "401" in text:
        return gated(repository)
    return (
        f"cannot load {repository}: {text[:200]}. Without network: fetch the repository elsewhere "
        "and give its folder as model.repository"
    )
