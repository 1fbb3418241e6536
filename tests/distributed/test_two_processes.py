"""Two gloo processes do what one does with the same global batch: DDP and FSDP2 on the CPU."""

from __future__ import annotations

import json
from itertools import chain
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.distributed import job
from tests.distributed.job import CLIPS, GLOBAL_BATCH, STEPS, TINY_RUN, Recorder, run, tiny_model
from tests.processes import run_ranks


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> tuple[Path, Recorder]:
    folder = tmp_path_factory.mktemp("alone")
    return folder, run(folder, "auto")


@pytest.fixture(scope="module")
def together(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("together")
    run_ranks(job.start, folder)
    return folder


@pytest.mark.parametrize("kind", ["ddp", "sharded"])
def test_gradients_equal_those_of_one_process(alone, together, kind):
    expected = alone[1].gradients
    found = torch.load(together / kind / "gradients.pt", weights_only=True)
    assert len(found) == len(expected) == STEPS
    assert found[0].keys() == expected[0].keys()
    largest = max(gradient.abs().max() for gradient in expected[0].values())
    assert largest > 1e-3  # of a scale at which 1e-6 says something
    for name, gradient in expected[0].items():
        torch.testing.assert_close(found[0][name], gradient, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["ddp", "sharded", "resumed"])
def test_weights_and_their_average_equal_those_of_one_process(alone, together, kind):
    """After six steps. With the release's eps of 1e-15 AdamW would turn the rounding of gradients
    that are zero in exact arithmetic (biases of keys) into steps of full size; the job has 1e-2."""
    expected = torch.load(alone[0] / "last.ckpt", weights_only=True)
    found = torch.load(together / kind / "last.ckpt", weights_only=True)
    for part in ("state_dict", "ema_denoiser"):
        assert found[part].keys() == expected[part].keys()
        for name, value in expected[part].items():
            torch.testing.assert_close(found[part][name], value, rtol=0, atol=1e-5)
    export = load_file(together / kind / "weights.safetensors")
    for name, value in found["ema_denoiser"].items():
        assert torch.equal(export[name], value)


def test_a_resumed_sharded_run_repeats_the_uninterrupted_one(together):
    whole = torch.load(together / "sharded" / "last.ckpt", weights_only=True)
    resumed = torch.load(together / "resumed" / "last.ckpt", weights_only=True)
    for part in ("state_dict", "ema_denoiser"):
        assert all(torch.equal(resumed[part][k], whole[part][k]) for k in whole[part])
    states = [c["optimizer_states"][0]["state"] for c in (whole, resumed)]
    assert states[0].keys() == states[1].keys()
    assert all(
        torch.equal(states[0][i][k], states[1][i][k]) for i in states[0] for k in states[0][i]
    )


def test_a_null_prompt_that_is_trained_can_be_sharded(together, tmp_path):
    """In each step captions are dropped on one rank only, in the last on none."""
    expected = run(tmp_path, "auto", **TINY_RUN, model=tiny_model()).gradients
    found = torch.load(together / "tiny" / "gradients.pt", weights_only=True)
    dropped = ["null_caption" in gradients for gradients in expected]
    assert dropped == ["null_caption" in gradients for gradients in found]
    assert dropped == [True, True, True, False]
    assert expected[0]["null_caption"].abs().max() > 1e-4
    for name, gradient in expected[0].items():
        torch.testing.assert_close(found[0][name], gradient, rtol=0, atol=1e-6)
    weights = [
        torch.load(f / "last.ckpt", weights_only=True) for f in (together / "tiny", tmp_path)
    ]
    for name, value in weights[1]["state_dict"].items():
        torch.testing.assert_close(weights[0]["state_dict"][name], value, rtol=0, atol=1e-5)


def test_bfloat16_arithmetic_with_float32_master_weights(alone, together):
    """Gradients agree to bfloat16's 8 bits; what is kept is float32."""
    found = torch.load(together / "bfloat16" / "gradients.pt", weights_only=True)[0]
    expected = alone[1].gradients[0]
    both = [torch.cat([g[name].flatten() for name in expected]) for g in (found, expected)]
    assert torch.nn.functional.cosine_similarity(*both, dim=0) > 0.999
    assert not torch.allclose(*both, rtol=0, atol=1e-6)
    kept = torch.load(together / "bfloat16" / "last.ckpt", weights_only=True)
    for part in ("state_dict", "ema_denoiser"):
        assert {value.dtype for value in kept[part].values()} == {torch.float32}


def test_nobody_sees_a_clip_twice_in_an_epoch(alone, together):
    ranks = [json.loads((together / "ddp" / f"seen_{rank}.json").read_text()) for rank in (0, 1)]
    steps = [list(chain(*parts)) for parts in zip(*ranks, strict=True)]
    assert steps == alone[1].seen
    per_epoch = CLIPS // GLOBAL_BATCH
    for first in range(0, STEPS, per_epoch):
        epoch = list(chain(*steps[first : first + per_epoch]))
        assert len(epoch) == len(set(epoch)) == CLIPS


def test_accumulated_micro_batches_equal_one_batch(alone, tmp_path):
    accumulated = run(tmp_path, "auto", accumulate_grad_batches=2, max_steps=1)
    for name, gradient in alone[1].gradients[0].items():
        torch.testing.assert_close(accumulated.gradients[0][name], gradient, rtol=0, atol=1e-6)
