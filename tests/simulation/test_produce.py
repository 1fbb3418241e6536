"""Data sets in parallel: complete, resumable, and named after their contents."""

from dataclasses import replace
from pathlib import Path

import pytest

from pisa.data.clip_io import read_clip, write_clip
from pisa.errors import PisaError
from pisa.simulation.fast import FastSimulator
from pisa.simulation.produce import DataSetSpec, produce
from pisa.simulation.scene import Prior

PRIOR = Prior(num_dropping=(1, 1), num_pile=(0, 0), size_m=None, span_px=(9.0, 20.0))
SPEC = DataSetSpec(FastSimulator(PRIOR, num_frames=4), "train", 3, 10)


def test_a_data_set_resumes_with_the_clips_that_are_missing(tmp_path: Path):
    made = list(produce(SPEC, tmp_path, write_clip, num_workers=1))
    assert sorted(made) == ["000000", "000001", "000002"]
    (tmp_path / "000001").rename(tmp_path.parent / "elsewhere")
    assert list(produce(SPEC, tmp_path, write_clip, num_workers=1)) == ["000001"]
    again = (tmp_path / "000001" / "rgba_00003.jpg").read_bytes()
    assert again == (tmp_path.parent / "elsewhere" / "rgba_00003.jpg").read_bytes()
    assert read_clip(tmp_path / "000001").video.shape == (3, 4, 64, 64)
    assert list(produce(SPEC, tmp_path, write_clip, num_workers=1)) == []


def test_workers_make_the_same_clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    here, there = tmp_path / "here", tmp_path / "there"
    list(produce(SPEC, here, write_clip, num_workers=2))
    monkeypatch.setattr(FastSimulator, "min_clips_for_workers", 1)
    assert sorted(produce(SPEC, there, write_clip, num_workers=2)) == ["000000", "000001", "000002"]
    files = [path.relative_to(here) for path in here.rglob("*") if path.is_file()]
    assert len(files) > 3
    assert all((here / file).read_bytes() == (there / file).read_bytes() for file in files)


def test_the_digest_changes_with_every_setting():
    others = [
        replace(SPEC, num_clips=4),
        replace(SPEC, first_seed=11),
        replace(SPEC, split="test"),
        replace(SPEC, simulator=FastSimulator(replace(PRIOR, region_m=1.9), num_frames=4)),
    ]
    digests = {SPEC.digest(), *(other.digest() for other in others)}
    assert len(digests) == 5


def test_zero_workers_are_refused(tmp_path: Path):
    with pytest.raises(PisaError, match="num_workers"):
        list(produce(SPEC, tmp_path, write_clip, num_workers=0))
