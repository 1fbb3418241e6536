"""Files as they lie in the released repositories, with the real classes at tiny size, offline."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pisa.errors import PisaError
from pisa.io.weights import load
from pisa.models.opensora import STDiT3
from pisa.models.opensora.text import T5TextEncoder
from pisa.tasks.weights import load_denoiser

WORDS = ("\u2581a", "\u2581video", "\u2581of", "\u2581an", "\u2581object", "\u2581dropping")
PROMPT = "a video of an object dropping"


def write_shards(folder: Path, state: Mapping[str, Tensor], parts: int = 2) -> list[Path]:
    """As transformers and ColossalAI shard: pickled parts and an index."""
    folder.mkdir(parents=True, exist_ok=True)
    names = list(state)
    files = [f"pytorch_model-{i + 1:05d}-of-{parts:05d}.bin" for i in range(parts)]
    index = {name: files[i * parts // len(names)] for i, name in enumerate(names)}
    for file in files:
        part = {name: state[name].clone() for name in names if index[name] == file}
        torch.save(part, folder / file)
    content = {"metadata": {"total_size": 1}, "weight_map": index}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(content))
    return [folder / file for file in files]


def write_sentencepiece(path: Path) -> None:
    """A unigram model with the special pieces of T5, a few words, and letters."""
    from transformers.convert_slow_tokenizer import import_protobuf

    protobuf: Any = import_protobuf()
    model = protobuf.ModelProto()
    kinds = protobuf.ModelProto.SentencePiece
    special = [("<pad>", kinds.CONTROL), ("</s>", kinds.CONTROL), ("<unk>", kinds.UNKNOWN)]
    normal = [(piece, kinds.NORMAL) for piece in (*WORDS, *"\u2581abcdefghijklmnopqrstuvwxyz")]
    for rank, (piece, kind) in enumerate([*special, *normal]):
        model.pieces.add(piece=piece, score=-float(rank), type=kind)
    model.trainer_spec.model_type = protobuf.TrainerSpec.UNIGRAM
    model.trainer_spec.unk_id = 2
    path.write_bytes(model.SerializeToString())


@pytest.fixture
def t5(tmp_path) -> tuple[Path, dict[str, Tensor]]:
    """``DeepFloyd/t5-v1_1-xxl``: ``spiece.model``, pickled shards, no ``tokenizer.json``."""
    from transformers import T5Config, T5EncoderModel

    folder = tmp_path / "t5"
    config = T5Config(
        vocab_size=160,
        d_model=16,
        d_kv=4,
        d_ff=32,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
    )
    config.save_pretrained(folder)
    write_sentencepiece(folder / "spiece.model")
    names = {"tokenizer_class": "T5Tokenizer", "extra_ids": 100}
    (folder / "tokenizer_config.json").write_text(json.dumps(names))
    torch.manual_seed(0)
    state = T5EncoderModel(config).state_dict()
    write_shards(folder, state)
    return folder, state


def test_t5_as_released(t5):
    folder, state = t5
    text = T5TextEncoder(folder, max_length=12)
    condition = text([PROMPT])
    assert condition.embedding.shape == (1, 12, 16) and condition.mask.sum() == len(WORDS) + 1
    assert text.tokenizer.tokenize(PROMPT) == list(WORDS)
    loaded = text.encoder.state_dict()
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[name], state[name].bfloat16()) for name in state)


def test_t5_that_is_not_whole_is_one_sentence(t5):
    folder, state = t5
    first = next(name for name in state if "layer.0" in name)
    shards = write_shards(folder, {n: v for n, v in state.items() if n != first})
    with pytest.raises(PisaError, match=f"lacks 1 tensors of T5, such as {first}"):
        T5TextEncoder(folder)([PROMPT])
    shards[1].write_bytes(shards[1].read_bytes()[:300])
    with pytest.raises(PisaError, match="cannot load the T5 encoder"):
        T5TextEncoder(folder)([PROMPT])
    shards[1].unlink()
    with pytest.raises(PisaError, match="cannot load the T5 encoder"):
        T5TextEncoder(folder)([PROMPT])


def small() -> STDiT3:
    torch.manual_seed(1)
    return STDiT3(hidden_size=32, depth=1, num_heads=2, caption_channels=16, model_max_length=5)


@pytest.fixture
def release(tmp_path) -> tuple[Path, dict[str, Tensor], dict[str, Tensor]]:
    """A checkpoint of the paper's training: ``model/`` in shards, ``ema.pt``, other files."""
    folder = tmp_path / "base"
    trained = {name: value + 1 for name, value in small().state_dict().items()}
    average = {name: value + 2 for name, value in small().state_dict().items()}
    write_shards(folder / "model", trained, 3)
    torch.save(average, folder / "ema.pt")
    (folder / "running_states.json").write_text('{"epoch": 0, "step": 5000}')
    return folder, trained, average


def same(network: STDiT3, state: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(network.state_dict()[name], state[name]) for name in state)


def test_checkpoints_of_the_paper_load_as_its_inference_loads_them(release):
    """Its inference reads ``model/``; the average is taken by naming its file."""
    folder, trained, average = release
    assert same(load(small(), folder), trained)
    assert same(load(small(), folder / "ema.pt"), average)
    for source, state in ((folder, trained), (folder / "ema.pt", average)):  # eval.py ckpt=...
        network = small()
        assert load_denoiser(network, source) == {}
        assert same(network, state)


def test_a_checkpoint_of_another_network_or_a_part_of_one_is_one_sentence(release):
    folder = release[0]
    wide = STDiT3(hidden_size=48, depth=1, num_heads=2, caption_channels=16, model_max_length=5)
    with pytest.raises(PisaError, match="of another model: tensors"):
        load_denoiser(wide, folder)
    with pytest.raises(PisaError, match="for STDiT3"):
        load(wide, folder)
    shard = folder / "model" / "pytorch_model-00002-of-00003.bin"
    shard.write_bytes(shard.read_bytes()[:-2000])
    with pytest.raises(PisaError, match=r"cannot read weights .*00002-of-00003"):
        load_denoiser(small(), folder)
    shard.unlink()
    with pytest.raises(PisaError, match="names missing shards"):
        load_denoiser(small(), folder)
    with pytest.raises(PisaError, match="checkpoint not found"):
        load_denoiser(small(), folder / "absent")


def test_a_pickle_that_holds_more_than_tensors_is_refused(tmp_path):
    torch.save({"weights": small()}, tmp_path / "model.pt")
    with pytest.raises(PisaError, match=r"cannot read weights .*model\.pt"):
        load_denoiser(small(), tmp_path / "model.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(PisaError, match="is not a state dict"):
        load_denoiser(small(), tmp_path / "list.pt")
