"""A stage's batch is dealt out to processes and micro-batches; where its weights come from."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from pisa.errors import PisaError
from pisa.launch import train
from pisa.launch.compose import compose_train
from pisa.launch.runs import StageRun
from pisa.launch.train import clips_per_rank
from tests.launch.conftest import compose


@pytest.mark.parametrize(
    ("ranks", "accumulate", "expected"), [(1, 1, 128), (2, 1, 64), (2, 4, 16), (8, 16, 1)]
)
def test_the_batch_counts_the_clips_of_one_optimiser_step(ranks, accumulate, expected):
    trainer = SimpleNamespace(world_size=ranks, accumulate_grad_batches=accumulate)
    assert clips_per_rank(128, trainer) == expected


def test_a_batch_that_cannot_be_dealt_out_is_one_sentence():
    trainer = SimpleNamespace(world_size=3, accumulate_grad_batches=2)
    with pytest.raises(PisaError, match=r"128 clips .* 3 processes .* choose a multiple of 6"):
        clips_per_rank(128, trainer)


@pytest.fixture
def trained_from(monkeypatch: pytest.MonkeyPatch) -> list[Path | None]:
    """The weights that each trained stage began from."""
    starts: list[Path | None] = []

    def run_stage(run: StageRun, start: Path | None) -> Path:
        starts.append(start)
        return run.folder / f"{run.stage}.safetensors"

    monkeypatch.setattr(train, "run_stage", run_stage)
    return starts


def test_a_stage_begins_from_the_one_before_or_from_what_it_is_given(tmp_path, trained_from):
    options = ("experiment=oro_flow", f"output_dir={tmp_path}", "evaluate=false")
    train.train(compose_train(compose(*options, name="train")))
    train.train(compose_train(compose(*options, "psft.start=mine.safetensors", name="train")))
    first, after, given, after_given = trained_from
    assert first is None and given == Path("mine.safetensors")
    assert after is not None and after.name == "psft.safetensors"
    assert after_given is not None and after_given.parent != after.parent


def test_a_stage_that_is_replaced_says_so(tmp_path, trained_from, capsys):
    options = ("experiment=psft_ambiguous", f"output_dir={tmp_path}", "psft.checkpoint=x.ckpt")
    train.train(compose_train(compose(*options, name="train")))
    assert not trained_from
    assert "psft: not trained, psft.checkpoint=x.ckpt is used" in capsys.readouterr().out


def test_weights_of_a_stage_that_is_left_out_are_refused(tmp_path):
    options = ("experiment=oro_flow", "stages=[oro]", "psft.checkpoint=x.ckpt")
    with pytest.raises(PisaError, match=r"psft.checkpoint .* add psft to stages"):
        compose_train(compose(*options, f"output_dir={tmp_path}", name="train"))


def test_an_unknown_test_set_is_reported_before_the_training(tmp_path, trained_from):
    options = ("experiment=psft", f"output_dir={tmp_path}", "evaluation.splits=[sim_seen,val_sen]")
    with pytest.raises(PisaError, match=r"named 'val_sen'; valid: sim_seen, .*, val_seen"):
        train.train(compose_train(compose(*options, name="train")))
    assert not trained_from
