"""Generation as a job: kept files, resume, several seeds, ranks, and what a mistake says."""

from __future__ import annotations

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from pisa.data.borders import central_window, content_window, pad_to
from pisa.data.video_files import read_footage
from pisa.errors import PisaError
from pisa.launch import generate as generation
from pisa.launch.compose import compose_eval
from pisa.launch.generate import out_of_memory_hint
from pisa.launch.runs import RankInfo
from pisa.launch.settings import LAWS_OF_PHYSICS, GenerationSettings
from pisa.ops.video import write_lossless
from tests.launch.conftest import CONFIGS, compose, evaluate

TABLE_4 = {  # width, height, frames, fps, guidance, steps, scheduler
    "sora": (720, 720, 150, 30, None, None, None),
    "kling_v1_5": (960, 960, 150, 30, 1.0, None, None),
    "kling_v1": (960, 960, 150, 30, 1.0, None, None),
    "runway_gen3": (1280, 768, 156, 30, None, None, None),
    "cogvideox_5b_i2v": (720, 480, 48, 8, 6.0, 50, "DDIM"),
    "dynamicrafter": (512, 320, 90, 30, 0.7, 50, "DDIM"),
    "pyramid_flow": (1280, 768, 120, 24, 4.0, 10, "EulerDiscrete"),
    "opensora": (512, 512, 90, 30, 7.0, 30, "RFLOW"),
}
FAST = ("generation.num_steps=1", "generation.num_frames=16")


def chosen(name: str) -> list[str]:
    """The overrides that choose a row of Table 4, or a model with settings of its own."""
    for group in ("generation", "model"):
        if (CONFIGS / group / f"{name}.yaml").is_file():
            return [f"{group}={name}"]
    return ["generation=elsewhere", f"elsewhere={name}"]


@pytest.mark.parametrize("name", TABLE_4)
def test_table_4_of_the_paper(name):
    cfg = compose(*chosen(name)).generation
    frames = cfg.get("keep_frames") or cfg.num_frames
    found = (cfg.width, cfg.height, frames, cfg.fps_hz, cfg.guidance, cfg.num_steps, cfg.scheduler)
    assert found == TABLE_4[name]


def test_videos_made_elsewhere_are_scored_at_the_rate_and_under_the_name_of_table_4():
    cfg = compose("source=videos", "generation=elsewhere", "elsewhere=kling_v1")
    assert (cfg.name, cfg.source.fps_hz) == ("Kling-V1", 30)
    plain = compose("source=videos")
    assert (plain.name, plain.source.fps_hz) == ("videos", None)


ADAPTERS = [p.stem for p in (CONFIGS / "model").glob("*.yaml") if "diffusers_i2v" in p.read_text()]


@pytest.mark.parametrize("name", sorted({*ADAPTERS, *TABLE_4, "tiny_64"}))
def test_every_adapter_and_every_row_of_table_4_has_settings(name):
    settings = compose_eval(compose(*chosen(name))).generation
    assert settings.prompt("A ball falls.") in (f"A ball falls. {LAWS_OF_PHYSICS}", "A ball falls.")


@pytest.mark.parametrize("size", sorted({(row[1], row[0]) for row in TABLE_4.values()}))
def test_padding_is_removed_to_the_pixel(size):
    side = min(size)
    picture = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    padded = pad_to(picture, *size)
    window = central_window(*size, 1.0)
    assert padded.shape[:2] == size and np.array_equal(padded[window], picture)
    assert content_window(padded, 1.0) == window
    outside = padded.copy()
    outside[window] = 0
    assert not outside.any()


def test_stored_videos_are_exact_and_have_their_rate(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (90, 21, 33, 3), dtype=np.uint8)
    for fps_hz in (7.0, 8.0, 16.0, 24.0, 30.0):
        write_lossless(tmp_path / "a.mkv", frames, fps_hz)
        footage = read_footage(tmp_path / "a.mkv", (21, 33))
        assert np.array_equal(footage.frames, frames) and footage.fps_hz == fps_hz


def run(bench, out, *overrides):
    evaluate(
        compose("benchmark=sim_seen", "generation=tiny_64", f"data_dir={bench.root}",
                f"output_dir={out}", *FAST,
                "scored_videos.device=cpu", "evaluation.num_clips=2", *overrides)
    )  # fmt: skip


