from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from pisa.io import weights as checkpoint
from pisa.io.weights import fill, find_shards
from pisa.types import PisaError


def source_layer() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 2)


def assert_loaded(source, file=None) -> None:
    loaded = fill(nn.Linear(3, 2), find_shards(source, file))
    for name, value in source_layer().state_dict().items():
        assert torch.equal(loaded.get_parameter(name), value)


def write_sharded(folder) -> None:
    state = source_layer().state_dict()
    save_file({"weight": state["weight"]}, folder / "model-1.safetensors")
    save_file({"bias": state["bias"]}, folder / "model-2.safetensors")
    index = {"weight_map": {"weight": "model-1.safetensors", "bias": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def test_safetensors_file_and_folder(tmp_path):
    save_file(source_layer().state_dict(), tmp_path / "model.safetensors")
    assert_loaded(tmp_path)
    assert_loaded(tmp_path / "model.safetensors")


def test_sharded_folder_and_model_subfolder(tmp_path):
    (tmp_path / "model").mkdir()
    write_sharded(tmp_path / "model")
    assert_loaded(tmp_path)
    assert_loaded(tmp_path / "model" / "model.safetensors.index.json")


def test_pickled_tensors(tmp_path):
    torch.save(source_layer().state_dict(), tmp_path / "pytorch_model.bin")
    assert_loaded(tmp_path)


def test_pickled_objects_are_refused(tmp_path):
    torch.save({"weight": source_layer()}, tmp_path / "ema.pt")
    with pytest.raises(PisaError, match=r"ema\.pt"):
        fill(nn.Linear(3, 2), find_shards(tmp_path))


def test_missing_shard_is_named(tmp_path):
    write_sharded(tmp_path)
    (tmp_path / "model-2.safetensors").unlink()
    with pytest.raises(PisaError, match=r"model-2\.safetensors"):
        fill(nn.Linear(3, 2), find_shards(tmp_path))


def test_wrong_shapes_and_damaged_files(tmp_path):
    save_file(source_layer().state_dict(), tmp_path / "model.safetensors")
    with pytest.raises(PisaError, match="do not fit Linear"):
        fill(nn.Linear(4, 2), find_shards(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"\x00" * 40)
    with pytest.raises(PisaError, match="cannot read"):
        fill(nn.Linear(3, 2), find_shards(tmp_path))


def test_empty_folder_and_absent_path(tmp_path):
    with pytest.raises(PisaError, match="holds none of"):
        fill(nn.Linear(3, 2), find_shards(tmp_path))
    with pytest.raises(PisaError, match="no weights at"):
        fill(nn.Linear(3, 2), find_shards(tmp_path / "absent" / "deeper"))


def test_offline_says_what_to_fetch_and_where_to_put_it(monkeypatch):
    def unreachable(repository, name):
        raise ConnectionError("no route")

    monkeypatch.setattr(checkpoint, "try_to_load_from_cache", lambda repository, name: None)
    monkeypatch.setattr(checkpoint, "hf_hub_download", unreachable)
    with pytest.raises(PisaError, match=r"(?s)model\.safetensors.*owner/weights.*folder"):
        fill(nn.Linear(3, 2), find_shards("owner/weights"))


def test_repository_files_are_tried_in_order(monkeypatch, tmp_path):
    from huggingface_hub.errors import EntryNotFoundError

    torch.save(source_layer().state_dict(), tmp_path / "pytorch_model.bin")
    asked = []

    def download(repository, name):
        asked.append(name)
        if not (tmp_path / name).is_file():
            raise EntryNotFoundError(name)
        return str(tmp_path / name)

    monkeypatch.setattr(checkpoint, "try_to_load_from_cache", lambda repository, name: None)
    monkeypatch.setattr(checkpoint, "hf_hub_download", download)
    assert_loaded("owner/weights")
    assert asked[0] == "model.safetensors" and asked[-1] == "pytorch_model.bin"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda w: (w * 127).to(torch.int8), "holds int8 tensors; floating point is needed"),
        (lambda w: w.to(torch.int64), "holds int64 tensors"),
        (lambda w: w.where(w != w[0, 0], torch.nan), "holds NaN or infinity: weight"),
        (lambda w: w.where(w != w[0, 0], torch.inf).half(), "holds NaN or infinity: weight"),
    ],
)
def test_numbers_that_cannot_be_weights_are_refused(tmp_path, change, says):
    """Integers would be cast without their scale, and NaN would train to the end."""
    path = tmp_path / "model.safetensors"
    state = {"weight": change(torch.randn(2, 3)), "bias": torch.zeros(2)}
    save_file(state, path)
    with pytest.raises(PisaError, match=says):
        fill(nn.Linear(3, 2), find_shards(path))


def test_counters_may_be_integers(tmp_path):
    path = tmp_path / "model.safetensors"
    trained = nn.BatchNorm1d(3)
    trained(torch.randn(4, 3))
    save_file(trained.state_dict(), path)
    assert fill(nn.BatchNorm1d(3), find_shards(path)).num_batches_tracked == 1
