"""Masks in the formats of other tools: round trips, what others write, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hydra.core.global_hydra import GlobalHydra
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from sam2.utils.amg import mask_to_rle_pytorch
from torch import from_numpy

from pisa.__main__ import main
from pisa.data.mask_coding import (
    fill_polygon,
    from_coco_text,
    from_run_lengths,
    run_lengths,
    to_coco_text,
)
from pisa.data.mask_convert import FORMATS, read_mask_video
from pisa.data.mask_video import MaskVideo, read_npz, write_npz
from pisa.errors import PisaError
from tests.data.conftest import NUM_FRAMES, SIZE, make_data_set

GlobalHydra.instance().clear()  # importing sam2 starts it

HEIGHT, WIDTH = 24, 40


def make_video() -> MaskVideo:
    """An object with a hole at the corner, one that appears late, one that is never seen."""
    masks = np.zeros((4, 3, HEIGHT, WIDTH), dtype=bool)
    for t in range(4):
        masks[t, 0, t : 8 + t, : 9 + t] = True
        masks[t, 0, 2 + t : 4 + t, 2:4] = False
    masks[2:, 1, 20:, 30:] = True
    masks[1, 0] = False
    times_s = (0.0, 1 / 24, 1 / 3, 0.4)
    return MaskVideo(masks, (0, 5, 40, 48), ("ball", "cup", "unseen"), times_s, "clip_7")


def convert(*arguments: object) -> int:
    return main(["masks", "convert", *(str(argument) for argument in arguments)])


def written(name: str, video: MaskVideo, folder: Path) -> Path:
    path = folder / f"out{FORMATS[name][1]}"
    FORMATS[name][0](video, path)
    return path


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("timed", [True, False])
def test_round_trip(name: str, timed: bool, tmp_path: Path) -> None:
    video = make_video() if timed else replace(make_video(), times_s=None)
    found = read_mask_video(written(name, video, tmp_path))
    assert np.array_equal(found.masks, video.masks)
    assert (found.frames, found.objects) == (video.frames, video.objects)
    assert found.times_s == video.times_s
    assert found.name == ("out" if name in ("npz", "davis") else "clip_7")


@pytest.mark.parametrize("name", FORMATS)
def test_the_command_chains_formats(name: str, tmp_path: Path, capsys) -> None:
    """npz to the format and back, by way of the command line."""
    write_npz(replace(make_video(), times_s=None), tmp_path / "in.npz")
    out = tmp_path / f"x{FORMATS[name][1]}"
    assert convert(tmp_path / "in.npz", out, "--format", name, "--fps", 120) == 0
    assert "3 objects in 4 frames of 40x24 px, numbered 0 to 48" in capsys.readouterr().out
    assert convert(out, tmp_path / "back.npz", "--format", "npz") == 0
    back = read_npz(tmp_path / "back.npz")
    assert np.array_equal(back.masks, make_video().masks)
    assert back.times_s == (0.0, 5 / 120, 40 / 120, 48 / 120)


def test_masks_go_out_of_a_clip_and_come_back(tmp_path: Path) -> None:
    clip = make_data_set(tmp_path / "set", 1) / "clips" / "0000"
    assert convert(clip, tmp_path / "a.json", "--format", "coco") == 0
    video = json.loads((tmp_path / "a.json").read_text())["videos"][0]
    assert video["frame_numbers"] == list(range(NUM_FRAMES))
    assert video["times_s"] == [n / 16 for n in range(NUM_FRAMES)]
    assert video["name"] == "0000" and video["file_names"][3] == "0000/00003.jpg"
    before = read_npz(clip)
    (clip / "mask.npz").unlink()
    assert convert(tmp_path / "a.json", clip, "--format", "npz") == 0
    assert np.array_equal(read_npz(clip).masks, before.masks)


@given(arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_run_lengths_are_those_of_coco(mask: np.ndarray) -> None:
    """The same as SAM 2's own encoder; and COCO's text of them is reversible."""
    runs = run_lengths(mask.ravel(order="F"))
    assert runs == mask_to_rle_pytorch(from_numpy(mask)[None])[0]["counts"]
    assert np.array_equal(from_run_lengths(runs, mask.size), mask.ravel(order="F"))
    assert from_coco_text(to_coco_text(runs)) == runs


@pytest.mark.parametrize(
    ("runs", "text"),
    [
        ([5, 2, 2, 2, 5], "52203"),  # pycocotools: the fifth is stored as 5 - 2
        ([0, 16], "0`0"),  # 16 needs a second character, else it would be -16
        ([1000, 3, 4, 900], "Xo0" + "34" + "Ql0"),  # by hand; the fourth is stored as 900 - 3
    ],
)
def test_text_of_run_lengths(runs: list[int], text: str) -> None:
    assert from_coco_text(to_coco_text(runs)) == runs
    assert to_coco_text(runs) == text


def test_a_polygon_covers_the_pixels_whose_centres_it_holds() -> None:
    square = fill_polygon(np.array([(1, 2), (5, 2), (5, 6), (1, 6)], dtype=float), 8, 8)
    expected = np.zeros((8, 8), dtype=bool)
    expected[2:6, 1:5] = True
    assert np.array_equal(square, expected)
    angles = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    disk = fill_polygon(
        np.stack([20 + 15.2 * np.cos(angles), 18 + 15.2 * np.sin(angles)], 1), 40, 30
    )
    rows, columns = np.mgrid[0:40, 0:30] + 0.5
    inside = np.hypot(columns - 20, rows - 18) < 15.2
    assert (disk ^ inside).sum() <= 2 and disk.sum() > 500  # cut at the right edge


def test_uncompressed_run_lengths_and_polygons_of_coco(tmp_path: Path) -> None:
    """As YouTube-VIS has them: lists of counts, frame numbers in the names of files."""
    document = {
        "videos": [
            {"id": 3, "width": 4, "height": 3, "file_names": ["a9/00000.jpg", "a9/00005.jpg"]}
        ],
        "categories": [{"id": 8, "name": "ball"}],
        "annotations": [
            {
                "id": 1,
                "video_id": 3,
                "category_id": 8,
                "segmentations": [None, {"size": [3, 4], "counts": [3, 2, 7]}],
            },
            {
                "id": 2,
                "video_id": 3,
                "category_id": 8,
                "segmentations": [[[1, 0, 3, 0, 3, 2, 1, 2]], None],
            },
        ],
    }
    path = tmp_path / "vis.json"
    path.write_text(json.dumps(document))
    found = read_mask_video(path)
    assert (found.frames, found.objects, found.name) == ((0, 5), ("ball", "ball"), "a9")
    assert found.masks[1, 0].nonzero()[0].tolist() == [0, 1]  # column 1, rows 0 and 1
    assert not found.masks[0, 0].any() and not found.masks[1, 1].any()
    assert found.masks[0, 1].sum() == 4 and found.masks[0, 1, :2, 1:3].all()


CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version>
<meta><task><name>fall</name><size>3</size><start_frame>10</start_frame>
<frame_filter>step=5</frame_filter>
<original_size><width>6</width><height>4</height></original_size></task></meta>
{tracks}</annotations>"""
MASK = (
    '<track id="{i}" label="{label}"{group}><mask frame="{frame}" outside="0" rle="1, 2, 1" '
    'left="1" top="2" width="2" height="2"/><mask frame="99" outside="1" rle="1, 2, 1" left="1" '
    'top="2" width="2" height="2"/></track>'
)


