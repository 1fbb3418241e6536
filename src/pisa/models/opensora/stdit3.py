"""STDiT3, the denoiser of Open-Sora v1.2 (arXiv:2412.20404), on plain PyTorch attention.

State dicts have the names of the release, so ``hpcai-tech/OpenSora-STDiT-v3`` loads with
``strict=True``. The network takes timesteps in [0, 1000] (1000 is noise) and predicts
``x_0 - noise``: the opposite sign of this package's velocity, which the model adapter converts.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pisa.models.opensora.blocks import Block, FinalLayer, RotaryEmbedding
from pisa.models.opensora.embeddings import (
    CaptionEmbedder,
    PatchEmbed3D,
    ScalarEmbedder,
    position_embedding,
)


class STDiT3(nn.Module):
    """Diffusion transformer that alternates spatial and temporal attention.

    The defaults of the sizes are those of STDiT3-XL/2 (1.2 billion parameters).

    Args:
        input_size: of the release's configuration; any size runs, so it is not used.
        input_sq_size: side in pixels at which the position embedding has scale 1.
        class_dropout_prob: share of captions swapped for the null prompt in train mode.
        pred_sigma: twice as many output channels as input channels; the second half is not used.
        model_max_length: caption tokens, which is also the length of the null prompt.
        freeze_y_embedder: no gradient for the caption projection (as in the paper's release).
        grad_checkpoint: recompute each block in backward.
        enable_flash_attn, enable_layernorm_kernel, enable_sequence_parallelism: of the release's
            configuration, not used: PyTorch chooses the attention kernel.
    """

    def __init__(
        self,
        input_size: Sequence[int | None] = (None, None, None),
        input_sq_size: int = 512,
        in_channels: int = 4,
        patch_size: Sequence[int] = (1, 2, 2),
        hidden_size: int = 1152,
        depth: int = 28,
        num_heads: int = 16,
        mlp_ratio: float = 4.0,
        class_dropout_prob: float = 0.1,
        pred_sigma: bool = True,
        drop_path: float = 0.0,
        caption_channels: int = 4096,
        model_max_length: int = 300,
        qk_norm: bool = True,
        freeze_y_embedder: bool = False,
        grad_checkpoint: bool = False,
        enable_flash_attn: bool = False,
        enable_layernorm_kernel: bool = False,
        enable_sequence_parallelism: bool = False,
    ):
        super().__init__()
        if hidden_size % (2 * num_heads) or hidden_size % 4:
            raise ValueError(f"hidden_size {hidden_size} does not fit {num_heads} heads")
        self.input_sq_size = input_sq_size
        self.in_channels = in_channels
        self.out_channels = in_channels * (2 if pred_sigma else 1)
        self.hidden_size = hidden_size
        self.grad_checkpoint = grad_checkpoint
        pt, ph, pw = patch_size
        self.patch_size = (pt, ph, pw)
        self.rope = RotaryEmbedding(hidden_size // num_heads)
        self.x_embedder = PatchEmbed3D(self.patch_size, in_channels, hidden_size)
        self.t_embedder = ScalarEmbedder(hidden_size)
        self.fps_embedder = ScalarEmbedder(hidden_size)
        self.t_block = nn.Sequential(nn.SiLU(), nn.Linear(hidden_size, 6 * hidden_size))
        self.y_embedder = CaptionEmbedder(
            caption_channels, hidden_size, class_dropout_prob, model_max_length
        )
        rates = torch.linspace(0, drop_path, depth, device="cpu").tolist()
        self.spatial_blocks = nn.ModuleList(
            Block(hidden_size, num_heads, mlp_ratio, rate, qk_norm) for rate in rates
        )
        self.temporal_blocks = nn.ModuleList(
            Block(hidden_size, num_heads, mlp_ratio, rate, qk_norm, temporal=True) for rate in rates
        )
        self.final_layer = FinalLayer(hidden_size, pt * ph * pw * self.out_channels)
        self._initialise()
        self.y_embedder.y_proj.requires_grad_(not freeze_y_embedder)

    def forward(
        self,
        x: Float[Tensor, "b c f h w"],
        timestep: Float[Tensor, " b"],
        y: Float[Tensor, "b 1 l d"],
        mask: Int[Tensor, "m l"] | Bool[Tensor, "m l"] | None = None,
        x_mask: Bool[Tensor, "b t"] | None = None,
        fps: Float[Tensor, " n"] | None = None,
        height: Float[Tensor, " n"] | None = None,
        width: Float[Tensor, " n"] | None = None,
    ) -> Float[Tensor, "b o f h w"]:
        """``x_0 - noise`` in float32; with ``pred_sigma`` in the first half of the channels.

        Args:
            timestep: in [0, 1000].
            y: caption embeddings; rows b and b + m share row b of ``mask`` when m < b.
            mask: non-zero for real caption tokens; every row needs one.
            x_mask: False for frames given clean, which get timestep 0; one per frame of patches.
            fps: frames per second, one for all rows or one per row.
            height, width: of the clip in pixels; only the first row's is used, as in the release.

        Raises:
            ValueError: ``fps``, ``height`` or ``width`` is missing, or ``x_mask`` does not fit.
        """
        if fps is None or height is None or width is None:
            raise ValueError("STDiT3 needs fps, height and width")
        dtype = self.x_embedder.proj.weight.dtype
        tokens = self.x_embedder(x.to(dtype))  # [B, T, S, C]
        if x_mask is not None and x_mask.shape != tokens.shape[:2]:
            raise ValueError(f"x_mask is {tuple(x_mask.shape)}, not {tuple(tokens.shape[:2])}")
        tokens = tokens + self._positions(x, height, width).to(dtype)
        embedding, clean = self._time_embeddings(timestep.to(dtype), fps, x_mask)
        modulation = self._modulation(embedding, clean, x_mask)
        caption = self.y_embedder(y[:, 0].to(dtype))
        caption_mask = _caption_mask(mask, x.shape[0])
        rotation = self.rope(tokens.shape[1])
        for spatial, temporal in zip(self.spatial_blocks, self.temporal_blocks, strict=True):
            tokens = self._run(spatial, tokens, caption, caption_mask, modulation)
            tokens = self._run(temporal, tokens, caption, caption_mask, modulation, rotation)
        patches = self.final_layer(tokens, embedding, clean, x_mask)
        return self._unpatchify(patches, x.shape).float()

    def _run(self, block: nn.Module, *args: Tensor | None) -> Tensor:
        if self.grad_checkpoint and torch.is_grad_enabled():
            return checkpoint(block, *args, use_reentrant=False)
        return block(*args)

    def _positions(self, x: Tensor, height: Tensor, width: Tensor) -> Tensor:
        rows, columns = (-(-n // p) for n, p in zip(x.shape[3:], self.patch_size[1:], strict=True))
        side_px = (float(height[0]) * float(width[0])) ** 0.5
        return position_embedding(
            rows,
            columns,
            self.hidden_size,
            scale=side_px / self.input_sq_size,
            base_size=round((rows * columns) ** 0.5),
            device=x.device,
        )

    def _time_embeddings(
        self, timestep: Tensor, fps: Tensor, x_mask: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Embeddings [B, C] of the timestep and, if frames are given clean, of timestep 0."""
        batch_size = timestep.shape[0]
        rate = self.fps_embedder(fps.to(timestep.dtype))
        rate = rate.repeat(batch_size // rate.shape[0], 1)
        if x_mask is None:
            return self.t_embedder(timestep) + rate, None
        both = self.t_embedder(torch.cat([timestep, timestep.new_zeros(1)]))
        return both[:batch_size] + rate, both[batch_size:] + rate

    def _modulation(self, embedding: Tensor, clean: Tensor | None, x_mask: Tensor | None) -> Tensor:
        """[B, T, 6, C] per frame, or [B, 1, 6, C] when all frames share the timestep."""
        noisy = self.t_block(embedding)[:, None]
        if clean is not None and x_mask is not None:
            noisy = torch.where(x_mask[:, :, None], noisy, self.t_block(clean)[:, None])
        return noisy.unflatten(-1, (6, -1))

    def _unpatchify(self, patches: Tensor, shape: torch.Size) -> Tensor:
        """[B, T, S, patch] -> [B, O, F, h, w], cropped to the size before padding."""
        pt, ph, pw = self.patch_size
        full = rearrange(
            patches,
            "b t (h w) (pt ph pw c) -> b c (t pt) (h ph) (w pw)",
            h=-(-shape[3] // ph),
            pt=pt,
            ph=ph,
            pw=pw,
        )
        return full[:, :, : shape[2], : shape[3], : shape[4]]

    def _initialise(self) -> None:
        """Random weights as Open-Sora v1.2 draws them: temporal blocks start as the identity."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.fps_embedder.mlp[0].weight, std=0.02)  # type: ignore[arg-type]
        nn.init.zeros_(self.fps_embedder.mlp[2].weight)  # type: ignore[arg-type]
        for name, weight in self.temporal_blocks.named_parameters():
            if name.endswith(("attn.proj.weight", "mlp.fc2.weight")):  # cross_attn.proj as well
                nn.init.zeros_(weight)


def _caption_mask(mask: Tensor | None, batch_size: int) -> Bool[Tensor, "b 1 1 l"] | None:
    if mask is None:
        return None
    return (mask != 0).repeat(batch_size // mask.shape[0], 1)[:, None, None]
