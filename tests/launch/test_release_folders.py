"""Folders in the release's layout, read as they are: training sets, and a benchmark of a split."""

from __future__ import annotations

import csv
import json
import signal
import weakref
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pisa.callbacks.checkpoints import SIGNALS
from pisa.errors import PisaError
from pisa.launch import train as launched
from pisa.launch.compose import compose_eval, compose_train
from pisa.launch.runs import build_data
from pisa.launch.train import build_task, train
from tests.launch.conftest import compose, evaluate, falling, write_real

FRAMES = 16  # what the tiny model makes
NAMES = ("0000", "0001", "0002")


def write_release_set(folder: Path, names: Sequence[str] = NAMES) -> Path:
    """As the release ships simulated clips: rgba_00000.jpg ..., mask.npz, a caption and no rate."""
    for which, name in enumerate(names):
        frames, masks = falling(which, FRAMES)
        clip = folder / name
        clip.mkdir(parents=True)
        for t, frame in enumerate(frames):
            Image.fromarray(frame).save(clip / f"rgba_{t:05d}.jpg", quality=95)
        np.savez_compressed(clip / "mask.npz", mask=masks.astype(np.uint8))
        info = {"caption": "a video of an object dropping"}
        (clip / "clip_info.json").write_text(json.dumps(info))
    return folder


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders ``psft``, ``oro`` and ``sim_seen``."""
    root = tmp_path_factory.mktemp("release")
    for name in ("psft", "oro", "sim_seen"):
        write_release_set(root / name)
    return root


def test_both_stages_train_on_folders_of_the_release_and_nothing_is_simulated(release, tmp_path):
    cfg = compose(
        "experiment=oro_seg", "debug=smoke", f"data_dir={tmp_path / 'data'}",
        f"output_dir={tmp_path / 'runs'}", f"psft.train={release / 'psft'}",
        f"oro.train={release / 'oro'}", f"data.sim_seen={release / 'sim_seen'}",
        f"data.sim_unseen={release / 'sim_seen'}", "psft.max_steps=2", "psft.batch_size=2",
        "psft.data.horizontal_flip=false", "callbacks.pisabench=null", "callbacks.samples=null",
        "logger=csv", "evaluation.num_steps=1", "evaluation.splits=[sim_seen]",
        "trainer.precision=32-true", name="train",
    )  # fmt: skip
    run = compose_train(cfg)
    for stage in run.stages:
        data = build_data(stage.data, stage.sets, batch_size=2)
        data.prepare_data()
        data.setup("fit")
        assert data.train_set is not None and data.train_set.folder == release / stage.stage
        assert [path.name for path in data.train_set.paths] == list(NAMES)
        assert data.train_set[1].fps_hz == 16 and data.train_set[1].dropping_index == 1
    train(run)
    assert all(stage.weights.is_file() for stage in run.stages)
    rows = json.loads((run.folder / "metrics.json").read_text())["per_clip"]
    assert {row["clip"] for row in rows if row["model"] == "oro_seg"} == set(NAMES)
    assert not list((tmp_path / "data").glob("*-*"))  # no simulated set


def test_the_model_of_a_stage_is_gone_before_the_next_one_is_built(release, tmp_path, monkeypatch):
    handlers = [signal.getsignal(number) for number in SIGNALS]
    built: list[weakref.ref[object]] = []
    alive: list[int] = []

    def recorded(*given):
        alive.append(sum(reference() is not None for reference in built))
        task = build_task(*given)
        built.append(weakref.ref(task))
        return task

    monkeypatch.setattr(launched, "build_task", recorded)
    options = (
        "experiment=oro_seg", "debug=smoke", f"data_dir={tmp_path / 'data'}",
        f"output_dir={tmp_path / 'runs'}", f"psft.train={release / 'psft'}",
        f"oro.train={release / 'oro'}", "psft.max_steps=1", "oro.max_steps=1",
        "psft.batch_size=1", "psft.data.horizontal_flip=false", "callbacks.pisabench=null",
        "callbacks.samples=null", "logger=csv", "evaluate=false",
        f"data.sim_seen={release / 'sim_seen'}", f"data.sim_unseen={release / 'sim_seen'}",
    )  # fmt: skip
    train(compose_train(compose(*options, name="train")))
    assert alive == [0, 0]
    assert [signal.getsignal(number) for number in SIGNALS] == handlers


def test_real_clips_are_scored_during_training_and_a_second_run_reuses_it(
    release, tmp_path, capsys
):
    for which, name in enumerate(NAMES):
        write_real(tmp_path / "data" / "real" / name, which)
    options = (
        "experiment=psft", "debug=smoke", f"data_dir={tmp_path / 'data'}",
        f"output_dir={tmp_path / 'runs'}", f"psft.train={release / 'psft'}",
        f"data.sim_seen={release / 'sim_seen'}", f"data.sim_unseen={release / 'sim_seen'}",
        "psft.max_steps=1", "psft.batch_size=1", "psft.data.horizontal_flip=false",
        "validate_every=1", "callbacks.pisabench.splits=[sim_seen,sim_unseen,real]",
        "callbacks.pisabench.max_clips=2", "callbacks.samples=null", "logger=csv",
        "sampling.num_steps=1", "evaluate=false", "trainer.precision=32-true",
    )  # fmt: skip
    run = compose_train(compose(*options, name="train"))
    train(run)
    with (run.folder / "csv" / "metrics.csv").open(newline="") as file:
        logged = [row for row in csv.DictReader(file) if row.get("pisabench/real/n")]
    assert logged
    for split in ("sim_seen", "sim_unseen", "real"):
        assert float(logged[-1][f"pisabench/{split}/n"]) == 2
    assert 0 <= float(logged[-1]["pisabench/real/iou"]) <= 1
    before = (run.folder / "weights.safetensors").stat().st_mtime_ns
    capsys.readouterr()
    train(compose_train(compose(*options, name="train")))
    assert f"psft: using {run.folder / 'weights.safetensors'}" in capsys.readouterr().out
    assert (run.folder / "weights.safetensors").stat().st_mtime_ns == before


def test_other_folders_make_other_runs(release, tmp_path):
    folders = set()
    for chosen in ("psft", str(release / "psft"), str(release / "oro")):
        cfg = compose("experiment=psft", f"output_dir={tmp_path}", f"psft.train={chosen}",
                      f"data_dir={tmp_path}", name="train")  # fmt: skip
        folders.add(compose_train(cfg).folder)
    assert len(folders) == 3


@pytest.mark.parametrize("found", ["absent", "empty"])
def test_a_training_folder_without_clips_is_one_sentence(found, tmp_path):
    (tmp_path / "empty").mkdir()
    cfg = compose("experiment=psft", f"psft.train={tmp_path / found}", name="train")
    with pytest.raises(PisaError, match=r"or a folder of clips|holds no clips"):
        build_data(compose_train(cfg).stages[0].data, compose_train(cfg).stages[0].sets).setup(
            "fit"
        )


def test_a_benchmark_folder_fills_the_columns_of_its_split(release, tmp_path):
    options = (
        f"benchmark={release / 'sim_seen'}",
        f"data_dir={tmp_path}",
        "evaluation.num_steps=1",
    )
    out = tmp_path / "out"
    evaluate(compose(*options, "split=sim_seen", f"output_dir={out}"))
    metrics = json.loads((out / "metrics.json").read_text())
    assert set(metrics["summary"]["base"]) == {"sim_seen"}
    assert metrics["summary"]["truth"]["sim_seen"]["iou"]["n"] == len(NAMES)
    assert metrics["summary"]["truth"]["sim_seen"]["iou"]["mean"] > 0.5
    assert not list(tmp_path.glob("sim_*"))  # nothing is simulated
    assert compose_eval(compose(*options)).benchmark == "real"


def test_a_split_without_a_folder_is_refused():
    with pytest.raises(PisaError, match="add benchmark=FOLDER"):
        compose_eval(compose("split=sim_seen", "benchmark=sim_unseen"))
    with pytest.raises(PisaError, match="split"):
        compose_eval(compose("split=other"))
