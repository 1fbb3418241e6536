"""A run as a model: names of the release, a card with scores, upload (mocked)."""

from __future__ import annotations

import json

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file

from pisa.errors import PisaError
from pisa.io.weights import load, read_metadata
from pisa.launch import hub
from pisa.models.lora import add_lora, exported_state
from pisa.models.opensora import STDiT3

SIZES = {"hidden_size": 32, "depth": 1, "num_heads": 2, "caption_channels": 16}


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "psft-12345678"
    folder.mkdir()
    torch.manual_seed(0)
    save_file(STDiT3(**SIZES).state_dict(), folder / "weights.safetensors")
    (folder / "config.yaml").write_text("name: psft\nseed: 7\nlr: 0.0001\n")
    cell = {"mean": 0.048, "ci95": [0.038, 0.06], "n": 30}
    none = {"mean": None, "ci95": [None, None], "n": 0}
    metrics = {
        "schema": 1,
        "protocol": "official",
        "summary": {"psft": {"sim_seen": {"l2": cell, "time_error": none}}},
        "per_clip": [],
        "failures": [],
        "provenance": {"commit": "abc123", "config_sha256": "", "data_sha256": "", "seed": 0}
        | {"versions": {}},
    }
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder


def test_the_export_loads_as_the_release_does(run):
    folder = hub.export_model(run)
    loaded = load(STDiT3(**SIZES), folder)
    for name, value in load_file(run / "weights.safetensors").items():
        assert torch.equal(loaded.state_dict()[name], value)
    assert {p.name for p in folder.iterdir()} == {
        "model.safetensors",
        "README.md",
        "config.yaml",
        "metrics.json",
    }


def test_the_export_of_a_lora_run_has_the_adapter_merged(run):
    network = add_lora(STDiT3(**SIZES), rank=2)
    for name, parameter in network.named_parameters():
        if ".lora_B." in name:
            torch.nn.init.ones_(parameter)
    exported = exported_state(network)
    save_file(exported, run / "weights.safetensors", {"codec": "abc"})
    folder = hub.export_model(run)
    loaded = load(STDiT3(**SIZES), folder).state_dict()
    name = "spatial_blocks.0.attn.qkv"
    added = exported[f"{name}.ups.0"] @ exported[f"{name}.downs.0"]
    assert torch.equal(loaded[f"{name}.weight"], exported[f"{name}.weight"] + added)
    assert read_metadata(folder / "model.safetensors") == {"codec": "abc"}


def test_the_card_has_scores_with_counts_and_the_configuration(run):
    card = ModelCard.load(hub.export_model(run) / "README.md")
    assert card.data.pipeline_tag == "image-to-video" and "psft" in card.data.tags
    assert "Sim (seen), n = 30: L2 ↓" in card.text
    assert "| PSFT | 0.048 [0.038, 0.060] | - (n = 0) |" in card.text
    assert "seed: 7" in card.text and "abc123" in card.text
    (run / "metrics.json").unlink()
    assert "not scored" in hub.model_card(run).text


def test_the_card_of_an_adapter_says_how_each_program_loads_it(run):
    (run / "config.yaml").write_text("name: psft\nmodel: {repository: Wan-AI/Wan2.2}\n")
    (run / "adapter").mkdir()
    assert "LoRA" not in hub.model_card(run).text
    kinds = {
        "adapter_model": "PeftModel.from_pretrained",
        "pytorch_lora_weights": 'DiffusionPipeline.from_pretrained("Wan-AI/Wan2.2")',
        "pytorch_lora_weights_2": "load_into_transformer_2=True",
        "comfyui": "LoraLoaderModelOnly",
        "comfyui_high_noise": "`adapter/comfyui_low_noise.safetensors` into `models/loras`",
    }
    for name, words in kinds.items():
        assert words not in hub.model_card(run).text
        (run / "adapter" / f"{name}.safetensors").touch()
        card = hub.model_card(run)
        assert words in card.text and card.data.base_model == "Wan-AI/Wan2.2"
        if name == "comfyui":  # one network or two experts, never both
            (run / "adapter" / "comfyui.safetensors").unlink()


def test_push_uploads_the_export_privately(run, monkeypatch):
    calls = []

    class Api:
        def create_repo(self, repository, **options):
            calls.append((repository, options))

        def upload_folder(self, *, repo_id, folder_path, **options):
            calls.append((repo_id, sorted(p.name for p in folder_path.iterdir())))
            return "https://hub/commit"

    monkeypatch.setattr(hub, "HfApi", Api)
    assert hub.push_to_hub(run, "me/falling") == "https://hub/commit"
    assert calls[0] == ("me/falling", {"private": True, "exist_ok": True})
    assert calls[1][0] == "me/falling" and "model.safetensors" in calls[1][1]


def test_no_network_and_no_weights_are_one_sentence(run, monkeypatch):
    class Api:
        def create_repo(self, repository, **options):
            raise ConnectionError("no route\nto host")

    monkeypatch.setattr(hub, "HfApi", Api)
    with pytest.raises(PisaError, match=r"cannot upload to me/falling: no route to host"):
        hub.push_to_hub(run, "me/falling")
    (run / "weights.safetensors").unlink()
    with pytest.raises(PisaError, match="has no weights"):
        hub.export_model(run)


def test_damaged_scores_are_one_sentence_and_leave_no_export(run):
    (run / "metrics.json").write_text("{")
    with pytest.raises(PisaError, match=r"metrics\.json is not a metrics\.json of schema 1"):
        hub.export_model(run)
    assert {path.name for path in run.iterdir()} == {
        "weights.safetensors", "config.yaml", "metrics.json"
    }  # fmt: skip
