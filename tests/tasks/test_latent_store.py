"""Latents on disk: named by content and codec, whole, recomputed where damaged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pisa.errors import PisaError
from pisa.io.weights import module_sha256
from pisa.tasks.latents import LatentEncoder, LatentStore
from pisa.tasks.psft import PSFT
from tests.processes import processes
from tests.tasks.test_psft import fit
from tests.tasks.toy import ToyVideoModel, falling_batch, toy_model


class Fingerprinted(ToyVideoModel):
    """The toy codec, with noise where ``sample_posterior``."""

    sample_posterior = False

    def codec_fingerprint(self) -> str:
        return module_sha256(torch.nn.ParameterList([self.colour]), self.sample_posterior)

    def encode(self, video):
        latents = super().encode(video)
        return latents + torch.randn_like(latents) if self.sample_posterior else latents


def encoder(folder: Path, model=None, first_frame="clip") -> LatentEncoder:
    return LatentEncoder(model or Fingerprinted(), first_frame, cache=False, folder=folder)


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.safetensors"))


def test_a_second_run_encodes_nothing_and_finds_the_same_bits(tmp_path):
    batch, model = falling_batch(3), Fingerprinted()
    first = encoder(tmp_path, model)(batch)
    assert torch.equal(first, model.encode(batch.video))
    assert len(files(tmp_path)) == 3
    again = Fingerprinted()
    renamed = replace(batch, names=("x", "y", "z"))  # names do not matter, contents do
    assert torch.equal(encoder(tmp_path, again)(renamed), first)
    assert again.num_encoded == 0


def test_an_interrupted_run_is_continued(tmp_path):
    encoder(tmp_path)(falling_batch(2))
    model = Fingerprinted()
    encoder(tmp_path, model)(falling_batch(5))
    assert model.num_encoded == 3


def test_other_clips_codecs_and_settings_have_other_files(tmp_path):
    batch = falling_batch(1)
    encoder(tmp_path)(batch)
    encoder(tmp_path)(replace(batch, video=batch.video.flip(-1)))
    other = Fingerprinted()
    other.colour.data = 2 * other.colour.data
    assert torch.equal(encoder(tmp_path, other)(batch), other.encode(batch.video))
    encoder(tmp_path, first_frame="alone")(batch)
    assert len(files(tmp_path)) == 4
    late = batch.video.clone()
    late[0, 0, -1, 0, 0] = 1.0  # one pixel of the last frame
    encoder(tmp_path)(replace(batch, video=late))
    assert len(files(tmp_path)) == 5


@pytest.mark.parametrize("damage", ["empty", "cut", "bit"])
def test_a_damaged_file_is_recomputed_and_mended(tmp_path, damage):
    batch = falling_batch(1)
    expected = encoder(tmp_path)(batch)
    (path,) = files(tmp_path)
    whole = path.read_bytes()
    flipped = whole[:-1] + bytes([whole[-1] ^ 1])
    path.write_bytes({"empty": b"", "cut": whole[:-7], "bit": flipped}[damage])
    model = Fingerprinted()
    assert torch.equal(encoder(tmp_path, model)(batch), expected)
    assert model.num_encoded == 1
    assert path.read_bytes() == whole


def test_posterior_samples_are_drawn_once_per_clip_and_whatever_the_batch(tmp_path):
    model = Fingerprinted()
    model.sample_posterior = True
    batch = falling_batch(3)
    together = encoder(tmp_path / "a", model)(batch)
    alone = encoder(tmp_path / "b", model)(falling_batch(1, start=2))
    assert torch.equal(together[2], alone[0])
    assert not torch.equal(together, Fingerprinted().encode(batch.video))
    drawn = LatentEncoder(model, "clip", cache=False)
    assert not torch.equal(drawn(batch, ("step", 1)), drawn(batch, ("step", 2)))
    assert torch.equal(drawn(batch, ("step", 1)), drawn(batch, ("step", 1)))
    assert torch.equal(drawn(batch, ("s",))[1:], drawn(falling_batch(2, start=1), ("s",), 1))


def _write(folder: Path, value: float) -> None:
    store = LatentStore(folder, "codec")
    for _ in range(200):
        store.put("ab" + 62 * "0", torch.full((3, 6, 4, 4), value))


def test_ranks_that_write_one_latent_at_once_leave_it_whole(tmp_path):
    writers = [processes.Process(target=_write, args=(tmp_path, float(i))) for i in range(2)]
    for writer in writers:
        writer.start()
    store, seen = LatentStore(tmp_path, "codec"), 0
    while any(writer.is_alive() for writer in writers):
        latent = store.get("ab" + 62 * "0")
        if latent is not None:
            seen += 1
            assert latent.unique().numel() == 1
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert seen > 0 or store.get("ab" + 62 * "0") is not None
    assert [p.name for p in tmp_path.rglob("*") if p.suffix == ".part"] == []


def test_a_full_disk_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PisaError, match="cannot write"):
        encoder(tmp_path / "file")(falling_batch(1))


def test_psft_trains_the_same_with_and_without_the_store(tmp_path):
    weights = []
    for options in ({}, {"latent_cache_dir": tmp_path}, {"latent_cache_dir": tmp_path}):
        model = Fingerprinted()
        model.load_state_dict(toy_model().state_dict())
        fit(PSFT(model, lr=1e-2, **options), 6, num_clips=3)
        weights.append(model.denoiser.enter.weight.detach().clone())
    assert model.num_encoded == 0
    torch.testing.assert_close(weights[1], weights[0])
    assert torch.equal(weights[2], weights[1])


def test_a_model_that_cannot_name_its_codec_is_refused(tmp_path):
    with pytest.raises(PisaError, match="codec_fingerprint"):
        encoder(tmp_path, toy_model())(falling_batch(1))
