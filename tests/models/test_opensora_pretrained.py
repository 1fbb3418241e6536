"""`from_pretrained` with small networks in place of the released sizes."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from safetensors.torch import save_file

from pisa.errors import PisaError
from pisa.models.opensora import STDiT3, adapter
from pisa.models.opensora.adapter import OpenSoraModel
from pisa.models.tiny_text import WordHashEncoder
from tests.models.test_opensora_adapter import tiny_vae

SMALL = partial(
    STDiT3, hidden_size=32, depth=1, num_heads=2, caption_channels=16, model_max_length=5
)


@pytest.fixture
def small(monkeypatch, tmp_path):
    """Folders ``denoiser`` and ``vae`` with weights; constructors make networks of that size."""
    monkeypatch.setattr(adapter, "STDiT3", SMALL)
    monkeypatch.setattr(adapter, "OpenSoraVAE", lambda grad_checkpoint: tiny_vae())
    torch.manual_seed(3)
    for name, network in (("denoiser", SMALL()), ("vae", tiny_vae())):
        (tmp_path / name).mkdir()
        save_file(network.state_dict(), tmp_path / name / "model.safetensors")
    return tmp_path


def load(folder, denoiser="denoiser"):
    source = None if denoiser is None else folder / denoiser
    return OpenSoraModel.from_pretrained(source, folder / "vae", WordHashEncoder(16, 5))


def test_released_weights_come_alive_from_the_meta_device(small):
    model = load(small)
    torch.manual_seed(3)
    expected = SMALL()
    for name, value in expected.state_dict().items():
        assert torch.equal(model.denoiser.state_dict()[name], value)
    assert not any(tensor.is_meta for tensor in model.state_dict().values())
    assert {p.dtype for p in model.denoiser.parameters()} == {torch.float32}  # master weights
    assert {p.dtype for p in model.vae.parameters()} == {torch.bfloat16}
    assert not any(p.requires_grad for p in model.denoiser.y_embedder.parameters())
    assert not model.denoiser.rope.freqs.requires_grad
    assert model.denoiser.x_embedder.proj.weight.requires_grad
    assert model.denoiser.grad_checkpoint


def test_random_initialisation_keeps_the_vae(small):
    model, released = load(small, denoiser=None), load(small)
    name = "spatial_blocks.0.attn.qkv.weight"
    fresh, trained = (m.denoiser.get_parameter(name) for m in (model, released))
    assert fresh.std() > 0 and not torch.equal(fresh, trained)
    for key, value in released.vae.state_dict().items():
        assert torch.equal(model.vae.state_dict()[key], value)
    assert model.codec_fingerprint() == released.codec_fingerprint()


def test_captions_are_dropped_by_the_loss_alone(small):
    """STDiT3 drops a tenth itself in train mode; with the loss's tenth it would be a fifth."""
    model = load(small).train()
    caption = torch.randn(64, 5, 16)
    first, second = (model.denoiser.y_embedder(caption) for _ in range(2))
    assert torch.equal(first, second)


def test_the_fingerprint_changes_with_weights_and_settings(small):
    model = load(small)
    prints = [model.codec_fingerprint()]
    model.sample_posterior = False
    prints.append(model.codec_fingerprint())
    model.vae.shift += 1
    prints.append(model.codec_fingerprint())
    assert len(set(prints)) == 3


def test_missing_weights_are_found_out_before_anything_is_built(small, monkeypatch):
    monkeypatch.setattr(adapter, "STDiT3", None)
    with pytest.raises(PisaError, match="holds none of"):
        (small / "empty").mkdir()
        load(small, "empty")


def test_a_truncated_download_is_one_sentence(small):
    path = small / "denoiser" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(PisaError, match=r"cannot read .*model\.safetensors"):
        load(small)
