"""Files from elsewhere are data: no loader runs code that lies in them.

Every loader gets a file whose unpickling would create another file, which must not appear.
"""

from __future__ import annotations

import ast
import io
import pickle
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pisa.data.mask_files import read_arrays, read_mask_array
from pisa.errors import PisaError
from pisa.io.lightning_internals import AtomicCheckpointIO
from pisa.io.weights import load, read
from pisa.launch.hub import model_card
from pisa.perception.base import load_teacher
from pisa.perception.mask_cache import read_masks as read_cached_masks
from pisa.reports.figures.ablation import read_run
from pisa.tasks.weights import load_denoiser

SOURCE = Path(__file__).parents[2]


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self):
        return Path.touch, (self.proof,)


def write_checkpoint(path: Path, payload: Payload) -> None:
    torch.save({"state_dict": {"denoiser.weight": payload}, "global_step": payload}, path)


def write_object_array(path: Path, payload: Payload) -> None:
    array = np.empty(1, dtype=object)
    array[0] = payload
    np.save(path, array, allow_pickle=True)


def write_object_archive(path: Path, payload: Payload) -> None:
    member = io.BytesIO()
    write_object_array(member, payload)
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("mask.npy", "bits.npy", "shape.npy"):
            archive.writestr(name, member.getvalue())


def write_plain_pickle(path: Path, payload: Payload) -> None:
    path.write_bytes(pickle.dumps({"mask": payload}))


LOADERS: dict[str, tuple[Callable, Callable]] = {
    "resume.ckpt": (write_checkpoint, AtomicCheckpointIO().load_checkpoint),
    "weights.ckpt": (write_checkpoint, lambda path: load_denoiser(nn.Linear(1, 1), path)),
    "weights.safetensors": (write_checkpoint, lambda p: load_denoiser(nn.Linear(1, 1), p)),
    "released.pt": (write_checkpoint, lambda path: read([path])),
    "teacher.pt": (write_checkpoint, lambda path: load(nn.Linear(1, 1), path)),
    "teacher.safetensors": (write_checkpoint, lambda p: load_teacher(nn.Linear(1, 1), "x", p)),
    "mask.npy": (write_object_array, read_arrays),
    "mask.npz": (write_object_archive, read_arrays),
    "pickle.npy": (write_plain_pickle, read_arrays),
    "scored.npy": (write_object_array, read_mask_array),
    "scored.npz": (write_object_archive, read_mask_array),
}


@pytest.mark.parametrize("name", LOADERS)
def test_a_pickle_in_a_file_is_refused_and_never_runs(name, tmp_path):
    write, load = LOADERS[name]
    proof = tmp_path / "executed"
    write(tmp_path / name, Payload(proof))
    with pytest.raises(PisaError) as error:
        load(tmp_path / name)
    assert name in str(error.value)
    assert not proof.exists()


def test_the_payload_would_run_if_it_were_unpickled(tmp_path):
    """Else the test above could not fail."""
    proof = tmp_path / "executed"
    write_object_array(tmp_path / "x.npy", Payload(proof))
    np.load(tmp_path / "x.npy", allow_pickle=True)
    assert proof.exists()


def test_a_pickle_in_the_mask_cache_counts_as_absent(tmp_path):
    proof = tmp_path / "executed"
    write_object_archive(tmp_path / "a.npz", Payload(proof))
    assert read_cached_masks(tmp_path / "a.npz") is None and not proof.exists()


@pytest.mark.parametrize("reader", ["hub", "run_log"])
def test_yaml_builds_no_objects(reader, tmp_path):
    proof = tmp_path / "executed"
    path = f"!!python/object/apply:pathlib.Path [{proof}]"
    (tmp_path / "config.yaml").write_text(f"x: !!python/object/apply:pathlib.Path.touch [{path}]")
    (tmp_path / "metrics.json").write_text("{}")
    read = {"hub": model_card, "run_log": read_run}[reader]
    with pytest.raises(PisaError):
        read(tmp_path)
    assert not proof.exists()


@cache
def calls() -> list[tuple[str, str, dict[str, ast.expr]]]:
    """(file, called name, keywords) of every call in the package and the entry points."""
    found = []
    for path in [*(SOURCE / "src").rglob("*.py"), *SOURCE.glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                keywords = {k.arg: k.value for k in node.keywords if k.arg}
                found.append((str(path.relative_to(SOURCE)), ast.unparse(node.func), keywords))
    return found


def test_every_loader_in_the_source_is_told_not_to_unpickle():
    """A new ``torch.load`` or ``np.load`` without the keyword fails here."""
    wanted = {"torch.load": ("weights_only", True), "np.load": ("allow_pickle", False)}
    loaders = [call for call in calls() if call[1] in wanted]
    assert {call[1] for call in loaders} == {*wanted}
    for file, name, keywords in loaders:
        key, value = wanted[name]
        given = keywords.get(key)
        assert isinstance(given, ast.Constant) and given.value is value, f"{file}: {name}"


def test_nothing_in_the_source_unpickles_or_trusts_code():
    forbidden = {
        "pickle.load", "pickle.loads", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "eval",
        "exec", "joblib.load", "dill.load", "os.system", "tarfile.open", "shutil.unpack_archive",
        "hydra.utils.call", "OmegaConf.load",
    }  # fmt: skip
    # asset bundles: members are read one by one under checked names (tests/io/test_download.py)
    allowed = {("download.py", "tarfile.open")}
    for file, name, keywords in calls():
        assert name not in forbidden or (Path(file).name, name) in allowed, f"{file}: {name}"
        assert not name.endswith((".extractall", ".extract")), f"{file}: {name}"
        trust = keywords.get("trust_remote_code")
        assert trust is None or (isinstance(trust, ast.Constant) and trust.value is False), file
        shell = keywords.get("shell")
        assert shell is None or (isinstance(shell, ast.Constant) and shell.value is False), file


def test_objects_are_built_through_the_allow_list_only():
    imports = [
        str(path.relative_to(SOURCE))
        for path in (SOURCE / "src").rglob("*.py")
        if "from hydra.utils import" in path.read_text() or "hydra.utils." in path.read_text()
    ]
    assert imports == ["src/pisa/launch/targets.py"]