def test_job_resumes_per_clip_and_scores(bench, tmp_path, capsys):
    run(bench, tmp_path, "generation.seeds=[0,1]", "generation.batch_size=3", "generate_only=true")
    videos = sorted((tmp_path / "videos").glob("*.mkv"))
    assert [v.stem for v in videos] == [f"00000{c}_s{s}" for c in (0, 1) for s in (0, 1)]
    record = json.loads(videos[1].with_suffix(".json").read_text())
    assert (record["clip"], record["seed"]) == ("000000", 1)
    assert record["prompt"].endswith(LAWS_OF_PHYSICS) and record["model"]["weights"]
    assert not (tmp_path / "metrics.json").exists()
    before = [v.read_bytes() for v in videos]
    videos[2].unlink()
    stamps = {v: v.stat().st_mtime_ns for v in videos if v.exists()}
    run(bench, tmp_path, "generation.seeds=[0,1]")
    assert "videos: 3 of 4 are there already" in capsys.readouterr().out
    assert all(v.stat().st_mtime_ns == stamp for v, stamp in stamps.items())
    again = read_footage(videos[2], (64, 64)).frames
    videos[2].write_bytes(before[2])  # another batch size rounds differently: one level of 255
    assert np.abs(again.astype(int) - read_footage(videos[2], (64, 64)).frames).max() <= 1
    rows = json.loads((tmp_path / "metrics.json").read_text())["per_clip"]
    assert sum(row["model"] == "tiny" for row in rows) == 4
    with pytest.raises(PisaError, match="holds videos of other settings"):
        run(bench, tmp_path, "generation.guidance=2.0", "overwrite=true")


def test_bad_input_is_one_sentence_and_keeps_finished_clips(bench, tmp_path, monkeypatch):
    with pytest.raises(PisaError, match="64x64 pixels, not 16 of 64x63"):
        run(bench, tmp_path, "generation.height=63")
    with pytest.raises(PisaError, match="no generation settings"):
        generation.required(None)
    real, calls = generation.ClipGenerator.__call__, []

    def fails_later(self, batch, device):
        calls.append(batch)
        if len(calls) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")
        yield from real(self, batch, device)

    monkeypatch.setattr(generation.ClipGenerator, "__call__", fails_later)
    with pytest.raises(PisaError, match=r"out of memory on cpu: .*1 of 2 videos are finished"):
        run(bench, tmp_path)
    assert len(list((tmp_path / "videos").glob("*.mkv"))) == 1


def test_the_next_switch_against_a_full_memory():
    full = torch.OutOfMemoryError("out of memory")
    model = {"vae_tiling": False, "offload": "none"}
    assert out_of_memory_hint(full, model, 2) == "set generation.batch_size=1"
    assert out_of_memory_hint(full, model, 1) == "set model.vae_tiling=true"
    model["vae_tiling"] = True
    assert out_of_memory_hint(full, model, 1) == "set model.offload=model"
    model["offload"] = "model"
    assert out_of_memory_hint(full, model, 1) == "set model.offload=sequential"
    assert out_of_memory_hint(RuntimeError("shapes differ"), model, 1) is None


def test_ranks_share_the_samples():
    samples = list(range(7))
    shares = [RankInfo(rank, 3, rank).share(samples) for rank in range(3)]
    assert sorted(i for share in shares for i in share) == samples
    assert max(map(len, shares)) == 3


def test_settings_are_checked():
    with pytest.raises(PisaError, match="seeds"):
        GenerationSettings("x", 8, 8, 4, 8.0, seeds=(0, 0))


def test_upload_writes_prompts_and_padded_frames(bench, tmp_path):
    evaluate(
        compose("source=upload", "generation=elsewhere", "elsewhere=runway_gen3",
                "benchmark=sim_seen",
                f"data_dir={bench.root}", f"output_dir={tmp_path}", "generation.seeds=[0,1]")
    )  # fmt: skip
    with (tmp_path / "prompts.csv").open() as stream:
        lines = list(csv.DictReader(stream))
    assert [line["save_as"] for line in lines][:3] == [
        "000000_s0.mp4",
        "000000_s1.mp4",
        "000001_s0.mp4",
    ]
    assert (lines[0]["width"], lines[0]["height"], lines[0]["fps"]) == ("1280", "768", "30")
    first = np.asarray(Image.open(tmp_path / lines[0]["first_frame"]))
    assert first.shape == (768, 1280, 3)
    assert content_window(first, 1.0) == (slice(0, 768), slice(256, 1024))


@pytest.mark.slow  # two processes that import everything
def test_torchrun_makes_every_sample_once(bench, tmp_path):
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "eval.py",
        "benchmark=sim_seen", "generation=tiny_64", f"data_dir={bench.root}",
        f"output_dir={tmp_path}", *FAST,
        "scored_videos.device=cpu", "generation.seeds=[0,1]",
    ]  # fmt: skip
    subprocess.run(command, cwd=CONFIGS.parent, check=True, timeout=280)
    assert len(list((tmp_path / "videos").glob("*.mkv"))) == 6
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert sum(row["model"] == "tiny" for row in metrics["per_clip"]) == 6
    assert metrics["extra_videos"] == []
