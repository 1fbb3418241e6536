from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from pisa.errors import PisaError
from pisa.models.opensora.text import (
    INFERENCE_SUFFIX,
    T5TextEncoder,
    clean_caption,
)


class Tokens(dict):
    def to(self, device):
        return self


class FakeT5:
    """One token per word; the embedding of a token is its number, repeated."""

    def __init__(self):
        self.calls = []

    def tokenizer(self, texts, max_length, **options):
        self.calls.append(list(texts))
        ids = torch.zeros(len(texts), max_length, dtype=torch.long)
        for row, text in enumerate(texts):
            words = [len(word) for word in text.split()]
            ids[row, : len(words)] = torch.tensor(words)
        return Tokens(input_ids=ids, attention_mask=(ids > 0).long())

    def encoder(self, input_ids, attention_mask):
        return SimpleNamespace(last_hidden_state=input_ids[..., None].float().expand(-1, -1, 3))


PROMPT = "a video of an object dropping"


def make(**options) -> tuple[T5TextEncoder, FakeT5]:
    fake = FakeT5()
    encoder = T5TextEncoder(max_length=8, encoder=fake.encoder, tokenizer=fake.tokenizer, **options)
    return encoder, fake


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("A video of an  Object dropping", "a video of an object dropping"),
        ("a ball falls." + INFERENCE_SUFFIX, "a ball falls. aesthetic score: 6.5."),
        ("a &amp; b (c) <p>d</p>", "a b c d"),
    ],
)
def test_cleaning(raw, cleaned):
    assert clean_caption(raw) == cleaned


def test_each_caption_is_embedded_once():
    text, fake = make()
    condition = text(["a ball", "A ball", "two heavy books"])
    assert condition.embedding.shape == (3, 8, 3) and condition.mask.sum(1).tolist() == [2, 2, 3]
    text(["a ball"])
    assert fake.calls == [["a ball", "two heavy books"]]


def test_suffix_is_appended():
    text, fake = make(suffix=INFERENCE_SUFFIX)
    text(["a ball falls."])
    assert fake.calls == [["a ball falls. aesthetic score: 6.5."]]


def test_cache_file_replaces_the_encoder(tmp_path):
    first, _ = make(cache_file=tmp_path / "captions.safetensors")
    expected = first(["a ball"])
    first.save_cache()
    second = T5TextEncoder(tmp_path / "absent", cache_file=tmp_path / "captions.safetensors")
    actual = second(["a ball"])
    assert torch.equal(actual.embedding, expected.embedding)
    assert torch.equal(actual.mask, expected.mask)
    with pytest.raises(PisaError, match="absent"):
        second(["something new"])


def test_damaged_cache_is_named(tmp_path):
    (tmp_path / "captions.safetensors").write_bytes(b"no")
    with pytest.raises(PisaError, match=r"cannot read weights .*captions\.safetensors"):
        T5TextEncoder(cache_file=tmp_path / "captions.safetensors")


class CountingEncoder:
    """Stands where T5 does: how often it was asked."""

    def __init__(self):
        self.calls = 0

    def __call__(self, input_ids, attention_mask):
        self.calls += 1
        hidden = input_ids[..., None].float().expand(-1, -1, 4)
        return type("Output", (), {"last_hidden_state": hidden})()


class LengthTokenizer:
    def __call__(self, texts, max_length, **options):
        ids = torch.tensor([[min(len(t), max_length)] * max_length for t in texts])
        tokens = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        return type("Tokens", (dict,), {"to": lambda self, device: self})(tokens)


def test_the_training_prompt_is_embedded_once_and_the_encoder_let_go(tmp_path):
    path = tmp_path / "captions" / "t5.safetensors"
    first = T5TextEncoder(
        cache_file=path, max_length=3, encoder=CountingEncoder(), tokenizer=LengthTokenizer()
    )
    counter = first.encoder
    waiting = T5TextEncoder("nowhere/at-all", cache_file=path, max_length=3)  # another rank
    first.prepare([PROMPT])
    assert counter.calls == 1 and first.encoder is None and first.tokenizer is None
    expected = first([PROMPT])
    assert torch.equal(waiting([PROMPT]).embedding, expected.embedding)
    assert waiting.encoder is None
    later = T5TextEncoder("nowhere/at-all", cache_file=path, max_length=3)
    later.prepare([PROMPT])
    assert later.encoder is None
    assert [p.name for p in path.parent.iterdir()] == ["t5.safetensors"]
