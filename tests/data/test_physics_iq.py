"""A folder laid out as Physics-IQ's, with made-up videos, becomes mask pairs that can be scored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pisa.__main__ import main
from pisa.data.mask_pairs import BrokenLine, load_pair, read_pairs
from pisa.errors import PisaError
from pisa.metrics import evaluate_pair
from pisa.ops.video import write_mp4

NUM_FRAMES, HEIGHT, WIDTH = 20, 64, 96
NAME = "{id:04d}_video-masks_{fps}FPS_perspective-{view}_take-{take}_trimmed-{scene}.mp4"


def moving(shift_px: int, height: int = HEIGHT, width: int = WIDTH, scene: int = 0) -> np.ndarray:
    """A white square that falls on black, nothing in frame 0 and none once it rests."""
    masks = np.zeros((NUM_FRAMES, height, width), dtype=bool)
    for t in range(1, NUM_FRAMES - 5):
        top, left = round(t * height / 24), (16 + shift_px + 8 * scene) * width // WIDTH
        masks[t, top : top + height // 4, left : left + width // 4] = True
    return masks


def write(folder: Path, masks: np.ndarray, fps: int = 8, **words: object) -> None:
    frames = np.repeat(masks[..., None], 3, axis=-1).astype(np.uint8) * 255
    write_mp4(folder / NAME.format(fps=fps, **words), frames, fps)


@pytest.fixture
def benchmark(tmp_path: Path) -> Path:
    """Two scenes in two takes, and a model's videos of half their size."""
    real, generated = tmp_path / "real" / "8FPS", tmp_path / "generated" / "model" / "8FPS"
    for scene, word in enumerate(("ball-falls", "duck_and-cup")):
        for take in (1, 2):
            words = {"id": 1 + scene + 2 * (take - 1), "view": "left", "take": take, "scene": word}
            write(real, moving(8 * (take - 1), scene=scene), **words)
        small = moving(16, HEIGHT // 2, WIDTH // 2, scene)
        write(generated, small, id=1 + scene, view="left", take=1, scene=word)
    return tmp_path


def convert(root: Path) -> int:
    folders = (root / "real" / "8FPS", root / "generated" / "model" / "8FPS", root / "out")
    return main(["physics-iq", *map(str, folders)])


def scores(manifest: Path) -> list[float]:
    found = []
    for pair in read_pairs(manifest):
        assert not isinstance(pair, BrokenLine) and pair.gt_fps_hz == pair.pd_fps_hz == 8
        true, other, points = load_pair(pair)
        assert true.shape == other.shape == (NUM_FRAMES, 1, HEIGHT // 4, WIDTH // 4)
        assert points is None
        found.append(evaluate_pair(true, other, 8, 8, protocol="official")["iou"])
    return found


def spatiotemporal_iou(first: np.ndarray, second: np.ndarray) -> float:
    """As the benchmark defines it: a mean over frames, 1 where both masks are empty."""
    both, either = (first & second).sum(axis=(1, 2)), (first | second).sum(axis=(1, 2))
    return float(np.where(either == 0, 1.0, both / np.maximum(either, 1)).mean())


def test_official_iou_is_the_benchmarks_own(benchmark: Path, capsys) -> None:
    assert convert(benchmark) == 0
    assert "pairs.jsonl: 2 pairs" in capsys.readouterr().out
    own = [spatiotemporal_iou(moving(0, scene=s), moving(16, scene=s)) for s in (0, 1)]
    assert scores(benchmark / "out" / "pairs.jsonl") == pytest.approx(own, abs=0.02)
    takes = [spatiotemporal_iou(moving(0, scene=s), moving(8, scene=s)) for s in (0, 1)]
    assert scores(benchmark / "out" / "takes.jsonl") == pytest.approx(takes, abs=0.02)
    assert 0.3 < own[0] < takes[0] < 0.9


def test_only_the_first_five_seconds_count(benchmark: Path) -> None:
    long = np.concatenate([moving(0)] * 3)  # 60 frames of 8 Hz
    write(benchmark / "real" / "8FPS", long, id=1, view="left", take=1, scene="ball-falls")
    assert convert(benchmark) == 0
    pair = read_pairs(benchmark / "out" / "pairs.jsonl")[0]
    assert not isinstance(pair, BrokenLine) and len(load_pair(pair)[0]) == 40


def test_a_missing_video_is_a_pair_that_fails(benchmark: Path) -> None:
    next((benchmark / "generated" / "model" / "8FPS").glob("0002*")).unlink()
    assert convert(benchmark) == 0
    first, second = read_pairs(benchmark / "out" / "pairs.jsonl")
    assert not isinstance(first, BrokenLine) and load_pair(first)[1].any()
    assert not isinstance(second, BrokenLine)
    with pytest.raises(PisaError, match="trimmed-duck_and-cup"):
        load_pair(second)


def test_other_folders_are_refused(benchmark: Path, capsys) -> None:
    write(
        benchmark / "generated" / "model" / "8FPS", moving(0), id=9, view="left", take=1, scene="x"
    )
    assert convert(benchmark) == 2
    assert "has no masks of perspective-left_take-1_trimmed-x (1" in capsys.readouterr().err
    assert main(["physics-iq", str(benchmark), str(benchmark), str(benchmark / "out")]) == 2
    assert "holds no ID_video-masks_30FPS_VIEW_take-1_SCENE.mp4" in capsys.readouterr().err
