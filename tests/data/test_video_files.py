"""Anyone's videos: what is readable reads alike, what is not is one line that names the file."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pisa.data.video_files import Limits, read_footage
from pisa.errors import PisaError
from pisa.ops.video import write_mp4

SIZE = 32


def falling(num_frames: int = 8, height: int = SIZE, width: int = SIZE) -> np.ndarray:
    """A grey scene with a bright square that falls."""
    frames = np.full((num_frames, height, width, 3), 90, dtype=np.uint8)
    for t in range(num_frames):
        frames[t, 4 + 2 * t : 12 + 2 * t, 10:18] = 220
    return frames


def write_gif(path: Path, frames: np.ndarray, delay_ms: int | list[int]) -> None:
    images = [Image.fromarray(frame) for frame in frames]
    images[0].save(path, "GIF", save_all=True, append_images=images[1:], duration=delay_ms)


def write_webm(path: Path, frames: np.ndarray, fps_hz: int) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libvpx-vp9", rate=fps_hz)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        stream.options = {"crf": "10", "b:v": "0", "deadline": "realtime"}
        for frame in frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def write_folder(path: Path, frames: np.ndarray, name: str = "{:05d}.png", fps=16) -> None:
    path.mkdir()
    for t, frame in enumerate(frames):
        Image.fromarray(frame).save(path / name.format(t))
    if fps is not None:
        (path / "clip_info.json").write_text(json.dumps({"fps": fps}))


@pytest.mark.parametrize("kind", ["mp4", "webm", "gif", "png", "jpg", "mislabelled"])
def test_every_kind_reads_alike(tmp_path: Path, kind: str) -> None:
    frames = falling()
    path = tmp_path / {"png": "v", "jpg": "v", "mislabelled": "v.mp4"}.get(kind, f"v.{kind}")
    if kind == "mp4":
        write_mp4(path, frames, 16)
    elif kind == "webm":
        write_webm(path, frames, 16)
    elif kind in ("gif", "mislabelled"):
        write_gif(path, frames, 60)
    else:
        write_folder(path, frames, f"frame_{{:d}}.{kind}")
    footage = read_footage(path, (SIZE, SIZE), expected_fps_hz=16)
    assert footage.fps_hz == 16
    assert footage.frames.shape == frames.shape
    assert np.abs(footage.frames.astype(int) - frames).mean() < 5
    assert footage.native == (SIZE, SIZE)


@pytest.mark.parametrize("fps_hz", [8, 24, 23.976, 30, 120])
def test_any_rate_and_length(tmp_path: Path, fps_hz: float) -> None:
    write_mp4(tmp_path / "v.mp4", falling(11), fps_hz)
    footage = read_footage(tmp_path / "v.mp4", (SIZE, SIZE), expected_fps_hz=16)
    assert len(footage.frames) == 11
    assert footage.fps_hz == pytest.approx(round(fps_hz))  # 24000/1001 is what 24 stands for
    given_rate = read_footage(tmp_path / "v.mp4", (SIZE, SIZE), fps_hz=12.5)
    assert given_rate.fps_hz == 12.5


def test_variable_rate_is_made_even(tmp_path: Path) -> None:
    """Frames shown for 40, 40, 40, 40 and 400 ms: the last stands for most of the even ones."""
    frames = falling(6)
    write_gif(tmp_path / "v.gif", frames, [40, 40, 40, 40, 400, 40])
    footage = read_footage(tmp_path / "v.gif", (SIZE, SIZE))
    assert footage.fps_hz == pytest.approx(5 / 0.56)  # frames start at 0 ... 160 and 560 ms
    rows = [int(np.flatnonzero(f[:, 12, 0] > 150)[0]) for f in footage.frames]
    assert rows == [4, 8, 12, 12, 12, 14]  # at i * 112 ms: frames 0, 2, 4, 4, 4, 5


@pytest.mark.parametrize(("height", "width"), [(32, 80), (64, 32), (32, 33)])
def test_black_borders_are_removed(tmp_path: Path, height: int, width: int) -> None:
    frames = falling(4)
    top, left = (height - 32) // 2, (width - 32) // 2
    padded = np.zeros((4, height, width, 3), dtype=np.uint8)
    padded[:, top : top + 32, left : left + 32] = frames
    padded[2:, :4, :4] = 200  # a model may paint into the bars later
    write_folder(tmp_path / "v", padded)
    footage = read_footage(tmp_path / "v", (SIZE, SIZE))
    assert footage.native == (height, width)
    assert np.array_equal(footage.frames[0], frames[0])


def test_other_aspect_without_borders_is_refused_unless_told(tmp_path: Path) -> None:
    write_folder(tmp_path / "v", falling(3, 32, 64))
    with pytest.raises(PisaError, match=r"64x32 px without black borders.*source\.fit"):
        read_footage(tmp_path / "v", (SIZE, SIZE))
    stretched = read_footage(tmp_path / "v", (SIZE, SIZE), fit="stretch")
    assert stretched.window == (slice(0, 32), slice(0, 64))
    cropped = read_footage(tmp_path / "v", (SIZE, SIZE), fit="crop")
    assert cropped.window == (slice(0, 32), slice(16, 48))
    with pytest.raises(PisaError, match="valid: refuse, stretch, crop"):
        read_footage(tmp_path / "v", (SIZE, SIZE), fit="squeeze")


def test_16_bit_frames_are_scaled_not_cut_off(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    grey = np.linspace(0, 65535, SIZE * SIZE).reshape(SIZE, SIZE).astype(np.uint16)
    for t in range(2):
        Image.fromarray(grey).save(tmp_path / "v" / f"{t}.png")
    footage = read_footage(tmp_path / "v", (SIZE, SIZE), fps_hz=16)
    assert np.array_equal(footage.frames[0, ..., 1], np.round(grey / 257).astype(np.uint8))


@pytest.mark.parametrize("kind", ["png", "gif"])
def test_transparency_shows_black(tmp_path: Path, kind: str) -> None:
    rgba = np.full((SIZE, SIZE, 4), (200, 100, 50, 255), dtype=np.uint8)
    rgba[:, :16, 3] = 0
    if kind == "png":
        write_folder(tmp_path / "v", np.stack([rgba, rgba]))
    else:
        later = rgba.copy()
        later[:, 16:, 0] = 90
        images = [Image.fromarray(rgba), Image.fromarray(later)]
        images[0].save(
            tmp_path / "v", "GIF", save_all=True, append_images=images[1:], duration=60, disposal=2
        )
    footage = read_footage(tmp_path / "v", (SIZE, SIZE))
    assert (footage.frames[0, :, :16] == 0).all()
    assert np.allclose(footage.frames[0, :, 16:], (200, 100, 50), atol=3)


def truncated(path: Path, fraction: float) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * fraction)])
    return path


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.8, 0.95])
@pytest.mark.parametrize("kind", ["mp4", "webm", "gif"])
def test_truncated_files_are_named(tmp_path: Path, kind: str, fraction: float) -> None:
    path = tmp_path / f"v.{kind}"
    noise = np.random.default_rng(0).integers(0, 255, (12, SIZE, SIZE, 3), dtype=np.uint8)
    {
        "mp4": lambda: write_mp4(path, noise, 16),
        "webm": lambda: write_webm(path, noise, 16),
        "gif": lambda: write_gif(path, noise, 60),
    }[kind]()
    assert len(read_footage(path, (SIZE, SIZE)).frames) == 12
    with pytest.raises(PisaError, match=r"v\.\w+: "):
        read_footage(truncated(path, fraction), (SIZE, SIZE))


@pytest.mark.parametrize("name", ["v.mp4", "v.gif", "v.webm", "v"])
def test_empty(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.mkdir() if name == "v" else path.touch()
    with pytest.raises(PisaError, match=rf"{name}: "):
        read_footage(path, (SIZE, SIZE))


def test_absent_zero_and_one_frame(tmp_path: Path) -> None:
    with pytest.raises(PisaError, match=r"v\.mp4: cannot read video: No such file"):
        read_footage(tmp_path / "v.mp4", (SIZE, SIZE))
    write_folder(tmp_path / "one", falling(1))
    with pytest.raises(PisaError, match="at least 2"):
        read_footage(tmp_path / "one", (SIZE, SIZE))
    with av.open(str(tmp_path / "none.mkv"), "w") as container:  # a header and nothing else
        stream = container.add_stream("libx264", rate=16)
        stream.height = stream.width = SIZE
        stream.pix_fmt = "yuv420p"
        container.start_encoding()
    with pytest.raises(PisaError, match=r"none\.mkv: "):
        read_footage(tmp_path / "none.mkv", (SIZE, SIZE))


def test_sound_without_picture(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "v.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono"
        )
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(PisaError, match="no video stream"):
        read_footage(tmp_path / "v.mp4", (SIZE, SIZE))


def huge_gif(path: Path, side: int) -> None:
    """A valid header that promises ``side`` squared pixels."""
    screen = struct.pack("<HH", side, side) + bytes([0x80, 0, 0]) + bytes(6)
    image = b"\x2c" + struct.pack("<HHHH", 0, 0, side, side) + b"\x00\x02\x02\x44\x01\x00"
    path.write_bytes(b"GIF89a" + screen + image + b"\x3b")


def huge_png(path: Path, side: int) -> None:
    """A PNG of ``side`` squared pixels, black, 1 bit each: a few kilobytes on disk."""
    Image.new("1", (side, side)).save(path)


def test_absurd_sizes_are_refused_before_memory_is_taken(tmp_path: Path) -> None:
    import resource

    huge_gif(tmp_path / "a.gif", 16_000)
    (tmp_path / "b").mkdir()
    huge_png(tmp_path / "b" / "0.png", 8_000)
    shutil.copy(tmp_path / "b" / "0.png", tmp_path / "b" / "1.png")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name in ("a.gif", "b"):
        with pytest.raises(PisaError, match=r"declares frames of .*limit of 36 million pixels"):
            read_footage(tmp_path / name, (SIZE, SIZE), fps_hz=16)
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kib < 100_000  # decoded they would be 1 GB and 192 MB


def test_limits_on_frames(tmp_path: Path) -> None:
    write_mp4(tmp_path / "v.mp4", falling(8), 16)
    write_gif(tmp_path / "v.gif", falling(8), 60)
    write_folder(tmp_path / "v", falling(8))
    for name in ("v.mp4", "v.gif", "v"):
        with pytest.raises(PisaError, match=r"source\.limits\.frames"):
            read_footage(tmp_path / name, (SIZE, SIZE), limits=Limits(frames=5))
        assert len(read_footage(tmp_path / name, (SIZE, SIZE), limits=Limits(frames=8)).frames) == 8


def test_memory_is_that_of_the_result(tmp_path: Path) -> None:
    """Large frames are rescaled as they come."""
    write_mp4(tmp_path / "v.mp4", falling(6, 512, 512), 16)
    footage = read_footage(tmp_path / "v.mp4", (16, 16))
    assert footage.frames.nbytes == 6 * 16 * 16 * 3


def test_folders_are_strict(tmp_path: Path) -> None:
    write_folder(tmp_path / "gap", falling(4))
    (tmp_path / "gap" / "00002.png").unlink()
    with pytest.raises(PisaError, match="frame 2 is missing"):
        read_footage(tmp_path / "gap", (SIZE, SIZE))
    write_folder(tmp_path / "two", falling(2), "left_{}.png")
    Image.fromarray(falling(1)[0]).save(tmp_path / "two" / "right_0.png")
    with pytest.raises(PisaError, match="several series"):
        read_footage(tmp_path / "two", (SIZE, SIZE))
    write_folder(tmp_path / "no_rate", falling(2), fps=None)
    with pytest.raises(PisaError, match=r"source\.fps_hz"):
        read_footage(tmp_path / "no_rate", (SIZE, SIZE))
    write_folder(tmp_path / "sizes", falling(2))
    Image.fromarray(falling(1, 40, 40)[0]).save(tmp_path / "sizes" / "00001.png")
    with pytest.raises(PisaError, match="size changes inside: 32x32, then 40x40"):
        read_footage(tmp_path / "sizes", (SIZE, SIZE))
    write_folder(tmp_path / "text", falling(2))
    (tmp_path / "text" / "00001.png").write_text("not a picture")
    with pytest.raises(PisaError, match=r"00001\.png: cannot read frame"):
        read_footage(tmp_path / "text", (SIZE, SIZE))


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("originals")
    write_mp4(folder / "v.mp4", falling(6), 16)
    write_webm(folder / "v.webm", falling(6), 16)
    write_gif(folder / "v.gif", falling(6), 60)
    Image.fromarray(falling(1)[0]).save(folder / "v.png")
    return {path.suffix: path.read_bytes() for path in folder.iterdir()}


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damaged_bytes_read_or_are_named(originals: dict[str, bytes], tmp_path_factory, data):
    """Any bytes overwritten, cut or inserted: frames of the right shape, or a PisaError."""
    suffix = data.draw(st.sampled_from(sorted(originals)))
    content = bytearray(originals[suffix])
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(content)))
        stop = data.draw(st.integers(start, min(len(content), start + 40)))
        content[start:stop] = data.draw(st.binary(max_size=40))
    path = tmp_path_factory.mktemp("fuzz") / f"v{suffix}"
    if suffix == ".png":
        path.with_suffix("").mkdir()
        for name in ("0.png", "1.png"):
            (path.with_suffix("") / name).write_bytes(content)
        path = path.with_suffix("")
    else:
        path.write_bytes(content)
    try:
        footage = read_footage(path, (16, 16), fps_hz=16, fit="stretch", limits=Limits(10**6, 100))
    except PisaError as error:
        assert str(path) in str(error)
        assert "\n" not in str(error)
    else:
        assert footage.frames.shape[1:] == (16, 16, 3)
