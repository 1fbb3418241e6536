"""In bfloat16, with the parameters in float32 that diffusers keeps so when it loads a model."""

from __future__ import annotations

import pytest
import torch

from pisa.models.generate import generate
from tests.models.test_diffusers_i2v import CASES, SIZE, first_frame, make


def as_loaded(pipe):
    """What ``from_pretrained(dtype=bfloat16)`` leaves; the VAE stays in float32."""
    for name, part in pipe.components.items():
        if name in ("vae", "audio_vae") or not isinstance(part, torch.nn.Module):
            continue
        kept = getattr(part, "_keep_in_fp32_modules", None) or ()
        for parameter_name, parameter in part.named_parameters():
            if not any(module in parameter_name for module in kept):
                parameter.data = parameter.data.to(torch.bfloat16)


@pytest.mark.parametrize("name", CASES)
def test_sampling_and_its_gradient_in_bfloat16(name):
    model = make(name)
    as_loaded(model.pipe)
    frames, _, guidance, _ = CASES[name][3:]
    assert model.dtype == torch.bfloat16
    made = generate(
        model, first_frame(), ["a red ball falls"], num_frames=frames, fps_hz=16.0, num_steps=2,
        guidance=guidance, noise=torch.Generator().manual_seed(0),
    )  # fmt: skip
    assert made.isfinite().all() and made.shape == (1, 3, frames, SIZE, SIZE)
    made.mean().backward()
    assert any(p.grad is not None and p.grad.any() for p in model.denoiser.parameters())
