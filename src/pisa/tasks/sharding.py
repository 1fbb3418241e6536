"""Fully sharded data parallelism (FSDP2) of any task's denoiser, block by block."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from pisa.errors import PisaError, reason
from pisa.io.lightning_internals import optimizers_to_device, shard_over_all_ranks
from pisa.io.weights import check_finite
from pisa.ops.devices import dtype_of
from pisa.tasks.base import denoiser_of


class ShardedStrategy(ModelParallelStrategy):
    """Shards parameters, gradients, optimiser state and EMA of ``task.denoiser`` over all ranks.

    Lightning's own strategy leaves the sharding to the task; here it is the trainer's affair, as
    with DDP. Master weights stay as they are (float32); blocks are gathered and computed in
    ``param_dtype`` (None: as they are), gradients reduced in ``reduce_dtype``, so leave the
    trainer's precision at 32-true. Checkpoints are single files, written by rank 0.
    """

    def __init__(
        self,
        param_dtype: str | None = None,
        reduce_dtype: str | None = "float32",
        process_group_backend: str | None = None,
    ) -> None:
        super().__init__(
            tensor_parallel_size=1,
            save_distributed_checkpoint=False,
            process_group_backend=process_group_backend,
        )
        self.policy = MixedPrecisionPolicy(
            param_dtype=None if param_dtype is None else dtype_of(param_dtype),
            reduce_dtype=None if reduce_dtype is None else dtype_of(reduce_dtype),
        )

    def setup_environment(self) -> None:
        shard_over_all_ranks(self)
        super().setup_environment()

    def setup(self, trainer: pl.Trainer) -> None:
        assert self.accelerator is not None and self.model is not None
        assert self.lightning_module is not None
        self.accelerator.setup(trainer)
        mesh = self.device_mesh["data_parallel"]
        shard(denoiser_of(self.lightning_module), mesh, self.policy)
        self.model = self.precision_plugin.convert_module(self.model)
        self.model_to_device()
        self.barrier()
        fitting = trainer.state.fn == TrainerFn.FITTING
        if fitting:
            self.setup_optimizers(trainer)
        self.setup_precision_plugin()
        if fitting:
            optimizers_to_device(self.optimizers, self.root_device)

    def on_validation_start(self) -> None:
        """Ranks may now run the network as often as they like, or not at all."""
        assert self.lightning_module is not None
        gather_blocks(denoiser_of(self.lightning_module))

    def on_validation_end(self) -> None:
        assert self.lightning_module is not None
        reshard_blocks(denoiser_of(self.lightning_module))

    def load_checkpoint(
        self, checkpoint_path: str | Path, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Loads weights and optimiser at once; the rest is returned, shapes of the weights too.

        Raises:
            PisaError: the file is damaged or of another network.
        """
        try:
            loaded = super().load_checkpoint(checkpoint_path, weights_only=True)
        except (OSError, RuntimeError, KeyError, ValueError, pickle.UnpicklingError) as error:
            raise PisaError(f"cannot resume from {checkpoint_path}: {reason(error)}") from error
        assert self.lightning_module is not None
        loaded["state_dict"] = self.lightning_module.state_dict()  # what tasks compare with
        check_finite(loaded["state_dict"], str(checkpoint_path))
        return loaded


def shard(denoiser: nn.Module, mesh: DeviceMesh, policy: MixedPrecisionPolicy) -> None:
    """Shard each block of the denoiser's module lists, then the rest as one group.

    Modules with a true ``keep_fp32`` (rotary frequencies) are left whole and in full precision.
    """
    whole = {
        parameter
        for module in denoiser.modules()
        if getattr(module, "keep_fp32", False)
        for parameter in module.parameters()
    }
    for block in blocks_of(denoiser):
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(denoiser, mesh=mesh, mp_policy=policy, ignored_params=whole)


def gather_blocks(denoiser: nn.Module) -> None:
    """Keep the whole network on every rank, in the computing dtype, until ``reshard_blocks``."""
    for module in denoiser.modules():
        if isinstance(module, FSDPModule):
            module.set_reshard_after_forward(False, recurse=False)
            module.unshard()


def reshard_blocks(denoiser: nn.Module) -> None:
    """Back to shards; ``parameters()`` are those of the optimiser again. Idempotent."""
    for module in denoiser.modules():
        if isinstance(module, FSDPModule):
            module.reshard()
            module.set_reshard_after_forward(module is not denoiser, recurse=False)


def blocks_of(denoiser: nn.Module) -> Iterator[nn.Module]:
    """The repeated blocks of a network: members of its outermost ``ModuleList``s."""
    for child in denoiser.children():
        if isinstance(child, nn.ModuleList):
            yield from child
        else:
            yield from blocks_of(child)


def whole_tensor(tensor: Tensor) -> Tensor:
    """The tensor itself, or a sharded one gathered (call it on every rank)."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def laid_out_like(tensor: Tensor, like: Tensor) -> Tensor:
    """A whole tensor, the same on every rank, placed and sharded as ``like``."""
    if isinstance(tensor, DTensor) or not isinstance(like, DTensor):
        return tensor.to(like.device)
    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements)
