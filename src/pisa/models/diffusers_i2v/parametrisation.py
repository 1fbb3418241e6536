"""Diffusion models that preserve variance, as rectified flows.

``z = a x_0 + b noise`` with ``a^2 + b^2 = 1`` and ``x = (1 - s) x_0 + s noise`` are one point where
``s = b / (a + b)``: ``x = z / (a + b)``. A network that predicts ``v = a noise - b x_0``
(arXiv:2202.00512 Appendix D) then gives ``x_0 = a z - b v`` and ``noise = b z + a v``, so the
velocity is ``noise - x_0 = (b - a) z + (a + b) v``. Models with exploding variance (EDM,
arXiv:2206.00364) are the same point once more, ``sigma = b / a = s / (1 - s)``.
"""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor


def level_of_sigma(sigma: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Noise level s of ``x_0 + sigma noise``."""
    return sigma / (1 + sigma)


def level_of_alpha(alpha_squared: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Noise level s of a variance-preserving point; ``alpha_squared`` is the cumulative product."""
    a, b = alpha_squared.sqrt(), (1 - alpha_squared).sqrt()
    return b / (a + b)


def velocity_of_v(
    x: Float[Tensor, "b c f i j"],
    level: Float[Tensor, " b"],
    predict: Callable[[Tensor], Tensor],
) -> Float[Tensor, "b c f i j"]:
    """Velocity at x from ``predict(z) -> v``."""
    s = level.reshape(-1, *[1] * (x.ndim - 1))  # [B, 1, 1, 1, 1]
    scale = ((1 - s) ** 2 + s**2).sqrt()  # 1 / (a + b)
    a, b = (1 - s) / scale, s / scale
    z = x / scale
    return (b - a) * z + (a + b) * predict(z)
