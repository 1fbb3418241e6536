"""What a configuration may build, and what it may not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import hydra
import pytest
from omegaconf import DictConfig, ListConfig, OmegaConf

from pisa.errors import PisaError
from pisa.launch.targets import PLUGINS, check_hydra, check_target, instantiate

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"
FORBIDDEN = (
    "os.system",
    "builtins.eval",
    "subprocess.run",
    "torch.load",
    "shutil.rmtree",
    "hydra.utils.call",
    "hydra.utils.instantiate",
    "pisa.io.provenance.subprocess.run",  # a way through a module of ours
    "pisa.data.data_sets.shutil.rmtree",
    "pisa.data.data_sets.discard",  # a function of ours that deletes
    "pisa.data.data_sets.Path.unlink",
    "lightning.pytorch.callbacks.sys.exit",
    "pisa.no_such_module.Thing",
    "pisa",
)


def targets_in(node) -> set[str]:
    if isinstance(node, DictConfig):
        own = {node._get_node("_target_")._value()} if "_target_" in node else set()
        keys = [key for key in node if not OmegaConf.is_interpolation(node, key)]
        return own.union(*(targets_in(node._get_node(key)) for key in keys))
    if isinstance(node, ListConfig):
        return set().union(*(targets_in(node._get_node(i)) for i in range(len(node))))
    return set()


def test_every_target_of_this_repository_is_allowed():
    count = 0
    for path in CONFIGS.rglob("*.yaml"):
        text = OmegaConf.create(path.read_text())
        for target in targets_in(text):
            if "hydra" not in text:
                check_target(str(target))
                count += 1
    assert count > 70


@pytest.mark.parametrize("target", FORBIDDEN)
def test_other_targets_are_refused_wherever_they_stand(target):
    with pytest.raises(PisaError, match=r"_target_|cannot import"):
        instantiate(OmegaConf.create({"_target_": target}))
    nested = {
        "_target_": "pisa.models.tiny_text.WordHashEncoder",
        "channels": [{"a": {"_target_": target, "_partial_": True}}],
    }
    with pytest.raises(PisaError, match=r"_target_|cannot import"):
        instantiate(OmegaConf.create(nested))


def test_an_interpolation_hides_nothing(tmp_path):
    proof = tmp_path / "executed"
    root = OmegaConf.create(
        {
            "evil": {"_target_": "pathlib.Path.touch", "self": str(proof)},
            "name": "pathlib.Path.touch",
            "by_node": {"_target_": "pisa.models.tiny_text.WordHashEncoder", "channels": "${evil}"},
            "by_name": {"_target_": "${name}", "self": str(proof)},
        }
    )
    for key in ("by_node", "by_name"):
        with pytest.raises(PisaError, match=r"pathlib\.Path\.touch"):
            instantiate(root[key])
    assert not proof.exists()


def test_objects_cannot_be_looked_up_by_path():
    node = {"_target_": "hydra.utils.get_object", "path": "os.system"}
    with pytest.raises(PisaError, match=r"hydra\.utils\.get_object"):
        instantiate(OmegaConf.create(node))


def test_own_code_is_allowed_by_the_environment_alone(monkeypatch, tmp_path):
    (tmp_path / "my_lab.py").write_text("class Reward:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    node = OmegaConf.create({"_target_": "my_lab.Reward"})
    with pytest.raises(PisaError, match=f"{PLUGINS}=my_lab"):
        instantiate(node)
    monkeypatch.setenv(PLUGINS, "other,my_lab")
    assert type(instantiate(node)).__name__ == "Reward"


@pytest.mark.parametrize(
    "override",
    [
        "+hydra.callbacks.x._target_=os.system",
        "hydra.sweeper._target_=os.system",
        "hydra.launcher._target_=hydra_plugins.x.y.os.system",
        "+hydra.job_logging.handlers.x.class=logging.FileHandler",
    ],
)
def test_hydras_own_part_builds_nothing_foreign(override):
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = hydra.compose("train", ["experiment=psft", override], return_hydra_config=True)
    with pytest.raises(PisaError, match="hydra"):
        check_hydra(cfg.hydra)


def test_a_log_formatter_is_a_factory_too():
    node = OmegaConf.create({"hydra_logging": {"formatters": {"x": {"()": "os.system"}}}})
    with pytest.raises(PisaError, match="must not name"):
        check_hydra(node)


def test_hydras_own_launchers_pass():
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        check_hydra(
            hydra.compose(
                "train", ["hydra.mode=MULTIRUN", "experiment=psft"], return_hydra_config=True
            ).hydra
        )


@pytest.mark.slow  # starts the program: 20 s
def test_a_foreign_experiment_file_runs_nothing(tmp_path):
    """The file as a stranger would send it, through train.py."""
    (tmp_path / "experiment").mkdir()
    proof = tmp_path / "executed"
    for name, text in {
        "a": "model: {_target_: os.mkdir, path: PROOF}",
        "b": "hydra: {callbacks: {x: {_target_: os.mkdir, path: PROOF}}}",
    }.items():
        text = f"# @package _global_\nname: x\nstages: [psft]\n{text}\n"
        (tmp_path / "experiment" / f"{name}.yaml").write_text(text.replace("PROOF", str(proof)))
        options = [f"hydra.searchpath=[file://{tmp_path}]", f"experiment={name}", "debug=smoke"]
        command = [sys.executable, str(ROOT / "train.py"), *options]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240)
        assert done.returncode == 2 and "allow-list" in done.stderr, done.stderr
        assert not proof.exists()
