"""The configuration as it may be shown: written beside results, logged, published."""

from __future__ import annotations

import os
import re
from typing import Any

from omegaconf import DictConfig, OmegaConf

from pisa.io.secrets import redacted

_ENVIRONMENT = re.compile(r"oc\.env:\s*(\w+)")


def public_config(cfg: DictConfig, *, resolve: bool = False) -> dict[str, Any]:
    """Plain containers without secrets; with ``resolve`` also what ``${oc.env:NAME}`` stands for
    is one, whatever its name."""
    plain = OmegaConf.to_container(cfg, resolve=resolve)
    asked = _ENVIRONMENT.findall(OmegaConf.to_yaml(cfg))
    values = {f"{name}_token": os.environ[name] for name in asked if name in os.environ}
    clean = redacted(plain, {**os.environ, **values})
    assert isinstance(clean, dict)
    return clean


def public_yaml(cfg: DictConfig) -> str:
    """The configuration, interpolations kept, as YAML without secrets."""
    return OmegaConf.to_yaml(OmegaConf.create(public_config(cfg)))
