"""A W&B run offline: what is in its files, and that no secret is; nothing is uploaded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pisa.bench.references import Sampling
from pisa.bench.score import Scorer
from pisa.callbacks.artifacts import Artifacts
from pisa.callbacks.checkpoints import ExportWeights
from pisa.callbacks.loggers import WandbLogger, run_id
from pisa.callbacks.pisabench import COLUMNS, PisaBench, worst_clips
from pisa.callbacks.samples import SampleVideos
from pisa.tasks.psft import PSFT
from tests.callbacks.wandb_file import read_offline, split_records
from tests.callbacks.wandb_server import wandb_server
from tests.processes import run_script
from tests.tasks.toy import BrightTracker, ToyData, falling_batch, make_trainer, toy_model

ONE_STEP = Sampling(num_steps=1, guidance=1.0)
TOKEN = "tok-4f1c9e77aa02b5d8"
HUB = "hf_abcdefghijklmnopqrstuv"


class DataWithManifests(ToyData):
    def __init__(self, root: Path) -> None:
        super().__init__(loaders=2)
        self.train_set, self.test_sets = _Set(root / "psft-1"), [_Set(root / "sim_seen-2")]


class _Set:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text(json.dumps({"clips": [folder.name]}))


def logs(folder: Path) -> list[Path]:
    """Whole ones: W&B's own process may write for a moment after a run has ended here."""
    found = sorted(folder.glob("wandb/offline-run-*/run-*.wandb"))
    patience = time.monotonic() + 60
    while any(not has_ended(path) for path in found) and time.monotonic() < patience:
        time.sleep(0.1)
    return found


def has_ended(path: Path) -> bool:
    return any(record.HasField("exit") for record in records(path))


def records(path: Path):
    from wandb.proto.wandb_internal_pb2 import Record

    return [Record.FromString(part) for part in split_records(path.read_bytes())]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run in a checkout whose remote, environment, command line and configuration hold a
    token, and which prints it."""
    folder = tmp_path_factory.mktemp("checkout")
    for command in (["init", "-q"], ["remote", "add", "origin", f"https://me:{TOKEN}@x.org/r"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MY_SERVICE_TOKEN", TOKEN)
        patch.setenv("WANDB_DATA_DIR", str(folder / "staging"))
        patch.setattr(sys, "argv", ["train.py", f"model.token={TOKEN}"])
        logger = WandbLogger(folder, group="psft", offline=True)
        logger.log_hyperparams(
            {
                "experiment": "psft",
                "config": {"api_key": "something private", "note": f"mail {TOKEN}", "lr": 0.5},
                "hub": HUB,
                "url": "https://me:pass-word@example.org/x",
            }
        )
        print(TOKEN)
        callbacks = (
            PisaBench(BrightTracker(), sampling=ONE_STEP, worst=2),
            SampleVideos(folder / "samples", BrightTracker(), num_clips=1, sampling=ONE_STEP),
            ExportWeights(folder / "weights.safetensors"),
            Artifacts(folder),
        )
        trainer = make_trainer(folder, 5, *callbacks, logger=logger)
        trainer.fit(PSFT(toy_model(), lr=1e-2), DataWithManifests(folder / "data"))
    logs(folder)
    return folder


def test_an_offline_run_prints_only_how_to_upload_it(tmp_path, monkeypatch):
    program = """
