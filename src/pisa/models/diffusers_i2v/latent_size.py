"""Which clips a video VAE and its denoiser can make."""

from __future__ import annotations

from pisa.types import PisaError


def latent_size(
    name: str,
    factors: tuple[int, int, int],
    num_frames: int,
    height: int,
    width: int,
    frame_step: int,
) -> tuple[int, int, int]:
    """Latent frames, rows and columns of a clip of ``num_frames`` frames of height x width pixels.

    Args:
        name: of the model, for the messages.
        factors: pixel sides per latent side, frames per latent frame, latent sides per token side.
        frame_step: the model makes ``frame_step k + 1`` frames.

    Raises:
        PisaError: the model cannot make that number of frames, or that size.
    """
    space, time, patch = factors
    if num_frames < 1 or (num_frames - 1) % frame_step:
        low = (num_frames - 1) // frame_step * frame_step + 1
        raise PisaError(
            f"{name} makes {frame_step} k + 1 frames, not {num_frames}: "
            f"set {max(low, 1)} or {low + frame_step}"
        )
    if height % (space * patch) or width % (space * patch):
        raise PisaError(f"{name} needs sides divisible by {space * patch} px, not {height}x{width}")
    return (num_frames - 1) // time + 1, height // space, width // space
