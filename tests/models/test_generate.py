"""Generation with a toy model whose latents are its pixels."""

from __future__ import annotations

import pytest
import torch

from pisa.diffusion.samplers import Ancestral, Euler
from pisa.errors import PisaError
from pisa.models.base import VideoModel
from pisa.models.generate import generate
from pisa.types import Condition

OPTIONS = {"num_frames": 4, "fps_hz": 16.0, "num_steps": 3}


class PixelModel(VideoModel):
    """Velocity ``weight * (x - caption length)``, null prompts counting as length 0."""

    def __init__(self):
        super().__init__()
        self.denoiser = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.ones_(self.denoiser.weight)
        self.rows: list[int] = []
        self.decoded: list[int] = []

    def encode(self, video):
        return video

    def encode_first_frame(self, frame):
        return frame[:, :, None]

    def decode(self, latents, num_frames):
        self.decoded.append(len(latents))
        return latents

    def latent_shape(self, num_frames, height, width):
        return 3, num_frames, height, width

    def encode_captions(self, captions):
        lengths = torch.tensor([float(len(c)) for c in captions])
        return Condition(lengths[:, None, None], torch.ones(len(captions), 1, dtype=torch.bool))

    def null_condition(self, batch_size):
        ones = torch.ones(batch_size, 1, dtype=torch.bool)
        return Condition(torch.zeros(batch_size, 1, 1), ones)

    def velocity(self, x, noise_level, condition, clean_frames, *, fps_hz):
        assert fps_hz == 16.0 and clean_frames[:, 0].all() and not clean_frames[:, 1:].any()
        self.rows.append(len(x))
        return self.denoiser((x - condition.embedding[..., None, None])[..., None])[..., 0]

    def noise_schedule_shift(self, num_frames, height, width):
        return 1.0


def frames() -> torch.Tensor:
    return torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1


def run(model, guidance=1.0, **options):
    generator = torch.Generator().manual_seed(1)
    arguments = OPTIONS | {"guidance": guidance, "noise": generator} | options
    return generate(model, frames(), ["a", "bbb"], **arguments)


def test_keeps_the_first_frame_and_repeats():
    video = run(PixelModel())
    assert video.shape == (2, 3, 4, 4, 4)
    torch.testing.assert_close(video[:, :, 0], frames())
    assert torch.equal(video, run(PixelModel()))


def test_closed_form_and_the_number_of_forwards():
    """x - c shrinks by (1 - 1/3) per step, towards guidance times the caption's length."""
    noise = torch.randn(2, 3, 4, 4, 4, generator=torch.Generator().manual_seed(2))
    for guidance, rows in ((1.0, [2, 2, 2]), (4.0, [4, 4, 4])):
        model = PixelModel()
        video = run(model, guidance, noise=noise)
        goal = guidance * torch.tensor([1.0, 3.0])[:, None, None, None, None]
        expected = goal + (2 / 3) ** 3 * (noise - goal)
        torch.testing.assert_close(video[:, :, 1:], expected[:, :, 1:], rtol=1e-4, atol=1e-4)
        assert model.rows == rows


@pytest.mark.parametrize("options", [{}, {"checkpoint": True}, {"grad_steps": {2}}])
def test_carries_gradient(options):
    model = PixelModel()
    run(model, 4.0, sampler=Euler(**options)).sum().backward()
    assert model.denoiser.weight.grad is not None and model.denoiser.weight.grad.abs() > 0


def test_decodes_in_chunks():
    model = PixelModel()
    assert torch.equal(run(model, decode_chunk=1), run(PixelModel()))
    assert model.decoded == [1, 1]


def test_refuses_wrong_captions_and_noise():
    with pytest.raises(ValueError, match="captions"):
        generate(PixelModel(), frames(), ["a"], **OPTIONS, guidance=1.0)
    with pytest.raises(ValueError, match="noise"):
        run(PixelModel(), noise=torch.zeros(2, 3, 5, 4, 4))


def test_fresh_noise_of_each_step_is_used_and_the_first_frame_stays():
    fresh = torch.Generator().manual_seed(2)
    draws = [torch.randn(2, 3, 4, 4, 4, generator=fresh) for _ in range(3)]
    used = []

    def step_noise(step):
        used.append(step)
        return draws[step]

    stochastic = run(PixelModel(), sampler=Ancestral(1.0, step_noise))
    assert used == [0, 1]  # the last step ends at the clip
    assert torch.equal(stochastic[:, :, 0], frames())
    assert not torch.allclose(stochastic, run(PixelModel()))
    plain = run(PixelModel(), sampler=Ancestral(0.0, step_noise))
    torch.testing.assert_close(plain, run(PixelModel()))


def test_fresh_noise_needs_the_straight_path():
    class Scheduled(PixelModel):
        straight_path = False

    draws = Ancestral(0.5, lambda step: torch.zeros(2, 3, 4, 4, 4))
    assert run(PixelModel(), sampler=draws).isfinite().all()
    with pytest.raises(PisaError, match="rectified-flow"):
        run(Scheduled(), sampler=draws)
