"""``pisa latents``: every clip is encoded once; what is there, or intact, is skipped."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pisa.__main__ import main
from pisa.launch.compose import compose_train
from pisa.launch.latents import encode
from pisa.launch.runs import RankInfo, build_data, build_model
from pisa.tasks.latents import LatentEncoder
from pisa.types import collate
from tests.launch.conftest import compose
from tests.launch.test_release_folders import NAMES, write_release_set


@pytest.fixture
def settings(tmp_path: Path) -> list[str]:
    clips = write_release_set(tmp_path / "clips")
    return [
        "experiment=psft", f"psft.train={clips}", f"data_dir={tmp_path / 'data'}",
        "psft.task.latent_cache=false", f"psft.task.latent_cache_dir={tmp_path / 'latents'}",
        "psft.data.horizontal_flip=false", "trainer.precision=32-true",
    ]  # fmt: skip


def files(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "latents").rglob("*.safetensors"))


def test_the_same_command_resumes_and_makes_damaged_latents_again(settings, tmp_path, capsys):
    assert main(["latents", *settings]) == 0
    assert "3 of 3 clips encoded" in capsys.readouterr().out
    made = {path: path.read_bytes() for path in files(tmp_path)}
    assert len(made) == len(NAMES)
    first, second = list(made)[:2]
    first.unlink()
    second.write_bytes(made[second][:-4])
    assert main(["latents", *settings]) == 0
    assert "2 of 3 clips encoded" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in files(tmp_path)} == made


def test_training_finds_what_the_shares_of_two_processes_encoded(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(RankInfo, "wait", lambda self: None)
    stage = compose_train(compose(*settings, name="train")).stages[0]
    assert [encode(stage, RankInfo(rank, 2, rank)) for rank in (0, 1)] == [(2, 2), (1, 1)]
    made = {path: path.stat().st_mtime_ns for path in files(tmp_path)}
    data = build_data(stage.data, stage.sets, batch_size=3)
    data.setup("fit")
    batch = collate([data.train_set[i] for i in range(3)])
    model = build_model(stage.model, None)
    folder = stage.task.settings["latent_cache_dir"]
    found = LatentEncoder(model, stage.task.settings["first_frame"], False, folder)(batch)
    assert {path: path.stat().st_mtime_ns for path in files(tmp_path)} == made
    fresh = LatentEncoder(model, stage.task.settings["first_frame"], False)(batch)
    torch.testing.assert_close(found, fresh, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["experiment=magic"], "no experiment named 'magic'"),
        (["experiment=psft", "psft.task.latent_cache_dir=null"], "keeps latents on disk"),
        (["psft"], "is not an override"),
    ],
)
def test_mistakes_are_one_line(arguments, message, capsys):
    assert main(["latents", *arguments]) == 2
    assert message in capsys.readouterr().err
