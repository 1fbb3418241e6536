"""Memory of a computation, counted without doing it: on torch's "meta" device."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.weak import WeakIdKeyDictionary


class LiveBytes(TorchDispatchMode):
    """Bytes of the tensors that operations under this mode made and that are still alive.

    ``now`` and ``peak`` (the most at once) leave out what existed before, such as weights. Views
    count once. Meta tensors stand for those of any device; memory that a kernel takes inside
    itself is not seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.peak = 0
        self._alive: WeakIdKeyDictionary = WeakIdKeyDictionary()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict | None = None
    ) -> Any:
        before = {id(t.untyped_storage()) for t in _tensors(args)}
        made = func(*args, **(kwargs or {}))
        tree_map_only(Tensor, lambda tensor: self._count(tensor, before), made)
        return made

    def _count(self, tensor: Tensor, before: set[int]) -> None:
        storage = tensor.untyped_storage()
        if storage in self._alive or id(storage) in before:
            return
        size = storage.nbytes()
        self._alive[storage] = weakref.finalize(storage, self._forget, size)
        self.now += size
        self.peak = max(self.peak, self.now)

    def _forget(self, size: int) -> None:
        self.now -= size


def kept_by_child(network: nn.Module, run: Callable[[], object]) -> dict[str, int]:
    """Bytes that the forward passes of each child of ``network`` left alive during ``run``.

    Members of a ``ModuleList`` are added up under its name. With a graph that is what they keep for
    the backward pass, their outputs included.
    """
    kept: dict[str, int] = {}
    with LiveBytes() as live:
        handles = []
        for name, child in network.named_children():
            for module in child if isinstance(child, nn.ModuleList) else [child]:
                handles += _watch(module, name, live, kept)
        try:
            run()
        finally:
            for handle in handles:
                handle.remove()
    return kept


def _watch(module: nn.Module, name: str, live: LiveBytes, kept: dict[str, int]) -> list[Any]:
    def enter(module: nn.Module, args: Any) -> None:
        kept[name] = kept.get(name, 0) - live.now

    def leave(module: nn.Module, args: Any, out: Any) -> None:
        kept[name] += live.now

    return [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]


def _tensors(args: Any) -> list[Tensor]:
    found: list[Tensor] = []
    tree_map_only(Tensor, found.append, args)
    return found
