"""Memory of a computation, counted without doing it: with tensors that have no storage.

Tensors on torch's "meta" device have none, but where kernels differ by device "meta" goes its own
way: attention keeps its matrix of scores there, and autocast does nothing. Tensors of ``Unstored``
pass for the CPU's and go its way; counts with them equal those of a real run to the byte.
"""

from __future__ import annotations

import weakref
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.weak import WeakIdKeyDictionary

_Module = TypeVar("_Module", bound=nn.Module)


class TooManyBytes(Exception):
    """More is alive than the limit of ``LiveBytes``."""


class LiveBytes(TorchDispatchMode):
    """Bytes of the tensors that operations under this mode made and that are still alive.

    ``now`` and ``peak`` (the most at once) leave out what existed before, such as weights. Views
    count once. Memory that a kernel takes inside itself is not seen. An operation that makes
    ``now`` exceed ``limit`` raises ``TooManyBytes``.
    """

    def __init__(self, limit: int | None = None) -> None:
        super().__init__()
        self.limit = limit
        self.now = 0
        self.peak = 0
        self._alive: WeakIdKeyDictionary = WeakIdKeyDictionary()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict | None = None
    ) -> Any:
        if func is torch.ops.prim.device.default:  # called for every tensor without storage
            return func(*args, **(kwargs or {}))
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
        if self.limit is not None and self.now > self.limit:
            raise TooManyBytes(f"{self.now} bytes are alive, the limit is {self.limit}")

    def _forget(self, size: int) -> None:
        self.now -= size


class Unstored:
    """Makes tensors that have shape and type but no storage, and go the ways of the CPU.

    Tensors of one ``Unstored`` may meet each other and real ones, but not those of another. Where a
    computation asks for a value it must come from real tensors.
    """

    def __init__(self) -> None:
        self._mode = FakeTensorMode(allow_non_fake_inputs=True)

    def tensor(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return self._of(torch.empty(shape, dtype=dtype, device="meta"))

    def module(self, module: _Module) -> _Module:
        """The same module; its tensors, which may be on "meta", are replaced."""
        for part in module.modules():
            for name, parameter in part._parameters.items():
                if parameter is not None:
                    made = nn.Parameter(self._of(parameter), parameter.requires_grad)
                    part._parameters[name] = made
            for place in (part._buffers, vars(part)):  # some modules keep tables as attributes
                for name, value in place.items():
                    if isinstance(value, Tensor):
                        place[name] = self._of(value)
        return module

    def _of(self, tensor: Tensor) -> Tensor:
        sizes = torch.empty_like(tensor.detach(), device="meta")
        return FakeTensor(self._mode, sizes, torch.device("cpu"))


def _tensors(args: Any) -> list[Tensor]:
    found: list[Tensor] = []
    tree_map_only(Tensor, found.append, args)
    return found
