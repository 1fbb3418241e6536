"""The benchmark at a model's size, and back through the border removal."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pisa.__main__ import main
from pisa.data.borders import content_window
from pisa.data.clip_io import read_clip
from pisa.data.convert import convert_clip, place
from pisa.data.image_files import read_image
from pisa.errors import PisaError
from tests.data.conftest import make_clip, make_data_set

SIZE = 32


def make_real(folder: Path, masks: bool = True) -> Path:
    folder.mkdir(parents=True)
    picture = np.full((SIZE, SIZE, 3), 120, dtype=np.uint8)
    mask = np.zeros((3, 1, SIZE, SIZE), dtype=np.uint8)
    for t in range(3):
        frame = picture.copy()
        frame[8 + t : 16 + t, 12:20] = 250
        mask[t, 0, 8 + t : 16 + t, 12:20] = 1
        Image.fromarray(frame).save(folder / f"{t:05d}.jpg", quality=95)
    info = {"points": [{"positive": [[15.5, 11.5]], "negative": [[2, 2]]}], "caption": "a box"}
    (folder / "clip_info.json").write_text(json.dumps(info))
    if masks:
        np.savez(folder / "mask.npz", mask=mask)
    return folder


@pytest.mark.parametrize(("size", "pad"), [((64, 64), False), ((16, 48), False), ((64, 96), True)])
def test_points_stay_on_their_object(tmp_path: Path, size: tuple[int, int], pad: bool) -> None:
    source = make_real(tmp_path / "real" / "0000")
    convert_clip(source, tmp_path / "out" / "0000", size, pad)
    clip = read_clip(tmp_path / "out" / "0000")
    assert tuple(clip.video.shape[2:]) == size and clip.caption == "a box"
    info = json.loads((tmp_path / "out" / "0000" / "clip_info.json").read_text())
    ((x, y),) = info["points"][0]["positive"]
    mask = clip.masks[0, 0].numpy()
    assert mask[round(y), round(x)]
    rows, columns = np.nonzero(mask)
    assert (columns.mean(), rows.mean()) == pytest.approx((x, y), abs=0.51)
    ((x, y),) = info["points"][0]["negative"]
    assert not mask[round(y), round(x)]
    first = np.asarray(Image.open(tmp_path / "out" / "0000" / "00000.jpg"))
    assert first[mask].min() > 180


def test_padding_is_what_the_border_removal_takes_off(tmp_path: Path) -> None:
    source = make_real(tmp_path / "0000")
    frame = read_image(source / "00000.jpg", 10**6)
    placement = place((SIZE, SIZE), (72, 128), pad=True)
    assert (placement.inner, placement.top, placement.left) == ((72, 72), 0, 28)
    window = content_window(placement.frame(frame), aspect=1.0)
    assert window == (slice(0, 72), slice(28, 100))


def test_the_camera_sees_the_same_scene(tmp_path: Path) -> None:
    make_data_set(tmp_path / "sim", 1)
    convert_clip(tmp_path / "sim" / "clips" / "0000", tmp_path / "wide", (32, 64), pad=True)
    camera = read_clip(tmp_path / "wide").camera
    original = make_clip().camera
    assert camera is not None and original is not None
    assert camera.focal_px == pytest.approx(2 * original.focal_px)  # the picture is twice as large


def test_clips_without_masks_convert_too(tmp_path: Path) -> None:
    make_real(tmp_path / "0000", masks=False)
    convert_clip(tmp_path / "0000", tmp_path / "small", (16, 16))
    assert sorted(p.name for p in (tmp_path / "small").iterdir()) == [
        "00000.jpg",
        "00001.jpg",
        "00002.jpg",
        "clip_info.json",
    ]


def test_a_broken_clip_leaves_nothing_behind(tmp_path: Path) -> None:
    source = make_real(tmp_path / "0000")
    (source / "00001.jpg").write_bytes(b"nonsense")
    with pytest.raises(PisaError, match=r"00001\.jpg"):
        convert_clip(source, tmp_path / "out" / "0000", (16, 16))
    assert not list((tmp_path / "out").iterdir())


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    make_real(tmp_path / "real" / "0000")
    arguments = [str(tmp_path / "real"), str(tmp_path / "out"), "--size", "16", "16"]
    assert main(["convert", *arguments]) == 0 and main(["convert", *arguments]) == 0
    arguments[0] = str(tmp_path / "nothing")
    assert main(["convert", *arguments]) == 2
    assert capsys.readouterr().err.startswith("error: ")
