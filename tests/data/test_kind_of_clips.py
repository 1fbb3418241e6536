"""A data set of another resolution or frame rate is one clear sentence."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pisa.data.clip_io import write_clip
from pisa.data.manifest import Manifest, write_manifest
from pisa.data.simulated import SimulatedDataModule
from pisa.errors import PisaError
from pisa.types import collate
from tests.tasks.toy import falling_clip


@pytest.fixture
def root(tmp_path):
    for name in ("train", "sim_seen", "sim_unseen"):
        write_clip(tmp_path / name / "clips" / "clip_0", falling_clip(0))
        write_manifest(tmp_path / name, Manifest(("clip_0",)))
    return tmp_path


def module(root, **options) -> SimulatedDataModule:
    made = SimulatedDataModule(root, batch_size=1, **options)
    made.setup("fit")
    return made


def test_what_is_expected_passes(root):
    assert module(root, expect_size=[16, 16], expect_fps_hz=16).train_set is not None
    assert module(root, frame_stride=2, expect_fps_hz=8).train_set is not None


def test_another_resolution(root):
    with pytest.raises(PisaError, match="clips are 16x16, but this run needs 256x256"):
        module(root, expect_size=[256, 256])


def test_another_rate(root):
    with pytest.raises(PisaError, match="clips have 16 frames per second, but this run needs 24"):
        module(root, expect_fps_hz=24)


def test_clips_that_differ_within_a_set():
    clips = [falling_clip(0), falling_clip(1, size=32)]
    with pytest.raises(PisaError, match=r"clip_0 is 6 frames of 16x16 at 16 Hz, clip_1 is .*32x32"):
        collate(clips)
    with pytest.raises(PisaError, match="at 24 Hz"):
        collate([falling_clip(0), replace(falling_clip(1), fps_hz=24.0)])
