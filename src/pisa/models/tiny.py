"""The tiny base model: a small transformer over the latents of a small convolutional codec.

The same interface and flow convention as Open-Sora v1.2; 64x64 pixels, 16 frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from pisa.models.fingerprint import module_sha256
from pisa.models.tiny_codec import TinyCodec
from pisa.models.tiny_denoiser import TinyDenoiser
from pisa.models.tiny_text import WordHashEncoder
from pisa.types import Condition, PisaError

MIN_LEVEL = 0.1  # the velocity (x - x_0) / s is bounded below this noise level


class TinyVideoModel(nn.Module):
    """``VideoModel`` at tiny scale; ``denoiser`` is trainable, ``codec`` frozen.

    ``weights`` names a safetensors file with ``denoiser.*`` and ``codec.*`` tensors: a path, or
    the bare name of a file shipped in ``pisa/weights``. ``parts`` says which of the two to load.
    ``shift`` is ``r`` of the timestep transform.
    """

    def __init__(
        self,
        codec: TinyCodec,
        denoiser: TinyDenoiser | None,
        text: WordHashEncoder,
        weights: str | Path | None = None,
        parts: Sequence[str] = ("codec", "denoiser"),
        shift: float = 1.0,
    ) -> None:
        super().__init__()
        if denoiser is None:  # what means random weights in configs/model/opensora.yaml
            raise PisaError(
                "the tiny model's denoiser has no settings; for random weights of it write "
                "model.parts=[codec] instead of model.denoiser=null"
            )
        self.codec = codec
        self.denoiser = denoiser
        self.text = text
        self.shift = shift
        if weights is not None:
            for part in parts:
                load_part(getattr(self, part), part, find_weights(weights))
        self.codec.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> TinyVideoModel:
        super().train(mode)
        self.codec.eval()
        return self

    def encode(self, video: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b c t i j"]:
        return self.codec.encode(video)

    def encode_first_frame(self, frame: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c 1 i j"]:
        return self.codec.encode(frame[:, :, None])

    def decode(
        self, latents: Float[Tensor, "b c t i j"], num_frames: int
    ) -> Float[Tensor, "b 3 t h w"]:
        if latents.shape[2] != num_frames:
            raise ValueError(f"{latents.shape[2]} latent frames decode to as many frames")
        return self.codec.decode(latents)

    def latent_shape(self, num_frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        if height % self.codec.stride or width % self.codec.stride:
            raise PisaError(
                f"the tiny model needs sizes divisible by {self.codec.stride}, not {height}x{width}"
            )
        return (
            self.codec.latent_channels,
            num_frames,
            height // self.codec.stride,
            width // self.codec.stride,
        )

    def encode_captions(self, captions: Sequence[str]) -> Condition:
        condition = self.text(captions)
        device = next(self.denoiser.parameters()).device
        return Condition(condition.embedding.to(device), condition.mask.to(device))

    def null_condition(self, batch_size: int) -> Condition:
        """Rows that the denoiser fills in: its null prompt is trained, and may be sharded."""
        shape, device = self.denoiser.null_caption.shape, self.denoiser.null_caption.device
        embedding = torch.zeros(batch_size, *shape, device=device)
        mask = torch.ones(batch_size, shape[0], dtype=torch.bool, device=device)
        return Condition(embedding, mask, mask[:, 0])

    def velocity(
        self,
        x: Float[Tensor, "b c t i j"],
        noise_level: Float[Tensor, " b"],
        condition: Condition,
        clean_frames: Bool[Tensor, "b t"],
        *,
        fps_hz: float,
    ) -> Float[Tensor, "b c t i j"]:
        clean = self.denoiser(x, noise_level, condition.embedding, condition.mask, condition.null)
        level = noise_level.clamp(min=MIN_LEVEL)
        return (x - clean) / rearrange(level, "b -> b 1 1 1 1")

    def noise_schedule_shift(self, num_frames: int, height: int, width: int) -> float:
        return self.shift

    def codec_fingerprint(self) -> str:
        below = self.codec.motion.still_below
        return module_sha256(self.codec, "tiny", *(() if below is None else (below,)))


def load_part(module: nn.Module, name: str, path: Path) -> None:
    """Load the tensors ``NAME.*`` of a safetensors file.

    Raises ``PisaError`` for a file that cannot be read or is of another network.
    """
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise PisaError(f"cannot read weights {path}: {error}") from error
    prefix = f"{name}."
    own = {k.removeprefix(prefix): v.float() for k, v in tensors.items() if k.startswith(prefix)}
    try:
        module.load_state_dict(own, strict=True)
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip()
        raise PisaError(f"{path} does not fit this model's {name}: {reason}") from error


def find_weights(weights: str | Path) -> Path:
    """A path as it is, or the file of that name shipped with the package.

    Raises ``PisaError`` where there is neither.
    """
    path = Path(weights)
    if path.is_file():
        return path
    shipped = Path(str(resources.files("pisa") / "weights" / path.name))
    if path.name == str(weights) and shipped.is_file():
        return shipped
    raise PisaError(f"no weights at {path}, nor shipped as pisa/weights/{path.name}")
