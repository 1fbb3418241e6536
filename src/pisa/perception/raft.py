"""RAFT of torchvision as a frozen, differentiable optical-flow teacher (arXiv:2003.12039)."""

from __future__ import annotations

from pathlib import Path

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torchvision.models.optical_flow import Raft_Large_Weights, raft_large

from pisa.errors import PisaError
from pisa.io.weights import load
from pisa.perception.base import freeze


class RAFT(nn.Module):
    """Forward flow of consecutive frames, all pairs as one batch.

    Args:
        network: torchvision's RAFT; takes frames in [-1, 1].
        num_updates: iterations (paper's release: 20).
        pairs_per_chunk: pairs at a time; with more than one chunk each is computed again in the
            backward pass, so that memory is that of one chunk. None takes all at once.
    """

    def __init__(
        self, network: nn.Module, num_updates: int = 20, pairs_per_chunk: int | None = None
    ) -> None:
        super().__init__()
        self.network = freeze(network)
        self.num_updates = num_updates
        self.pairs_per_chunk = pairs_per_chunk

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path | None = None,
        num_updates: int = 20,
        pairs_per_chunk: int | None = None,
    ) -> RAFT:
        """raft_large with torchvision's C_T_V1 weights, from ``path`` or by torchvision's download.

        Raises:
            PisaError: the file is missing, or there is no network to fetch it.
        """
        network = raft_large(weights=None)
        load(network, path or _torchvision_weights())
        return cls(network, num_updates, pairs_per_chunk)

    @classmethod
    def random(cls, num_updates: int = 20, pairs_per_chunk: int | None = None) -> RAFT:
        """raft_large with random weights: for the time and memory of a step."""
        return cls(raft_large(weights=None), num_updates, pairs_per_chunk)

    def flow(self, video: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b 2 u h w"]:
        """Flow (dx, dy) in pixels; height and width are multiples of 8, at least 128.

        Raises:
            PisaError: frames are too small or of another size.
        """
        height, width = video.shape[-2:]
        if min(height, width) < 128 or height % 8 or width % 8:
            raise PisaError(
                f"RAFT needs frames of at least 128x128 in multiples of 8, got {height}x{width}; "
                "use the embedded flow teacher for small clips"
            )
        first = rearrange(video[:, :, :-1], "b c u h w -> (b u) c h w")
        second = rearrange(video[:, :, 1:], "b c u h w -> (b u) c h w")
        size = self.pairs_per_chunk or len(first)
        chunks = [
            self._chunk(a, b, recompute=size < len(first))
            for a, b in zip(first.split(size), second.split(size), strict=True)
        ]
        return rearrange(torch.cat(chunks), "(b u) c h w -> b c u h w", b=video.shape[0])

    def _chunk(self, first: Tensor, second: Tensor, recompute: bool) -> Tensor:
        if recompute and torch.is_grad_enabled():
            return checkpoint(self._last_update, first, second, use_reentrant=False)
        return self._last_update(first, second)

    def _last_update(self, first: Tensor, second: Tensor) -> Tensor:
        return self.network(first, second, num_flow_updates=self.num_updates)[-1]

    def train(self, mode: bool = True) -> RAFT:
        """Stays in eval mode: batch statistics would change the estimates."""
        return super().train(False)


def _torchvision_weights() -> Path:
    """Path of the weights in torch's hub folder, downloaded if they aren't there."""
    url = Raft_Large_Weights.C_T_V1.url
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
    if path.is_file():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        digest = path.stem.rpartition("-")[2]  # torchvision's names end with a hash's beginning
        torch.hub.download_url_to_file(url, str(path), hash_prefix=digest, progress=True)
    except (OSError, RuntimeError) as error:  # URLError is the first, a wrong hash the second
        raise PisaError(
            f"RAFT weights {path.name} not found and not downloadable ({error}). "
            f"Fetch {url} and save it as {path}, or pass its place as `path`."
        ) from error
    return path
