"""Caption embeddings by T5 v1.1 XXL: 300 tokens, 4096 channels.

The encoder (11 GB in bfloat16) is loaded at the first caption that is not cached. PSFT trains on
one constant prompt, so with a cache file the encoder is never loaded at all.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Protocol, runtime_checkable

import torch
from safetensors import SafetensorError
from torch import Tensor

from pisa.errors import PisaError
from pisa.io.weights import check_pretrained, read, save
from pisa.types import Condition

INFERENCE_SUFFIX = " aesthetic score: 6.5."


@runtime_checkable
class TextEncoder(Protocol):
    """Turns captions into token embeddings."""

    def __call__(self, captions: Sequence[str]) -> Condition: ...


def clean_caption(caption: str) -> str:
    """Lower case, no markup, links or special punctuation, single spaces.

    A short form of the cleaning of DeepFloyd-IF that the release applies. Plain English captions
    give the same text; captions with CJK characters, file names or adverts may not.
    """
    text = html.unescape(html.unescape(caption)).strip().lower()
    text = re.sub(r"https?://\S+|www\.\S+|<[^>]*>|@[\w-]+", " ", text)
    text = re.sub(r"[\u2018\u2019`\u00b4]", "'", text)
    text = re.sub(r"[\u201c\u201d\u00ab\u00bb\u201e]", '"', text)
    text = re.sub(r"[\u2010-\u2015\u2212]+", "-", text)
    text = re.sub(r"[#\u00ae\u2022\u00a9\u2122&@\u00ba~()\[\]{}|\\/*]+|\.{2,}|\"{2,}", " ", text)
    text = re.sub(r"(\D[,./])\b", r"\1 ", text)  # a space after punctuation, not within 6.5
    text = re.sub(r"\s+", " ", text).strip()
    return re.sub(r"^[-'_,+:]+|[-'_,+:]+$", "", text.strip('"')).strip()


class T5TextEncoder:
    """Lazy T5 encoder with a cache of embedded captions; not a module, so never in checkpoints.

    Args:
        source: folder or Hugging Face repository of the encoder and its tokenizer.
        max_length: tokens; shorter captions are padded.
        suffix: appended to every caption; ``INFERENCE_SUFFIX`` at inference in the release.
        clean: apply ``clean_caption``, as the release does at inference.
        cache_file: safetensors file of embedded captions, read now and written by ``save_cache``.
        encoder, tokenizer: ready ones of transformers, instead of ``source``.
    """

    def __init__(
        self,
        source: str | Path = "DeepFloyd/t5-v1_1-xxl",
        *,
        max_length: int = 300,
        suffix: str = "",
        clean: bool = True,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.bfloat16,
        cache_file: str | Path | None = None,
        encoder: Any = None,
        tokenizer: Any = None,
    ):
        self.source = str(source)
        self.max_length = max_length
        self.suffix = suffix
        self.clean = clean
        self.device = torch.device(device)
        self.dtype = dtype
        self.encoder = encoder
        self.tokenizer = tokenizer
        self.cache_file = None if cache_file is None else Path(cache_file)
        self._cache: dict[str, tuple[Tensor, Tensor]] = {}
        if self.cache_file is not None and self.cache_file.is_file():
            self._cache = _read_cache(self.cache_file)

    def __call__(self, captions: Sequence[str]) -> Condition:
        """Float32 embeddings [B, max_length, C] and the mask of real tokens, on ``device``.

        Raises:
            PisaError: a caption is not cached and the encoder cannot be loaded.
        """
        texts = [self._text(caption) for caption in captions]
        missing = self._missing(texts)
        if missing:
            self._embed(missing)
        embeddings, masks = zip(*(self._cache[text] for text in texts), strict=True)
        return Condition(
            torch.stack(embeddings).to(self.device).float(), torch.stack(masks).to(self.device)
        )

    def prepare(self, captions: Sequence[str]) -> None:
        """Embed what ``cache_file`` lacks, write it there, and let go of the encoder.

        Does nothing without a ``cache_file``. Other processes read the file when they need it.
        """
        missing = self._missing([self._text(caption) for caption in captions])
        if self.cache_file is None or not missing:
            return
        self._embed(missing)
        self.save_cache()
        self.encoder = self.tokenizer = None

    def save_cache(self) -> None:
        """Write all embedded captions to ``cache_file``, which appears whole or not at all."""
        if self.cache_file is None:
            raise ValueError("this encoder has no cache_file")
        tensors: dict[str, Tensor] = {}
        for text, (embedding, mask) in self._cache.items():
            tensors[f"embedding:{text}"] = embedding.contiguous()
            tensors[f"mask:{text}"] = mask.contiguous()
        save(self.cache_file, tensors)

    def _missing(self, texts: list[str]) -> list[str]:
        """The texts that are not cached; looks into the file again, another process may write."""
        missing = list(dict.fromkeys(text for text in texts if text not in self._cache))
        if missing and self.cache_file is not None and self.cache_file.is_file():
            self._cache |= _read_cache(self.cache_file)
            missing = [text for text in missing if text not in self._cache]
        return missing

    def _text(self, caption: str) -> str:
        text = caption + self.suffix
        return clean_caption(text) if self.clean else text

    @torch.no_grad()
    def _embed(self, texts: list[str]) -> None:
        if self.encoder is None or self.tokenizer is None:
            self._load()
        tokens = self.tokenizer(
            texts,
            max_length=self.max_length,
            padding="max_length",
            truncation=True,
            return_attention_mask=True,
            return_tensors="pt",
        ).to(self.device)
        hidden = self.encoder(
            input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
        ).last_hidden_state
        for text, row, mask in zip(texts, hidden, tokens["attention_mask"], strict=True):
            self._cache[text] = (row.cpu(), mask.bool().cpu())

    def _load(self) -> None:
        from transformers import AutoTokenizer, T5EncoderModel

        try:
            self.tokenizer = AutoTokenizer.from_pretrained(self.source, trust_remote_code=False)
            loaded: Any = T5EncoderModel.from_pretrained(
                self.source, dtype=self.dtype, output_loading_info=True
            )
        except (OSError, ValueError, RuntimeError, SafetensorError, UnpicklingError) as error:
            raise PisaError(
                f"cannot load the T5 encoder and tokenizer from {self.source}: "
                f"{' '.join(str(error).split())[:200]}. Without network: fetch that repository "
                "elsewhere and give its folder as source, or give a cache_file with these captions"
            ) from error
        self.encoder, info = loaded
        check_pretrained(self.encoder, self.source)
        missing = sorted(info["missing_keys"])
        if missing:  # transformers leaves them random
            raise PisaError(
                f"{self.source} lacks {len(missing)} tensors of T5, such as {missing[0]}"
            )
        self.encoder.requires_grad_(False).eval().to(self.device)


def _read_cache(path: Path) -> dict[str, tuple[Tensor, Tensor]]:
    tensors = read([path])
    texts = [name.removeprefix("mask:") for name in tensors if name.startswith("mask:")]
    absent = [text for text in texts if f"embedding:{text}" not in tensors]
    if absent or not texts:
        raise PisaError(f"{path} is not a caption cache: it has no embedding:* for its mask:*")
    return {text: (tensors[f"embedding:{text}"], tensors[f"mask:{text}"]) for text in texts}
