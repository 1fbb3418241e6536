"""SAM 2.1 as a frozen, differentiable tracker (arXiv:2408.00714).

The predictor of the ``sam2`` package reads files and runs in inference mode. Here its network is
driven step by step in memory, with gradient, and gives the same logits.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pisa.errors import PisaError
from pisa.io.weights import load
from pisa.perception.base import Prompt, SessionTracker, freeze, imagenet_normalised
from pisa.perception.sam2_network import (
    HIERA_LARGE,
    HieraSize,
    build_sam2,
    encode_memory,
    prepare_features,
)
from pisa.types import ObjectPoints

HUB_REPOSITORY = "facebook/sam2.1-hiera-large"
HUB_FILE = "sam2.1_hiera_large.pt"
ABSENT_LOGIT = -20.0


class SAM2Tracker(SessionTracker):
    """Tracks first-frame masks; objects of a clip share its image features.

    Args:
        network: ``SAM2Base`` as made by ``build_sam2``; its ``image_size`` is the side frames are
            resized to (the paper's release: 256, SAM 2's own: 1024).
        memory_dtype: type of the memory features (the package's predictor: bfloat16).
        recompute_frames: compute each frame's image features again in the backward pass, so that
            the image encoder takes the memory of one frame.
    """

    def __init__(
        self,
        network: nn.Module,
        memory_dtype: torch.dtype = torch.float32,
        recompute_frames: bool = False,
    ) -> None:
        super().__init__()
        self.recompute_frames = recompute_frames
        self.network: Any = freeze(network)
        self.memory_dtype = memory_dtype

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path | None = None,
        size: HieraSize = HIERA_LARGE,
        image_size: int = 1024,
        recompute_frames: bool = False,
    ) -> SAM2Tracker:
        """SAM 2.1 from a checkpoint file; None takes Hiera-L from the Hugging Face hub.

        Raises:
            PisaError: the file is missing or doesn't fit, or there is no network to fetch it.
        """
        network = build_sam2(size, image_size)
        load(network, path or _hub_weights())
        return cls(network, recompute_frames=recompute_frames)

    @classmethod
    def random(
        cls, size: HieraSize = HIERA_LARGE, image_size: int = 1024, recompute_frames: bool = False
    ) -> SAM2Tracker:
        """Random weights: for the time and memory of a step, nothing is downloaded."""
        network: Any = build_sam2(size, image_size)
        # Every object is judged visible: masks of others are constant and have no gradient.
        nn.init.constant_(network.sam_mask_decoder.pred_obj_score_head.layers[-1].bias, 5.0)
        return cls(network, recompute_frames=recompute_frames)

    def session(self, prompt: Prompt, num_frames: int) -> SAM2Session:
        """Begins a clip of ``num_frames`` that is given in windows."""
        return SAM2Session(self, prompt, num_frames)

    def image_features(self, frame: Float[Tensor, "3 h w"]) -> dict[str, Any]:
        """The result of the network's ``forward_image`` for a frame."""
        side = (self.network.image_size,) * 2
        resized = F.interpolate(
            frame[None], side, mode="bilinear", align_corners=False, antialias=True
        )
        encode = self.network.forward_image
        if self.recompute_frames and torch.is_grad_enabled():
            encode = partial(checkpoint, encode, use_reentrant=False)
        features: dict[str, Any] = encode(imagenet_normalised(resized))
        return features

    def train(self, mode: bool = True) -> SAM2Tracker:
        """Stays in eval mode: the network behaves otherwise in training."""
        return super().train(False)


@dataclass
class _Group:
    """Objects that are tracked together: by their masks, or one of them by clicks."""

    count: int
    masks: Float[Tensor, "n 1 s s"] | None = None
    clicks: dict[str, Tensor] | None = None
    memory: dict[str, dict[int, Any]] = field(
        default_factory=lambda: {"cond_frame_outputs": {}, "non_cond_frame_outputs": {}}
    )


class SAM2Session:
    """A clip given in windows. Only the frames that the network's memory attends to are kept.

    ``num_frames`` matters for clips shorter than the memory.
    """

    def __init__(self, tracker: SAM2Tracker, prompt: Prompt, num_frames: int) -> None:
        if not isinstance(prompt, Tensor) and not (prompt and all(o.positive for o in prompt)):
            raise ValueError("each object needs at least one positive point")
        self.tracker, self.network = tracker, tracker.network
        self.prompt, self.num_frames = prompt, num_frames
        self.index = 0  # of the next frame
        self.groups: list[_Group] = []
        self.present = torch.ones(len(prompt), dtype=torch.bool)
        if isinstance(prompt, Tensor):
            self.present = prompt.flatten(1).any(dim=1)
        network = self.network
        self.remembered = max(
            network.max_obj_ptrs_in_encoder,
            network.num_maskmem * network.memory_temporal_stride_for_eval,
        )

    def segment(self, window: Float[Tensor, "3 u h w"]) -> Float[Tensor, "n u h w"]:
        """Mask logits at the frames' size; -20 for objects with an empty first mask."""
        if self.index == 0:
            self.present = self.present.to(window.device)
            self.groups = self._groups(window.shape[-2:], window.device)
        return torch.stack([self._frame(frame) for frame in window.unbind(1)], dim=1)

    def _frame(self, frame: Float[Tensor, "3 h w"]) -> Float[Tensor, "n h w"]:
        logits = frame.new_full((len(self.present), *frame.shape[1:]), ABSENT_LOGIT)
        if self.groups:
            features = self.tracker.image_features(frame)
            low = torch.cat([self._step(group, features) for group in self.groups])
            found = F.interpolate(low, frame.shape[1:], mode="bilinear", align_corners=False)
            logits = logits.masked_scatter(self.present[:, None, None], found.to(logits))
        self.index += 1
        return logits

    def _step(self, group: _Group, features: dict[str, Any]) -> Float[Tensor, "n 1 i j"]:
        """Logits at a quarter of the network's size; the frame joins the group's memory."""
        current, positions, sizes = self._per_object(features, group.count)
        first = self.index == 0
        result = self.network.track_step(
            frame_idx=self.index,
            is_init_cond_frame=first,
            current_vision_feats=current,
            current_vision_pos_embeds=positions,
            feat_sizes=sizes,
            point_inputs=group.clicks if first else None,
            mask_inputs=group.masks if first else None,
            output_dict=group.memory,
            num_frames=self.num_frames,
            run_mem_encoder=not first,
        )
        if first:
            self._remember_prompt(result, current, sizes)
        result["maskmem_features"] = result["maskmem_features"].to(self.tracker.memory_dtype)
        kind = "cond_frame_outputs" if first else "non_cond_frame_outputs"
        group.memory[kind][self.index] = result
        group.memory["non_cond_frame_outputs"].pop(self.index - self.remembered, None)
        logits: Tensor = result["pred_masks"]
        return logits

    def _groups(self, size: torch.Size, device: torch.device) -> list[_Group]:
        if not isinstance(self.prompt, Tensor):
            return [_Group(1, clicks=self._clicks(o, size, device)) for o in self.prompt]
        masks = self._masks(self.prompt[self.present])
        return [_Group(len(masks), masks)] if len(masks) else []

    def _clicks(
        self, entry: ObjectPoints, size: torch.Size, device: torch.device
    ) -> dict[str, Tensor]:
        """Points scaled to the network's frame, and labels 1 (on the object) or 0."""
        height, width = size
        points = torch.tensor([*entry.positive, *entry.negative], device=device)
        scale = torch.tensor([width, height], device=device)
        labels = [1] * len(entry.positive) + [0] * len(entry.negative)
        return {
            "point_coords": (points / scale * self.network.image_size)[None],
            "point_labels": torch.tensor(labels, dtype=torch.int32, device=device)[None],
        }

    def _masks(self, masks: Bool[Tensor, "n h w"]) -> Float[Tensor, "n 1 s s"]:
        """First masks at the network's size, binary (as ``add_new_mask`` of the package)."""
        if not len(masks):
            return masks[:, None].float()
        side = (self.network.image_size,) * 2
        resized = F.interpolate(
            masks[:, None].float(), side, mode="bilinear", align_corners=False, antialias=True
        )
        return (resized >= 0.5).float()

    def _per_object(self, features: dict[str, Any], count: int) -> tuple[list, list, list]:
        """Features, position codes and sizes of one frame, repeated for each object."""
        repeated = {
            key: [x.expand(count, -1, -1, -1) for x in features[key]]
            for key in ("backbone_fpn", "vision_pos_enc")
        }
        return prepare_features(self.network, repeated)

    def _remember_prompt(self, result: dict[str, Any], features: list, sizes: list) -> None:
        """Memory of frame 0, from its low-resolution mask as the package's predictor makes it."""
        side = (self.network.image_size,) * 2
        masks = F.interpolate(result["pred_masks"], side, mode="bilinear", align_corners=False)
        scores = result["object_score_logits"]
        encoded = encode_memory(self.network, features, sizes, masks, scores)
        result["maskmem_features"], result["maskmem_pos_enc"] = encoded


def _hub_weights() -> str:
    from huggingface_hub import hf_hub_download

    try:
        return hf_hub_download(HUB_REPOSITORY, HUB_FILE)
    except OSError as error:
        raise PisaError(
            f"SAM 2.1 weights {HUB_FILE} not found. They are on the Hugging Face hub in "
            f"{HUB_REPOSITORY}: fetch the file on a machine with network and pass its place as "
            f"`path`. ({str(error).splitlines()[0]})"
        ) from error
