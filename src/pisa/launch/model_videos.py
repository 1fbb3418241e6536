"""Builds the sampled model and the tracker of every evaluation."""

from __future__ import annotations

import torch
from torch import nn

from pisa.bench.references import Autocast, CodecVideos, ModelSource, VideoSource
from pisa.launch.settings import EvaluationSettings
from pisa.launch.targets import Part
from pisa.models.base import VideoModel
from pisa.perception.base import Tracker


def model_videos(
    settings: EvaluationSettings,
    model: VideoModel,
    device: torch.device,
    num_frames: int | None = None,
) -> VideoSource:
    """Samples of a model that is on ``device``, by the settings of ``configs/evaluation``."""
    source = ModelSource(
        model,
        num_steps=settings.num_steps,
        guidance=settings.guidance,
        caption=settings.caption,
        caption_suffix=settings.caption_suffix,
        decode_chunk=settings.decode_chunk,
        num_frames=num_frames,
        eta=settings.eta,
    )
    return Autocast(source, device) if settings.bfloat16 else source


def make_tracker(part: Part, device: torch.device) -> Tracker:
    """The tracker of ``perception=``, on the device."""
    tracker: Tracker = part.build()
    if isinstance(tracker, nn.Module):
        tracker.to(device)
    return tracker


def codec_videos(
    settings: EvaluationSettings, model: VideoModel, device: torch.device
) -> VideoSource:
    """Pseudo model ``codec``, by the settings of ``configs/evaluation``."""
    source = CodecVideos(model)
    return Autocast(source, device) if settings.bfloat16 else source