def cvat(folder: Path, *tracks: str) -> Path:
    path = folder / "annotations.xml"
    path.write_text(CVAT.format(tracks="".join(tracks)))
    return path


def test_an_export_of_cvat(tmp_path: Path) -> None:
    """A polygon track is an object; masks, a track per frame, are put together by label."""
    polygon = (
        '<track id="0" label="box"><polygon frame="10" outside="0" points="0,0;2,0;2,3;0,3"/>'
        '<polygon frame="15" outside="0" points="1.00,0.00;3.00,0.00;3.00,3.00;1.00,3.00"/>'
        '<polygon frame="20" outside="1" points="0,0;2,0;2,3;0,3"/></track>'
    )
    masks = [MASK.format(i=i, label="ball", frame=f, group="") for i, f in ((1, 15), (2, 20))]
    found = read_mask_video(cvat(tmp_path, polygon, *masks))
    assert (found.frames, found.objects, found.name) == ((10, 15, 20), ("box", "ball"), "fall")
    assert found.times_s is None  # CVAT has none
    assert found.masks.sum(axis=(2, 3)).tolist() == [[6, 0], [6, 2], [0, 2]]
    assert found.masks[1, 0, :3, 1:3].all() and found.masks[1, 1, 2, 2] and found.masks[1, 1, 3, 1]


def test_what_cvat_gets_is_a_track_per_mask(tmp_path: Path) -> None:
    text = written("cvat", make_video(), tmp_path).read_text()
    assert text.count("<track") == text.count('outside="0"') == 5
    assert text.count('outside="1"') == 3  # the last frame needs no end
    assert "<width>40</width>" in text and "<size>49</size>" in text


def test_palette_pictures_of_others(tmp_path: Path) -> None:
    """DAVIS 2017 without our text, with unknown pixels; DAVIS 2016 in black and white."""
    values = np.zeros((3, 5), dtype=np.uint8)
    values[0], values[1, 2:], values[2, 4] = 2, 1, 255
    picture = Image.fromarray(values, mode="P")
    picture.putpalette([0] * 768)
    picture.save(tmp_path / "00004.png")
    Image.fromarray(np.zeros((3, 5), dtype=np.uint8)).save(tmp_path / "00002.png")
    found = read_mask_video(tmp_path)
    assert found.frames == (2, 4) and found.objects == ("object_1", "object_2")
    assert found.masks.sum(axis=(2, 3)).tolist() == [[0, 0], [3, 5]]
    (tmp_path / "old").mkdir()
    Image.fromarray((values == 1).astype(np.uint8) * 255).save(tmp_path / "old" / "00000.png")
    assert read_mask_video(tmp_path / "old").masks.sum() == 3


def overlapping(video: MaskVideo) -> MaskVideo:
    masks = video.masks.copy()
    masks[3, 1] = True
    return replace(video, masks=masks)