from pisa.callbacks.loggers import WandbLogger
logger = WandbLogger("run", offline=True)
logger.log_metrics({"loss": 1.0}, 0)
logger.finalize("success")
"""
    monkeypatch.delenv("WANDB_SILENT", raising=False)
    (tmp_path / "program.py").write_text(program)
    done = run_script(str(tmp_path / "program.py"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(logs(tmp_path / "run")) == 1
    assert done.stdout.startswith("To upload this run: wandb sync ")
    assert "wandb: " not in done.stderr and len(done.stdout.splitlines()) == 1


@pytest.mark.parametrize("secret", [TOKEN, HUB, "something private", "pass-word"])
def test_no_secret_is_in_any_file_of_the_run(run, secret):
    files = [p for p in (run / "wandb").rglob("*") if p.is_file() and not p.is_symlink()]
    assert len(files) >= 6
    assert [str(path) for path in files if secret.encode() in path.read_bytes()] == []


def test_configuration_curves_and_group_are_there(run):
    (log,) = logs(run)
    config, curves = read_offline(log)
    assert config["experiment"] == "psft" and config["config"]["lr"] == 0.5
    assert config["config"]["api_key"] == config["hub"] == "[redacted]"
    assert set(config["data_sha256"]) == {"psft-1", "sim_seen-2"}
    assert {"train/loss", "pisabench/sim_seen/iou", "pisabench/sim_unseen/l2"} <= curves.keys()
    (started,) = [r.run for r in records(log) if r.HasField("run")]
    assert started.run_group == "psft" and not started.git.remote_url


def test_worst_clips_and_sample_videos_are_files_of_the_run(run):
    folder = logs(run)[0].parent / "files" / "media"
    tables = sorted(folder.rglob("*.table.json"))
    assert {t.parent.name for t in tables} == {"worst_clips"}
    content = json.loads(tables[0].read_text())
    assert content["columns"] == list(COLUMNS) and len(content["data"]) == 2
    assert len(list(folder.rglob("*.mp4"))) == 2


def test_manifests_and_weights_are_artifacts(run):
    found = {r.artifact.name: r.artifact for r in records(logs(run)[0]) if r.HasField("artifact")}
    if not found:  # newer versions send them as requests
        sent = [r.request.log_artifact.artifact for r in records(logs(run)[0])]
        found = {artifact.name: artifact for artifact in sent if artifact.name}
    models = {name for name, artifact in found.items() if artifact.type == "model"}
    assert {n for n, a in found.items() if a.type == "dataset"} == {"psft-1", "sim_seen-2"}
    assert models == {f"{run.name}-weights"}


def test_a_second_start_is_the_same_run(tmp_path):
    first = run_id(tmp_path)
    assert WandbLogger(tmp_path, offline=True)._wandb_init["id"] == first
    assert WandbLogger(tmp_path / "other", offline=True)._wandb_init["id"] != first


def test_one_sync_uploads_every_part_of_a_resumed_run_and_erases_none(tmp_path, capsys):
    """With the printed command, to a server that replaces lines from the offset it is sent."""
    for steps in (range(5), range(3, 8)):  # the checkpoint was at step 3
        logger = WandbLogger(tmp_path, group="psft", offline=True)
        for step in steps:
            logger.log_metrics({"loss": float(step)}, step=step)
        logger.finalize("success")
        time.sleep(1.1)  # W&B names the folder of a start after the second
    logs(tmp_path)
    printed = capsys.readouterr().out.splitlines()[-1]
    assert "(2 parts, one for each start): wandb sync" in printed
    with wandb_server() as (address, server):
        account = {"WANDB_BASE_URL": address, "WANDB_API_KEY": "a" * 40, "WANDB_ENTITY": "me"}
        script = Path(sys.executable).parent
        environment = os.environ | account | {"PATH": f"{script}:{os.environ['PATH']}"}
        command = f"wandb sync {printed.partition('wandb sync ')[2]}"
        options = {"env": environment, "cwd": tmp_path, "capture_output": True}
        subprocess.run(command, shell=True, check=True, **options)
    name = run_id(tmp_path)
    assert list(server.history) == [name] and server.groups == {name: "psft"}
    lines = server.history[name]
    assert [line["loss"] for line in lines if "loss" in line] == [0, 1, 2, 3, 4, 3, 4, 5, 6, 7]
    assert len({line["_step"] for line in lines}) == len(lines) == 10  # none is replaced
    assert [line["restarts"] for line in lines if "restarts" in line] == [1]


def test_no_setting_is_passed_that_wandb_warns_of(tmp_path):
    assert "anonymous" not in WandbLogger(tmp_path, offline=True)._wandb_init


@pytest.mark.slow  # imports lightning in two more processes
def test_a_killed_run_keeps_its_steps_and_the_next_start_is_a_part_of_it(tmp_path):
    program = (
        "import os, signal, sys, time\n"
        "from pisa.callbacks.loggers import WandbLogger\n"
        f"logger = WandbLogger({str(tmp_path)!r}, offline=True)\n"
        "first, last, how = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]\n"
        "for step in range(first, last):\n"
        "    logger.log_metrics({'loss': float(step)}, step=step)\n"
        "time.sleep(4)\n"
        "os.kill(os.getpid(), signal.SIGKILL) if how == 'kill' else logger.finalize('success')\n"
    )
    (tmp_path / "program.py").write_text(program)
    for span, code in ((("0", "5", "kill"), -9), (("5", "8", "end"), 0)):
        done = run_script(str(tmp_path / "program.py"), *span, cwd=tmp_path)
        assert done.returncode == code, done.stderr
    assert "anonymous" not in done.stderr
    assert "(2 parts, one for each start): wandb sync" in done.stdout
    parts = sorted(tmp_path.glob("wandb/offline-run-*"))
    assert {part.name.rpartition("-")[2] for part in parts} == {run_id(tmp_path)}
    losses = [read_offline(next(part.glob("run-*.wandb")))[1]["loss"] for part in parts]
    assert [[v for _, v in curve] for curve in losses] == [[0, 1, 2, 3, 4], [5, 6, 7]]


def test_worst_clips_are_those_with_the_largest_l2():
    values = {"a": 0.1, "b": 0.4, "c": float("nan"), "d": 0.2}
    batch = falling_batch(1)
    (known,) = Scorer(BrightTracker()).score(batch, batch.video, model="m", split="s")
    rows = [replace(known.row, clip=clip, l2=value) for clip, value in values.items()]
    assert [row[0] for row in worst_clips(rows, 3)] == ["c", "b", "d"]
