"""A benchmark of squares that fall, and videos of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import hydra
import numpy as np
import pytest
import torch
from omegaconf import DictConfig
from PIL import Image

from pisa.data.clip_io import write_clip
from pisa.data.manifest import Manifest, write_manifest
from pisa.launch import evaluate as scoring
from pisa.launch.compose import compose_eval, compose_train
from pisa.ops.video import from_frames, write_mp4
from pisa.types import Clip

CONFIGS = Path(__file__).parents[2] / "configs"
SIZE, FRAMES = 64, 12
CLIPS = ("000000", "000001", "000002")


def compose(*overrides: str, name: str = "eval") -> DictConfig:
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return hydra.compose(name, list(overrides))


def evaluate(cfg: DictConfig) -> None:
    """Everything that eval.py does with a configuration."""
    scoring.evaluate(compose_eval(cfg))


def stage_folder(cfg: DictConfig, stage: str) -> Path:
    """Where a stage of train.py's configuration is trained."""
    return next(run.folder for run in compose_train(cfg).stages if run.stage == stage)


def falling(which: int, num_frames: int = FRAMES) -> tuple[np.ndarray, np.ndarray]:
    """Frames ``[T, H, W, 3]`` and masks ``[T, 2, H, W]``: a block at rest, a square that falls."""
    frames = np.full((num_frames, SIZE, SIZE, 3), (70, 80, 90), dtype=np.uint8)
    masks = np.zeros((num_frames, 2, SIZE, SIZE), dtype=bool)
    for t in range(num_frames):
        top = 6 + min(36, round(0.45 * t * t))
        masks[t, 0, 54:64, 4:16] = True
        masks[t, 1, top : top + 12, 20 + 6 * which : 32 + 6 * which] = True
    frames[masks[:, 0]] = (40, 160, 60)
    frames[masks[:, 1]] = (230, 60, 40)
    return frames, masks


@dataclass(frozen=True)
class Bench:
    """``root`` is a data_dir with the sets sim_seen and real, three clips each."""

    root: Path

    def overrides(self, output: Path) -> tuple[str, ...]:
        return f"data_dir={self.root}", f"output_dir={output}", "source.device=cpu"


@pytest.fixture(autouse=True)
def own_code_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trackers and models that the tests define (see ``pisa.launch.targets``)."""
    monkeypatch.setenv("PISA_PLUGINS", "tests,broken_reward")


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    root = tmp_path_factory.mktemp("bench")
    name = compose_eval(compose(f"data_dir={root}")).sets.folder_name("sim_seen")
    for which, clip in enumerate(CLIPS):
        frames, masks = falling(which)
        written = Clip(
            name=clip,
            video=from_frames(frames),
            masks=torch.from_numpy(np.moveaxis(masks, 1, 0).copy()),
            fps_hz=16.0,
            drop_height_m=1.0,
        )
        write_clip(root / name / "clips" / clip, written)
        write_real(root / "real" / clip, which)
    write_manifest(root / name, Manifest(CLIPS))
    return Bench(root)


def write_real(folder: Path, which: int, masks: bool = True) -> None:
    """As the release's real clips: 120 Hz, points, the dropping object first."""
    frames, truth = falling(which, 48)
    folder.mkdir(parents=True)
    for t, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{t:05d}.jpg", quality=95)
    x = 26 + 6 * which
    points = [{"positive": [[x, 11]], "negative": []}, {"positive": [[9, 59]], "negative": []}]
    (folder / "clip_info.json").write_text(json.dumps({"points": points}))
    if masks:
        np.savez_compressed(folder / "mask.npz", mask=truth[:, ::-1])


def write_videos(folder: Path, suffix: str = "") -> Path:
    """The three clips themselves: an mp4, one with black borders, and a folder of frames."""
    folder.mkdir(exist_ok=True, parents=True)
    write_mp4(folder / f"{CLIPS[0]}{suffix}.mp4", falling(0)[0], 16)
    bars = [(0, 0), (0, 0), (30, 30), (0, 0)]
    write_mp4(folder / f"{CLIPS[1]}{suffix}.mp4", np.pad(falling(1)[0], bars), 16)
    frames = folder / f"{CLIPS[2]}{suffix}"
    frames.mkdir()
    for t, frame in enumerate(falling(2)[0]):
        Image.fromarray(frame).save(frames / f"{t:03d}.png")
    (frames / "clip_info.json").write_text(json.dumps({"fps": 16}))
    return folder
