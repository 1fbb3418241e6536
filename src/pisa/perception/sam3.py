"""SAM 3, the tracker of transformers, for masks of clips and videos (arXiv:2511.16719).

Only the part that follows given objects is used, not the detector that finds them by words. The
library runs it in inference mode, so it gives no gradient: rewards take SAM 2.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from transformers import Sam3TrackerVideoInferenceSession, Sam3TrackerVideoModel

from pisa.errors import PisaError
from pisa.io.weights import check_pretrained
from pisa.perception.base import Prompt, SessionTracker, freeze
from pisa.types import ObjectPoints

HUB_REPOSITORY = "facebook/sam3"  # its licence has to be accepted there
ABSENT_LOGIT = -20.0


class SAM3Tracker(SessionTracker):
    """Tracks first-frame masks or points, each object on its own.

    ``network`` is a ``Sam3TrackerVideoModel``; frames are resized to its ``image_size`` squared.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network: Any = freeze(network)

    @classmethod
    def from_pretrained(cls, path: str | Path = HUB_REPOSITORY) -> SAM3Tracker:
        """Weights from a local folder or, by transformers' download, from the hub.

        Raises:
            PisaError: neither is there.
        """
        try:
            network = Sam3TrackerVideoModel.from_pretrained(str(path), use_safetensors=True)
        except OSError as error:
            raise PisaError(
                f"SAM 3 weights (config.json, model.safetensors) not found at {path}. They are on "
                f"the Hugging Face hub as {HUB_REPOSITORY}, where its licence has to be accepted: "
                "fetch them on a machine with network and pass their folder as `path`. "
                f"({str(error).splitlines()[0]})"
            ) from error
        check_pretrained(network, path)
        return cls(network)

    def session(self, prompt: Prompt, num_frames: int) -> SAM3Session:
        """Begins a clip of ``num_frames`` that is given in windows."""
        return SAM3Session(self.network, prompt, num_frames)

    def train(self, mode: bool = True) -> SAM3Tracker:
        """Stays in eval mode."""
        return super().train(False)


class _KnownLength(Sam3TrackerVideoInferenceSession):
    """The library's record of a clip, which takes the frames it holds for all there are."""

    length = 0

    @property
    def num_frames(self) -> int:
        return self.length


class SAM3Session:
    """A clip given in windows. Only the frames that the network's memory attends to are kept."""

    def __init__(self, network: Any, prompt: Prompt, num_frames: int) -> None:
        if not isinstance(prompt, Tensor) and not (prompt and all(o.positive for o in prompt)):
            raise ValueError("each object needs at least one positive point")
        self.network, self.prompt, self.num_frames = network, prompt, num_frames
        self.index = 0  # of the next frame
        self.record: _KnownLength | None = None
        self.present = list(range(len(prompt)))
        if isinstance(prompt, Tensor):
            self.present = prompt.flatten(1).any(dim=1).nonzero()[:, 0].tolist()
        config = network.config
        self.remembered = max(config.max_object_pointers_in_encoder, config.num_maskmem)

    def segment(self, window: Float[Tensor, "3 u h w"]) -> Float[Tensor, "n u h w"]:
        """Mask logits at the frames' size; -20 for objects with an empty first mask."""
        if self.record is None:
            self.record = self._begin(window)
        return torch.stack([self._frame(self.record, f) for f in window.unbind(1)], dim=1)

    def _frame(self, record: _KnownLength, frame: Float[Tensor, "3 h w"]) -> Float[Tensor, "n h w"]:
        logits = frame.new_full((len(self.prompt), *frame.shape[1:]), ABSENT_LOGIT)
        if self.present:
            # The network's mean and deviation are 0.5: it takes [-1, 1] as it is.
            shown = self._resized(frame[None])[0].to(record.dtype)
            record.processed_frames = {self.index: shown}
            low = self.network(record, frame_idx=self.index).pred_masks
            found = F.interpolate(low, frame.shape[1:], mode="bilinear", align_corners=False)
            logits[self.present] = found[:, 0].to(logits)
            for memory in record.output_dict_per_obj.values():
                memory["non_cond_frame_outputs"].pop(self.index - self.remembered, None)
        self.index += 1
        return logits

    def _begin(self, window: Float[Tensor, "3 u h w"]) -> _KnownLength:
        record = _KnownLength(
            inference_device=window.device,
            inference_state_device=window.device,
            dtype=self.network.dtype,
        )
        record.length = self.num_frames
        height, width = window.shape[-2:]
        for place, index in enumerate(self.present):
            record.obj_id_to_idx(place)
            if isinstance(self.prompt, Tensor):
                mask = self._resized(self.prompt[index][None, None].float())
                record.add_mask_inputs(place, 0, (mask >= 0.5).float())
            else:
                record.add_point_inputs(place, 0, self._clicks(self.prompt[index], height, width))
        record.obj_with_new_inputs = list(range(len(self.present)))
        return record

    def _clicks(self, entry: ObjectPoints, height: int, width: int) -> dict[str, Tensor]:
        """Points scaled to the network's frame, and labels 1 (on the object) or 0."""
        points = torch.tensor([*entry.positive, *entry.negative], dtype=torch.float32)
        scaled = points / torch.tensor([width, height]) * self.network.image_size
        labels = [1] * len(entry.positive) + [0] * len(entry.negative)
        return {
            "point_coords": scaled[None, None],
            "point_labels": torch.tensor(labels, dtype=torch.int32)[None, None],
        }

    def _resized(self, pictures: Float[Tensor, "m c h w"]) -> Float[Tensor, "m c s s"]:
        side = (self.network.image_size,) * 2
        return F.interpolate(pictures, side, mode="bilinear", align_corners=False, antialias=True)
