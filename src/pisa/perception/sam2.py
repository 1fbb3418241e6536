"""SAM 2.1 as a frozen, differentiable tracker (arXiv:2408.00714).

The predictor of the ``sam2`` package reads files and runs in inference mode. Here its network is
driven step by step in memory, with gradient, and gives the same logits.
"""

from __future__ import annotations

from collections.abc import Sequence
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
from pisa.perception.base import ALL_OBJECTS, freeze, imagenet_normalised
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


class SAM2Tracker(nn.Module):
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

    def segment(
        self,
        video: Float[Tensor, "b 3 t h w"],
        first_masks: Bool[Tensor, "b n h w"],
        tracked: slice = ALL_OBJECTS,
    ) -> Float[Tensor, "b k t h w"]:
        """Mask logits at the clip's size; -20 for objects with an empty first mask.

        Objects are tracked one by one, so those outside ``tracked`` change nothing.
        """
        wanted = first_masks[:, tracked]
        return torch.stack(
            [self._clip(clip, masks) for clip, masks in zip(video, wanted, strict=True)]
        )

    def segment_points(
        self, video: Float[Tensor, "3 t h w"], objects: Sequence[ObjectPoints]
    ) -> Float[Tensor, "n t h w"]:
        """Mask logits of one clip at its size, from clicks in the first frame (paper H.2).

        Objects are tracked one by one, as the package's predictor does. Raises ``ValueError``
        for an object without positive points.
        """
        if not objects or not all(entry.positive for entry in objects):
            raise ValueError("each object needs at least one positive point")
        frames = self._image_features(video)
        low = [
            self._track(frames, None, self._clicks(entry, video.shape[-2:], video.device))
            for entry in objects
        ]
        return F.interpolate(torch.cat(low), video.shape[-2:], mode="bilinear", align_corners=False)

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

    def _clip(
        self, clip: Float[Tensor, "3 t h w"], first_masks: Bool[Tensor, "n h w"]
    ) -> Float[Tensor, "n t h w"]:
        present = first_masks.flatten(1).any(dim=1)
        logits = clip.new_full((len(first_masks), *clip.shape[1:]), ABSENT_LOGIT)
        if not present.any():
            return logits
        tracked = self.track(clip, first_masks[present])
        return logits.masked_scatter(present[:, None, None, None], tracked)

    def track(
        self, clip: Float[Tensor, "3 t h w"], first_masks: Bool[Tensor, "n h w"]
    ) -> Float[Tensor, "n t h w"]:
        """Mask logits of one clip's objects, all of which frame 0 must show."""
        low = self._track(self._image_features(clip), self._prompt(first_masks))
        return F.interpolate(low, clip.shape[-2:], mode="bilinear", align_corners=False)

    def _image_features(self, clip: Float[Tensor, "3 t h w"]) -> list[dict[str, Any]]:
        """Per frame, what ``forward_image`` of the network gives."""
        side = (self.network.image_size,) * 2
        frames = F.interpolate(
            clip.transpose(0, 1), side, mode="bilinear", align_corners=False, antialias=True
        )
        encode = self.network.forward_image
        if self.recompute_frames and torch.is_grad_enabled():
            encode = partial(checkpoint, encode, use_reentrant=False)
        return [encode(f[None]) for f in imagenet_normalised(frames)]

    def _prompt(self, masks: Bool[Tensor, "n h w"]) -> Float[Tensor, "n 1 s s"]:
        """First masks at the network's size, binary."""
        side = (self.network.image_size,) * 2
        resized = F.interpolate(
            masks[:, None].float(), side, mode="bilinear", align_corners=False, antialias=True
        )
        return (resized >= 0.5).float()

    def _track(
        self,
        frames: list[dict[str, Any]],
        prompt: Float[Tensor, "n 1 s s"] | None,
        clicks: dict[str, Tensor] | None = None,
    ) -> Float[Tensor, "n t i j"]:
        """Logits at a quarter of the network's size, frame by frame with memory.

        Either masks of n objects or clicks on one are given.
        """
        count = 1 if prompt is None else len(prompt)
        memory: dict[str, dict[int, Any]] = {"cond_frame_outputs": {}, "non_cond_frame_outputs": {}}
        logits = []
        for index, backbone in enumerate(frames):
            features, positions, sizes = self._per_object(backbone, count)
            result = self.network.track_step(
                frame_idx=index,
                is_init_cond_frame=index == 0,
                current_vision_feats=features,
                current_vision_pos_embeds=positions,
                feat_sizes=sizes,
                point_inputs=clicks if index == 0 else None,
                mask_inputs=prompt if index == 0 else None,
                output_dict=memory,
                num_frames=len(frames),
                run_mem_encoder=index > 0,
            )
            if index == 0:
                self._remember_prompt(result, features, sizes)
            result["maskmem_features"] = result["maskmem_features"].to(self.memory_dtype)
            kind = "cond_frame_outputs" if index == 0 else "non_cond_frame_outputs"
            memory[kind][index] = result
            logits.append(result["pred_masks"])
        return torch.cat(logits, dim=1)

    def _per_object(self, backbone: dict[str, Any], count: int) -> tuple[list, list, list]:
        """Features, position codes and sizes of one frame, repeated for each object."""
        repeated = {
            key: [x.expand(count, -1, -1, -1) for x in backbone[key]]
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

    def train(self, mode: bool = True) -> SAM2Tracker:
        """Stays in eval mode: the network behaves otherwise in training."""
        return super().train(False)


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
