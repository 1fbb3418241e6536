"""Open-Sora v1.2 as a ``VideoModel``: the one place where its conventions are converted.

Open-Sora predicts ``x_0 - noise`` at timesteps in [0, 1000]; this package's velocity is
``noise - x_0`` at noise levels in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pisa.errors import PisaError
from pisa.io.weights import fill, find, module_sha256, read
from pisa.models.base import VideoModel
from pisa.models.opensora.stdit3 import STDiT3
from pisa.models.opensora.text import T5TextEncoder, TextEncoder
from pisa.models.opensora.vae import SPATIAL_FACTOR, OpenSoraVAE
from pisa.ops.devices import dtype_of
from pisa.types import Condition

TIMESTEPS = 1000.0


class OpenSoraModel(VideoModel):
    """STDiT3 with its VAE and caption encoder, the latter two frozen.

    ``sample_posterior`` draws latents from the VAE's posterior, as the release does in training and
    inference; False takes its mean. Latents and velocities are float32 whatever the parts' dtype.
    """

    denoiser: STDiT3

    def __init__(
        self,
        denoiser: STDiT3,
        vae: OpenSoraVAE,
        text: TextEncoder,
        sample_posterior: bool = True,
    ):
        super().__init__()
        if denoiser.in_channels != vae.latent_channels:
            raise ValueError(
                f"the denoiser takes {denoiser.in_channels} channels, "
                f"the VAE makes {vae.latent_channels}"
            )
        self.denoiser = denoiser
        self.vae = vae.requires_grad_(False).eval()
        self.text = text
        self.sample_posterior = sample_posterior

    @classmethod
    def from_pretrained(
        cls,
        denoiser: str | Path | None = "hpcai-tech/OpenSora-STDiT-v3",
        vae: str | Path | None = "hpcai-tech/OpenSora-VAE-v1.2",
        text: TextEncoder | None = None,
        *,
        dtype: str = "float32",
        vae_dtype: str = "bfloat16",
        sample_posterior: bool = True,
        grad_checkpoint: bool = True,
    ) -> OpenSoraModel:
        """The released model; sources are files, folders or Hugging Face repositories.

        ``denoiser`` None starts it from random weights (paper Section 4.2, effect of pre-training).
        ``vae`` None gives random weights, always the same: for the time and memory of a step.
        The caption projection is frozen, as in the paper's release. Captions are dropped by the
        training loss, so the network itself drops none.

        Raises:
            PisaError: weights are missing or do not fit; says what to fetch and where to put it.
        """
        files = [None if source is None else find(source) for source in (denoiser, vae)]
        with torch.device("cpu" if files[0] is None else "meta"):
            network = STDiT3(
                class_dropout_prob=0.0, freeze_y_embedder=True, grad_checkpoint=grad_checkpoint
            )
        if files[0] is not None:
            fill(network, read(files[0]), files[0][0])
        with torch.device("cpu" if files[1] is None else "meta"), torch.random.fork_rng():
            torch.manual_seed(0)  # weights trained over random latents must find the same codec
            autoencoder = OpenSoraVAE(grad_checkpoint=grad_checkpoint)
        if files[1] is not None:
            fill(autoencoder, read(files[1]), files[1][0])
        return cls(
            network.to(dtype_of(dtype)),
            autoencoder.to(dtype_of(vae_dtype)),
            T5TextEncoder() if text is None else text,
            sample_posterior,
        )

    def train(self, mode: bool = True) -> OpenSoraModel:
        """Train or eval mode of the denoiser; the VAE stays in eval."""
        super().train(mode)
        self.vae.eval()
        return self

    def encode(self, video: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b 4 f i j"]:
        latents = self.vae.encode(video.to(self.vae.scale.dtype), sample=self.sample_posterior)
        return latents.float()

    def encode_first_frame(self, frame: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 4 1 i j"]:
        return self.encode(frame[:, :, None])

    def decode(
        self, latents: Float[Tensor, "b 4 f i j"], num_frames: int
    ) -> Float[Tensor, "b 3 t h w"]:
        return self.vae.decode(latents.to(self.vae.scale.dtype), num_frames).float()

    def latent_shape(self, num_frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        if num_frames < 1 or height % SPATIAL_FACTOR or width % SPATIAL_FACTOR:
            raise PisaError(
                f"Open-Sora needs frames, and sides divisible by {SPATIAL_FACTOR}, "
                f"not {num_frames} frames of {height}x{width}"
            )
        frames = self.vae.latent_frames(num_frames)
        sides = height // SPATIAL_FACTOR, width // SPATIAL_FACTOR
        return (self.vae.latent_channels, frames, *sides)

    def encode_captions(self, captions: Sequence[str]) -> Condition:
        condition = self.text(captions)
        device = self.denoiser.y_embedder.y_embedding.device
        return Condition(condition.embedding.to(device), condition.mask.to(device))

    def prepare_captions(self, captions: Sequence[str]) -> None:
        """Put the captions' embeddings on disk if the text encoder has a file for them."""
        prepare = getattr(self.text, "prepare", None)
        if prepare is not None:
            prepare(captions)

    def null_condition(self, batch_size: int) -> Condition:
        """The learned null prompt, its mask empty: it takes the mask of the prompt it goes with.

        Open-Sora masks the null prompt with the caption's mask, in training and in guidance.
        """
        null = self.denoiser.y_embedder.y_embedding
        mask = torch.zeros(batch_size, null.shape[0], dtype=torch.bool, device=null.device)
        return Condition(null.expand(batch_size, -1, -1), mask)

    def velocity(
        self,
        x: Float[Tensor, "b 4 f i j"],
        noise_level: Float[Tensor, " b"],
        condition: Condition,
        clean_frames: Bool[Tensor, "b f"],
        *,
        fps_hz: float,
    ) -> Float[Tensor, "b 4 f i j"]:
        """An empty row of ``condition.mask`` counts as all of its tokens."""
        mask = condition.mask | ~condition.mask.any(dim=1, keepdim=True)
        height, width = x.shape[3] * SPATIAL_FACTOR, x.shape[4] * SPATIAL_FACTOR
        output = self.denoiser(
            x,
            noise_level * TIMESTEPS,
            condition.embedding[:, None],
            mask=mask,
            x_mask=~clean_frames,
            fps=x.new_tensor([fps_hz]),
            height=torch.tensor([float(height)]),
            width=torch.tensor([float(width)]),
        )
        return -output[:, : x.shape[1]]  # x_0 - noise -> noise - x_0; the second half is unused

    def codec_fingerprint(self) -> str:
        """Weights of the VAE, and the settings that decide its latents."""
        vae = self.vae
        settings = (vae.micro_frame_size, vae.spatial_vae.scaling_factor, self.sample_posterior)
        return module_sha256(vae, "opensora", *settings)

    def noise_schedule_shift(self, num_frames: int, height: int, width: int) -> float:
        """``sqrt(H W / 512^2) sqrt(5 (T // 17))``; 1.118 for 32 frames at 256x256.

        Deviation: for 2 to 16 frames the release gets 0, and timesteps that are not numbers; here
        the number of latent frames stands in for ``5 (T // 17)``.
        """
        whole = num_frames // 17 * 5
        frames = whole if whole else self.vae.latent_frames(num_frames)
        return (height * width / 512**2 * frames) ** 0.5
