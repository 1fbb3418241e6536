from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from pisa.errors import PisaError
from pisa.io.weights import check_pretrained, fill, load, read, save


def source_layer() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 2)


def assert_loaded(source, file=None) -> None:
    loaded = load(nn.Linear(3, 2), source, file=file)
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


def test_saved_weights_are_readable_to_whom_other_files_are(tmp_path):
    other = tmp_path / "other"
    other.touch()
    saved = save(tmp_path / "weights.safetensors", {"a": torch.ones(2)})
    assert saved.stat().st_mode == other.stat().st_mode


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
        load(nn.Linear(3, 2), tmp_path)


def test_missing_shard_is_named(tmp_path):
    write_sharded(tmp_path)
    (tmp_path / "model-2.safetensors").unlink()
    with pytest.raises(PisaError, match=r"model-2\.safetensors"):
        load(nn.Linear(3, 2), tmp_path)


def test_wrong_shapes_and_damaged_files(tmp_path):
    save_file(source_layer().state_dict(), tmp_path / "model.safetensors")
    with pytest.raises(PisaError, match=r"for Linear.*of another model"):
        load(nn.Linear(4, 2), tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\x00" * 40)
    with pytest.raises(PisaError, match="cannot read"):
        load(nn.Linear(3, 2), tmp_path)


def test_empty_folder_and_absent_path(tmp_path):
    with pytest.raises(PisaError, match="holds none of"):
        load(nn.Linear(3, 2), tmp_path)
    with pytest.raises(PisaError, match="no weights at"):
        load(nn.Linear(3, 2), tmp_path / "absent" / "deeper")


def test_offline_says_what_to_fetch_and_where_to_put_it(monkeypatch):
    def unreachable(repository, name):
        raise ConnectionError("no route")

    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda repository, name: None)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", unreachable)
    with pytest.raises(PisaError, match=r"(?s)model\.safetensors.*owner/weights.*folder"):
        load(nn.Linear(3, 2), "owner/weights")


def test_repository_files_are_tried_in_order(monkeypatch, tmp_path):
    from huggingface_hub.errors import EntryNotFoundError

    torch.save(source_layer().state_dict(), tmp_path / "pytorch_model.bin")
    asked = []

    def download(repository, name):
        asked.append(name)
        if not (tmp_path / name).is_file():
            raise EntryNotFoundError(name)
        return str(tmp_path / name)

    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda repository, name: None)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    assert_loaded("owner/weights")
    assert asked[0] == "model.safetensors" and asked[-1] == "pytorch_model.bin"


FLOATS = {"weight": torch.randn(2, 3), "bias": torch.zeros(2)}


def write_any(path, state):
    return save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)


@pytest.mark.parametrize("name", ["a.safetensors", "a.pt"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_nan_and_infinity_are_refused_by_name(tmp_path, name, value, dtype):
    weight = torch.randn(2, 3, dtype=dtype)
    weight[1, 2] = value
    write_any(tmp_path / name, {"weight": weight, "bias": torch.zeros(2, dtype=dtype)})
    with pytest.raises(PisaError, match=r"NaN or infinity in 1 of 2 tensors \(first: weight\)"):
        load(nn.Linear(3, 2), tmp_path / name)


def test_nan_in_one_shard_is_refused(tmp_path):
    write_sharded(tmp_path)
    save_file({"bias": torch.tensor([0.0, float("nan")])}, tmp_path / "model-2.safetensors")
    with pytest.raises(PisaError, match=r"model-2\.safetensors holds NaN"):
        load(nn.Linear(3, 2), tmp_path)


@pytest.mark.parametrize("name", ["a.safetensors", "a.pt"])
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64", "bool", "float8_e4m3fn"])
def test_quantised_weights_are_refused(tmp_path, name, dtype):
    state = {k: v.to(getattr(torch, dtype)) for k, v in FLOATS.items()}
    write_any(tmp_path / name, state)
    with pytest.raises(PisaError, match=f"holds {dtype} tensors .*floating point"):
        load(nn.Linear(3, 2), tmp_path / name)


def test_integers_stay_where_the_module_counts(tmp_path):
    norm = nn.BatchNorm1d(2)
    norm.num_batches_tracked.fill_(7)
    save_file(norm.state_dict(), tmp_path / "norm.safetensors")
    assert load(nn.BatchNorm1d(2), tmp_path / "norm.safetensors").num_batches_tracked == 7


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_precisions_become_the_modules_own(tmp_path, dtype):
    save_file({k: v.to(dtype) for k, v in FLOATS.items()}, tmp_path / "a.safetensors")
    loaded = load(nn.Linear(3, 2), tmp_path / "a.safetensors")
    assert loaded.weight.dtype == torch.float32
    assert torch.equal(loaded.weight, FLOATS["weight"].to(dtype).float())


def test_a_part_of_a_file_by_its_prefix(tmp_path):
    save_file({f"codec.{k}": v for k, v in FLOATS.items()}, tmp_path / "a.safetensors")
    loaded = load(nn.Linear(3, 2), tmp_path / "a.safetensors", "codec")
    assert torch.equal(loaded.weight, FLOATS["weight"])
    with pytest.raises(PisaError, match="no weights of a denoiser"):
        load(nn.Linear(3, 2), tmp_path / "a.safetensors", "denoiser")


def test_a_shipped_file_is_found_by_name():
    names = {name.partition(".")[0] for name in read([*find_shipped("tiny_base")])}
    assert names == {"denoiser"}


def find_shipped(name):
    from pisa.io.weights import find

    assert find(name) == find(f"{name}.safetensors")
    return find(name)


def test_parameters_without_storage_come_alive():
    with torch.device("meta"):
        hollow = nn.Linear(3, 2)
    assert torch.equal(fill(hollow, FLOATS, "x").weight, FLOATS["weight"])


def test_weights_that_another_library_loads_are_checked(tmp_path):
    module = nn.Linear(3, 2)
    save_file({"weight": FLOATS["weight"].to(torch.int8)}, tmp_path / "model.safetensors")
    with pytest.raises(PisaError, match=r"model\.safetensors holds I8 tensors"):
        check_pretrained(module, tmp_path)
    module.weight.data[0, 0] = float("nan")
    with pytest.raises(PisaError, match="owner/name holds NaN"):
        check_pretrained(module, "owner/name")


def test_a_file_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PisaError, match="cannot write"):
        save(tmp_path / "file" / "a.safetensors", FLOATS)