@pytest.mark.parametrize("name", ["davis", "youtube_vos"])
def test_overlapping_objects_fit_into_no_palette(name: str, tmp_path: Path) -> None:
    with pytest.raises(PisaError, match=r"overlap in frame 48.*--format coco"):
        written(name, overlapping(make_video()), tmp_path)
    assert not (tmp_path / "out").exists()
    for other in ("coco", "cvat", "npz"):
        assert (
            read_mask_video(written(other, overlapping(make_video()), tmp_path)).masks[3, 1].all()
        )


def coco_with(change: Callable[[dict], object]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = written("coco", make_video(), folder)
        document = json.loads(path.read_text())
        change(document)
        path.write_text(json.dumps(document))
        return path

    return make


def vos_with(change: Callable[[Path], object]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = written("youtube_vos", make_video(), folder)
        change(path)
        return path

    return make


def small_picture(folder: Path) -> None:
    pictures = folder / "Annotations" / "clip_7"
    Image.fromarray(np.zeros((5, 5), dtype=np.uint8)).save(pictures / "00040.png")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (coco_with(lambda d: d["videos"][0].update(height=12)), "a mask is 40x24 px.*40x12"),
        (coco_with(lambda d: d["annotations"][0]["segmentations"].pop()), "3 frames.*has 4"),
        (coco_with(lambda d: d["videos"].append(dict(d["videos"][0], name="b"))), "--video.*b"),
        (coco_with(lambda d: d.pop("categories")), "'categories' is missing"),
        (coco_with(lambda d: d["annotations"].clear()), "holds no masks"),
        (
            coco_with(lambda d: d["annotations"][0]["segmentations"][0].update(counts="5")),
            "add up to 5 px, not 960",
        ),
        (coco_with(lambda d: d["videos"][0].update(width=10**9)), "GiB of masks"),
        (vos_with(small_picture), r"00040\.png: is 5x5 px, 00000\.png 40x24"),
        (
            vos_with(lambda f: (f / "meta.json").write_text('{"videos": {"../x": {}}}')),
            r"\.\./x",
        ),
        (
            lambda f: cvat(f, '<track id="4" label="a"><box frame="10"/></track>'),
            "track 4 is a box",
        ),
        (
            lambda f: cvat(
                f, '<track id="4" label="a"><polygon frame="10" points="0,0;1e999,1"/></track>'
            ),
            "points at infinity",
        ),
        (
            lambda f: cvat(f, *[MASK.format(i=i, label="a", frame=10, group="") for i in (0, 1)]),
            "'a' has two masks in frame 10",
        ),
        (
            lambda f: cvat(
                f, MASK.format(i=0, label="a", frame=10, group="").replace('1" t', '5" t')
            ),
            "frame 10 reaches outside of 6x4 px",
        ),
    ],
)
def test_faults_are_one_sentence(make: Callable[[Path], Path], says: str, tmp_path: Path) -> None:
    with pytest.raises(PisaError, match=says):
        read_mask_video(make(tmp_path))


def test_an_absurd_number_of_frames_is_refused(tmp_path: Path) -> None:
    path = cvat(tmp_path, MASK.format(i=0, label="a", frame=10, group=""))
    path.write_text(path.read_text().replace("<size>3<", "<size>999999999999<"))
    with pytest.raises(PisaError, match="999999999999 frames"):
        read_mask_video(path)


def test_an_xml_with_entities_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_text('<!DOCTYPE a [<!ENTITY b "bbbb">]><annotations>&b;</annotations>')
    with pytest.raises(PisaError, match="document type"):
        read_mask_video(path)


def test_masks_that_do_not_fit_a_clip_are_refused(tmp_path: Path, capsys) -> None:
    clip = make_data_set(tmp_path / "set", 1) / "clips" / "0000"
    before = (clip / "mask.npz").read_bytes()
    write_npz(make_video(), tmp_path / "a.npz")
    assert convert(tmp_path / "a.npz", clip, "--format", "npz") == 2
    assert "its frames are 16x16 px, the masks 40x24" in capsys.readouterr().err
    masks = np.ones((2, 1, SIZE, SIZE), dtype=bool)
    write_npz(MaskVideo(masks, (0, 3), ("ball",)), tmp_path / "b.npz")
    assert convert(tmp_path / "b.npz", clip, "--format", "npz") == 2
    assert "needs masks of all frames" in capsys.readouterr().err
    assert (clip / "mask.npz").read_bytes() == before


def test_no_folder_is_replaced_and_names_must_fit(tmp_path: Path, capsys) -> None:
    write_npz(make_video(), tmp_path / "a.npz")
    assert convert(tmp_path / "a.npz", tmp_path, "--format", "davis") == 2
    assert "is there already" in capsys.readouterr().err
    assert convert(tmp_path / "a.npz", tmp_path / "b.txt", "--format", "coco") == 2
    assert "must be named *.json" in capsys.readouterr().err
    assert convert(tmp_path / "absent", tmp_path / "b.json", "--format", "coco") == 2
    assert "does not exist" in capsys.readouterr().err
