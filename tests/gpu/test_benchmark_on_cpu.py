"""The code that measures on a GPU, with tiny networks on the CPU, so that it does not rot."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from benchmarks.opensora_gpu import Measured, RandomCaptions, falling_clips, main, oro, psft, row_of
from pisa.models.opensora import STDiT3
from pisa.models.opensora.adapter import OpenSoraModel
from tests.models.test_opensora_adapter import tiny_vae


def tiny() -> OpenSoraModel:
    sizes = {"hidden_size": 32, "depth": 1, "num_heads": 2, "class_dropout_prob": 0.0}
    denoiser = STDiT3(**sizes, caption_channels=16, model_max_length=12, grad_checkpoint=True)
    nn.init.normal_(denoiser.final_layer.linear.weight, std=0.1)
    return OpenSoraModel(denoiser, tiny_vae(), RandomCaptions(12, 16))


class Brightness(nn.Module):
    def forward(self, generated, batch):
        return generated.mean(dim=(1, 2, 3, 4))


def test_both_stages_run_and_the_first_step_is_not_timed():
    clips = falling_clips(6, frames=5, size=16)
    for found in (psft(tiny(), clips, 2, False), oro(tiny(), Brightness(), clips[:3], 2)):
        assert len(found.losses) == 3 and len(found.seconds) == 2
        assert torch.tensor(found.losses).isfinite().all() and found.step_s > 0
        assert found.peak_bytes is None or torch.cuda.is_available()


def test_out_of_memory_is_a_row():
    def full() -> Measured:
        raise torch.cuda.OutOfMemoryError("full")

    assert row_of("PSFT", full) == "| PSFT | - | out of memory |"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: it would measure")
@pytest.mark.parametrize(
    ("arguments", "parts"),
    [([], "psft and oro"), (["psft"], "psft"), (["oro", "psft"], "oro and psft")],
)
def test_without_a_gpu_it_says_so_and_measures_nothing(capsys, arguments, parts):
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert not printed.out
    assert f"no CUDA device here: nothing of {parts} was measured" in printed.err


def test_an_unknown_part_is_named(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["psft", "orro"])
    assert "no part orro; valid: psft, oro" in capsys.readouterr().err
