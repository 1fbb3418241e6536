"""The doctor finds what is here, and says of each experiment what it lacks."""

from __future__ import annotations

from pathlib import Path

import hydra
import pytest
from omegaconf import OmegaConf
from packaging.requirements import Requirement

from pisa.__main__ import main
from pisa.data.manifest import Manifest, write_manifest
from pisa.doctor import command
from pisa.doctor.experiments import Experiment, model_weights, read_experiment
from pisa.doctor.machine import disks, version_of
from pisa.doctor.weights import Weights, in_hub, weights_of

CONFIGS = Path(__file__).parents[2] / "configs"


def perception(name: str):
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = hydra.compose("eval", [f"perception={name}"])
        return OmegaConf.to_container(cfg.perception, resolve=True)


def test_versions_that_do_not_fit_are_bad():
    assert version_of(Requirement("torch>=2")).good
    assert version_of(Requirement("torch<2")).good is False
    assert "missing" in version_of(Requirement("no-such-library-here>=1")).text


def test_every_model_but_the_random_one_names_its_weights():
    """A new family of models must be known to ``weights_of``."""
    named = {w.name.split(":")[0] for w in model_weights(CONFIGS)}
    models = {path.stem for path in (CONFIGS / "model").glob("*.yaml")}
    assert models - named == {"opensora_tiny", "opensora_random"}


@pytest.mark.parametrize("name", sorted(p.stem for p in (CONFIGS / "perception").glob("*.yaml")))
def test_every_teacher_names_its_weights(name):
    teachers = perception(name)
    count = 0 if name == "random" else 1  # random weights are in no file
    assert all(len(weights_of(teachers[part])) == count for part in teachers)


def test_embedded_teachers_are_here():
    assert all(weights_of(node)[0].present for node in perception("embedded").values())


def test_weights_in_a_folder_are_found_by_name(tmp_path):
    assert not in_hub("VAE", str(tmp_path), ("model.safetensors",)).present
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").touch()
    assert in_hub("VAE", str(tmp_path), ("model.safetensors",)).present


def test_data_sets_that_are_complete_are_found(tmp_path):
    absent = read_experiment(CONFIGS, "psft", "tiny", [f"data_dir={tmp_path}"])
    names = [data.name for data in absent.data]
    assert names == ["psft", "sim_seen", "sim_unseen"] and not absent.data[0].present
    assert absent.verdict(gpus=0, online=False) == (
        True,
        "first simulates psft (2000 clips), sim_seen (30 clips), sim_unseen (30 clips)",
    )
    for data in absent.data:
        write_manifest(data.folder, Manifest(clips=()))
    present = read_experiment(CONFIGS, "psft", "tiny", [f"data_dir={tmp_path}"])
    assert present.verdict(gpus=0, online=False) == (True, "all is here")


def test_the_paper_scale_needs_a_gpu_and_weights(monkeypatch, tmp_path):
    monkeypatch.setattr("pisa.doctor.weights.try_to_load_from_cache", lambda *_: None)
    paper = read_experiment(CONFIGS, "psft", "paper", [f"data_dir={tmp_path}"])
    can, text = paper.verdict(gpus=0, online=False)
    assert not can and text.startswith("lacks a GPU; weights (STDiT3, VAE, T5 encoder, SAM 2.1)")
    assert paper.verdict(gpus=2, online=True) == (False, "lacks the renderer (make kubric-env)")
    renderer = f"simulation.backend.python={CONFIGS / 'train.yaml'}"  # a file that is there
    paper = read_experiment(CONFIGS, "psft", "paper", [f"data_dir={tmp_path}", renderer])
    can, text = paper.verdict(gpus=2, online=True)
    assert can and text.startswith("first fetches STDiT3")
    folder = tmp_path / "fetched"
    (folder / "0000").mkdir(parents=True)
    (folder / "0000" / "clip_info.json").write_text("{}")
    fetched = read_experiment(CONFIGS, "psft", "paper", [f"psft.train={folder}", renderer])
    assert next(d for d in fetched.data if d.name == str(folder)).present


EXPERIMENTS = sorted(path.stem for path in (CONFIGS / "experiment").glob("*.yaml"))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_is_composed_as_its_entry_point_does(name):
    assert read_experiment(CONFIGS, name, "tiny").problem is None


def test_an_experiment_that_cannot_be_read_is_no_crash():
    broken = read_experiment(CONFIGS, "psft", "no_such_scale")
    assert broken.problem and not broken.verdict(8, True)[0]


def test_a_kubric_data_set_needs_its_renderer(tmp_path):
    options = [f"data_dir={tmp_path}", "simulation=kubric"]
    options.append(f"simulation.backend.python={tmp_path / 'python'}")
    found = read_experiment(CONFIGS, "psft", "tiny", options)
    assert found.verdict(0, False) == (False, "lacks the renderer (make kubric-env)")


def test_a_folder_that_cannot_be_written_is_bad(monkeypatch, tmp_path):
    monkeypatch.setattr("os.access", lambda *_: False)  # root may write anywhere
    assert next(disks([tmp_path / "runs"])).good is False


def test_the_report_from_end_to_end(monkeypatch, capsys, tmp_path):
    wanted = Weights("RAFT", "https://example.org/raft.pth", str(tmp_path), False)
    experiments = [Experiment("psft", "tiny"), Experiment("oro_flow", "paper", (wanted,))]
    monkeypatch.setattr(command, "all_experiments", lambda *_: experiments)
    monkeypatch.setattr(command, "model_weights", lambda *_: [])
    monkeypatch.setattr(command, "hub_reachable", lambda: False)
    arguments = ["--configs", str(CONFIGS), "--data-dir", str(tmp_path), "--no-plan"]
    assert main(["doctor", *arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any("RAFT" in line and "absent" in line and str(tmp_path) in line for line in lines)
    assert "  ok experiment=psft scale=tiny       all is here" in lines
    assert any(line.startswith("  !! experiment=oro_flow scale=paper") for line in lines)
