"""LTX-2 image-to-video (arXiv:2601.03233): picture and sound made together; the picture is kept.

Sound is generated as the pipeline generates it, since the picture attends to it, and is never
decoded. A sampler of this package carries one tensor, so the tokens of the sound are positions of
latent frames behind those of the picture, one token per position; what is left of the last frame
is not used. Training clips have no sound: PSFT trains the picture alone, with the attention between
both turned off (as the pipeline's own modality guidance does), and ORO's gradient passes through
the sound. The weights of the sound's stream and of the attention between both stay as they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pisa.errors import PisaError
from pisa.models.diffusers_i2v.base import TIMESTEPS
from pisa.models.diffusers_i2v.ltx import LTXVideo, shifted_levels
from pisa.ops.video import from_frames, to_frames
from pisa.types import Condition

OF_SOUND = ("audio", "a2v", "v2a", "av_cross")  # in the names of the parameters


class Streams(NamedTuple):
    """Latents of the picture and tokens of the sound, or the velocities of both."""

    video: Float[Tensor, "b c f i j"]
    audio: Float[Tensor, "b n d"]


def join(streams: Streams, frames: int) -> Float[Tensor, "b c g i j"]:
    """One tensor of ``frames`` latent frames; unused positions are 0."""
    video, audio = streams
    rows, channels, made, height, width = video.shape
    joined = video.new_zeros(rows, frames * height * width, channels)
    joined[:, : made * height * width] = rearrange(video, "b c f i j -> b (f i j) c")
    start = made * height * width
    joined[:, start : start + audio.shape[1], : audio.shape[2]] = audio
    return rearrange(joined, "b (f i j) c -> b c f i j", f=frames, i=height, j=width)


def split(x: Float[Tensor, "b c g i j"], frames: int, tokens: int, width: int) -> Streams:
    """The first ``frames`` latent frames, and ``tokens`` tokens of ``width`` numbers after them."""
    behind = rearrange(x[:, :, frames:], "b c f i j -> b (f i j) c")
    return Streams(x[:, :, :frames], behind[:, :tokens, :width])


@dataclass(frozen=True)
class Guidance:
    """Weights of the pipeline's guidance terms, in clean latents.

    Args:
        audio: scale against the null prompt for the sound (the picture's comes with the call).
        stg: weight of spatio-temporal guidance, against blocks whose self-attention is left out.
        modality: scale against picture and sound that do not see each other; 1 turns it off.
        rescale: share of the guided prediction brought back to the deviation of the prompt's
            (arXiv:2305.08891 Section 3.4).
    """

    audio: float = 7.0
    stg: float = 1.0
    modality: float = 3.0
    rescale: float = 0.7

    def __call__(
        self,
        x: Streams,
        level: Float[Tensor, " b"],
        scale: float,
        prompt: Streams,
        null: Streams,
        stg: Streams | None,
        isolated: Streams | None,
    ) -> Streams:
        """The guided velocities of both streams."""
        scales = (scale, self.audio)
        guided = []
        for k, stream in enumerate(x):
            s = level.reshape(-1, *[1] * (stream.ndim - 1))
            clean = _clean(stream, s)
            wanted = clean(prompt[k])
            moved = wanted + (scales[k] - 1) * (wanted - clean(null[k]))
            if stg is not None:
                moved = moved + self.stg * (wanted - clean(stg[k]))
            if isolated is not None:
                moved = moved + (self.modality - 1) * (wanted - clean(isolated[k]))
            guided.append((stream - self._rescaled(moved, wanted)) / s)
        return Streams(*guided)

    def _rescaled(self, guided: Tensor, wanted: Tensor) -> Tensor:
        dims = tuple(range(1, guided.ndim))
        ratio = wanted.std(dim=dims, keepdim=True) / guided.std(dim=dims, keepdim=True)
        return torch.lerp(guided, guided * ratio, self.rescale)


def _clean(x: Tensor, s: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda velocity: x - s * velocity


class LTX2(LTXVideo):
    """``VideoModel`` over LTX-2 and LTX-2.3.

    Args:
        guidance: weights of the terms beside classifier-free guidance.
        stg_blocks: transformer blocks that spatio-temporal guidance perturbs.
        use_cross_timestep: True for LTX-2.3, False for LTX-2.0.
        image_crf: H.264 quality at which the first frame is compressed before it is encoded, as the
            model was trained; None takes the pipeline's number, 0 leaves it out.
        min_fps_hz: slowest clip that the latents have room for; slower clips have longer sound.
    """

    pipeline_class = "LTX2ImageToVideoPipeline"
    encoder_names = ("text_encoder", "connectors")

    def __init__(
        self,
        pipe: Any,
        *,
        guidance: Guidance | None = None,
        stg_blocks: tuple[int, ...] = (28,),
        use_cross_timestep: bool = True,
        image_crf: int | None = None,
        min_fps_hz: float = 8.0,
        max_tokens: int = 1024,
        **options: Any,
    ) -> None:
        super().__init__(pipe, max_tokens=max_tokens, **options)
        self.guidance = guidance or Guidance()
        self.stg_blocks = list(stg_blocks)
        self.use_cross_timestep = use_cross_timestep
        self.image_crf = image_crf
        self.min_fps_hz = min_fps_hz

    def latent_shape(self, num_frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """With the latent frames of the sound behind those of the picture."""
        channels, frames, rows, columns = super().latent_shape(num_frames, height, width)
        sound = math.ceil(self.audio_tokens(num_frames, self.min_fps_hz) / (rows * columns))
        return channels, frames + sound, rows, columns

    def audio_tokens(self, num_frames: int, fps_hz: float) -> int:
        """Number of audio tokens of a clip.

        Raises:
            PisaError: a clip slower than ``min_fps_hz``.
        """
        if fps_hz < self.min_fps_hz:
            raise PisaError(
                f"LTX2 has room for the sound of clips of {self.min_fps_hz:g} frames per second or "
                f"more, not {fps_hz:g}: set model.min_fps_hz={fps_hz:g}"
            )
        pipe = self.pipe
        per_second = pipe.audio_sampling_rate / pipe.audio_hop_length
        return round(num_frames / fps_hz * per_second / pipe.audio_vae_temporal_compression_ratio)

    # ------------------------------------------------------------------------- latents

    def normalise(self, latents: Tensor) -> Tensor:
        normalised: Tensor = self.pipe._normalize_latents(latents, *self.statistics())
        return normalised

    def encode_first_frame(self, frame: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c 1 i j"]:
        """Compressed by H.264 first; the gradient ends there."""
        from diffusers.pipelines.ltx2.utils import (
            apply_image_conditioning_crf,
            resolve_default_image_crf,
        )

        crf = self.image_crf
        if crf is None:
            crf = resolve_default_image_crf(self.pipe.text_encoder)
        images = [apply_image_conditioning_crf(to_frames(f[:, None])[0], crf) for f in frame]
        told = torch.stack([from_frames(image[None]) for image in images])  # [B, 3, 1, H, W]
        return self.encode(told.to(frame))

    def decode(
        self, latents: Float[Tensor, "b c f i j"], num_frames: int
    ) -> Float[Tensor, "b 3 t h w"]:
        """The picture; the latents of the sound are dropped."""
        raw = self.denormalise(latents[:, :, : self._video_frames(num_frames)]).to(self.vae.dtype)
        conditioned = self.vae.config.timestep_conditioning
        timestep = raw.new_zeros(len(raw)) if conditioned else None  # the pipeline's default
        video: Tensor = self.vae.decode(raw, timestep, return_dict=False)[0]
        return video.float()

    # ------------------------------------------------------------------------- velocity

    def sampling_levels(
        self, num_steps: int, num_frames: int, height: int, width: int
    ) -> Float[Tensor, " n"]:
        """Shifted by the number of the picture's tokens, as the pipeline does."""
        _, _, rows, columns = self.latent_shape(num_frames, height, width)
        tokens = self._video_frames(num_frames) * rows * columns
        return shifted_levels(self.pipe.scheduler, tokens, num_steps, (1024, 4096, 0.95, 2.05))

    def velocity(
        self,
        x: Float[Tensor, "b c f i j"],
        noise_level: Float[Tensor, " b"],
        condition: Condition,
        clean_frames: Bool[Tensor, "b f"],
        *,
        fps_hz: float,
    ) -> Float[Tensor, "b c f i j"]:
        """Velocity of picture and sound, or of the picture alone without sound latents."""
        streams = self._split(x, condition, fps_hz)
        made = self._predict(streams or self._silent(x), noise_level, condition, fps_hz,
                             isolate_modalities=streams is None)  # fmt: skip
        return made.video if streams is None else join(made, x.shape[2])

    def guided_velocity(
        self,
        x: Float[Tensor, "b c f i j"],
        noise_level: Float[Tensor, " b"],
        prompt: Condition,
        null: Condition,
        clean_frames: Bool[Tensor, "b f"],
        *,
        fps_hz: float,
        guidance: float,
    ) -> Float[Tensor, "b c f i j"]:
        """Under all terms of the pipeline's guidance: up to four runs of the denoiser."""
        streams = self._split(x, prompt, fps_hz)
        assert streams is not None  # only sampling is guided

        def predict(condition: Condition, **options: Any) -> Streams:
            return self._predict(streams, noise_level, condition, fps_hz, **options)

        stg = isolated = None
        if self.guidance.stg and self.denoiser_config.perturbed_attn:  # else it changes nothing
            stg = predict(prompt, spatio_temporal_guidance_blocks=self.stg_blocks)
        if self.guidance.modality != 1.0:
            isolated = predict(prompt, isolate_modalities=True)
        guided = self.guidance(
            streams, noise_level, guidance, predict(prompt), predict(null), stg, isolated
        )
        return join(guided, x.shape[2])

    def _predict(
        self,
        streams: Streams,
        noise_level: Float[Tensor, " b"],
        condition: Condition,
        fps_hz: float,
        **options: Any,
    ) -> Streams:
        video, audio = streams
        frames, rows, columns = video.shape[2:]
        timestep = noise_level * TIMESTEPS
        noisy = torch.ones(len(video), frames, device=video.device)
        noisy[:, 0] = 0.0
        noisy = repeat(noisy, "b f -> b (f n)", n=rows * columns)
        text_video, text_audio = self._texts(condition)
        picture, sound = self.denoiser(
            hidden_states=rearrange(video, "b c f i j -> b (f i j) c").to(self.dtype),
            audio_hidden_states=audio.to(self.dtype),
            encoder_hidden_states=text_video.to(self.dtype),
            audio_encoder_hidden_states=text_audio.to(self.dtype),
            timestep=noisy * timestep[:, None],
            audio_timestep=timestep,
            sigma=timestep,
            encoder_attention_mask=condition.mask.to(self.dtype),
            audio_encoder_attention_mask=condition.mask.to(self.dtype),
            num_frames=frames,
            height=rows,
            width=columns,
            fps=fps_hz,
            audio_num_frames=audio.shape[1],
            use_cross_timestep=self.use_cross_timestep,
            return_dict=False,
            **options,
        )
        sizes = {"f": frames, "i": rows, "j": columns}
        return Streams(
            rearrange(picture.float(), "b (f i j) c -> b c f i j", **sizes), sound.float()
        )

    # ------------------------------------------------------------------------- parts

    def _build_denoiser(self, pipe: Any) -> nn.Module:
        denoiser = super()._build_denoiser(pipe)
        for name, parameter in denoiser.named_parameters():
            if any(part in name for part in OF_SOUND):
                parameter.requires_grad_(False)
        return denoiser

    def _embed(self, captions: list[str]) -> Condition:
        """Embeddings for the picture and for the sound, one behind the other in each token."""
        pipe = self.pipe
        hidden, mask, *_ = pipe.encode_prompt(
            captions,
            do_classifier_free_guidance=False,
            max_sequence_length=self.max_tokens,
            device=self.device,
        )
        side = getattr(pipe.tokenizer, "padding_side", "left")
        video, audio, mask = pipe.connectors(hidden, mask, padding_side=side)
        return Condition(torch.cat([video, audio], dim=-1), mask.bool())

    def _texts(self, condition: Condition) -> tuple[Tensor, Tensor]:
        sizes = self.pipe.connectors.config
        width = sizes.video_connector_num_attention_heads * sizes.video_connector_attention_head_dim
        return condition.embedding[..., :width], condition.embedding[..., width:]

    def _image_condition(
        self, condition: Condition, first_frame: Tensor, num_frames: int
    ) -> dict[str, Tensor]:
        """How long the clip is: latents of the picture and of the sound look alike."""
        return {"num_frames": torch.full((len(first_frame),), num_frames)}

    def _split(self, x: Tensor, condition: Condition, fps_hz: float) -> Streams | None:
        """None where the latents hold a picture only."""
        num_frames = int(condition.image["num_frames"][0])
        frames = self._video_frames(num_frames)
        if x.shape[2] == frames:
            return None
        tokens = self.audio_tokens(num_frames, fps_hz)
        return split(x, frames, tokens, int(self.denoiser_config.audio_in_channels))

    def _silent(self, x: Tensor) -> Streams:
        """The picture beside one token of sound that it does not see; the network wants one."""
        return Streams(x, x.new_zeros(len(x), 1, int(self.denoiser_config.audio_in_channels)))

    def _video_frames(self, num_frames: int) -> int:
        return (num_frames - 1) // self.factors()[1] + 1
