"""Videos and images that players show otherwise than they are stored read as they are shown."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from pisa.data.image_files import read_frames, read_image
from pisa.data.video_files import read_footage
from pisa.errors import PisaError

T, SIDE = 12, 64
ONE = 0x10000
MATRICES = {  # a, b, c, d of the display matrix, and the stored picture for upright F
    "turned 90": ((0, ONE, -ONE, 0), lambda f: np.rot90(f, 1, (1, 2))),
    "turned 180": ((-ONE, 0, 0, -ONE), lambda f: np.rot90(f, 2, (1, 2))),
    "turned 270": ((0, -ONE, ONE, 0), lambda f: np.rot90(f, 3, (1, 2))),
    "mirrored": ((-ONE, 0, 0, ONE), lambda f: f[:, :, ::-1]),
    "upside down": ((ONE, 0, 0, -ONE), lambda f: f[:, ::-1]),
    "transposed": ((0, ONE, ONE, 0), lambda f: f.swapaxes(1, 2)),
}


def scene(height: int = SIDE, width: int = SIDE) -> np.ndarray:
    """A floor, a wall and a red box that falls; nothing in it is symmetric."""
    frames = np.full((T, height, width, 3), (150, 170, 190), np.uint8)
    frames[:, height * 5 // 8 :] = (120, 110, 90)
    for t in range(T):
        frames[t, 6 + 3 * t : 16 + 3 * t, 20:30] = (200, 40, 40)
    return frames


def write(
    path: Path,
    frames: np.ndarray,
    *,
    codec: str = "libx264",
    pixels: str = "yuv444p",
    options: dict[str, str] | None = None,
    times: list[int] | None = None,
    aspect: Fraction | None = None,
    prepare: Callable[[av.VideoFrame], av.VideoFrame] = lambda frame: frame,
) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=16)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pixels
        stream.options = {"crf": "4"} | (options or {})
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        for k, pixel in enumerate(frames):
            frame = prepare(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixel), format="rgb24"))
            if times is not None:
                frame.pts, frame.time_base = times[k], Fraction(1, 16)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def set_matrix(path: Path, a: int, b: int, c: int, d: int) -> None:
    """The display matrix in the mp4's track header."""
    content = bytearray(path.read_bytes())
    at = content.find(b"tkhd")
    start = at + 8 + (32 if content[at + 4] == 1 else 20) + 16
    content[start : start + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 0x40000000)
    path.write_bytes(content)


def close_to(found: np.ndarray, expected: np.ndarray, mean: float = 3.0) -> bool:
    """Mean absolute difference of 8-bit values, the tolerance for compression and resampling."""
    assert found.shape == expected.shape
    return float(np.abs(found.astype(int) - expected).mean()) < mean


@pytest.mark.parametrize("kind", MATRICES)
def test_display_matrices_are_honoured(tmp_path: Path, kind: str) -> None:
    matrix, store = MATRICES[kind]
    path = write(tmp_path / "v.mp4", store(scene()))
    set_matrix(path, *matrix)
    assert close_to(read_footage(path, (SIDE, SIDE)).frames, scene())


def test_a_portrait_video_keeps_its_shape(tmp_path: Path) -> None:
    portrait = scene(height=96, width=48)
    path = write(tmp_path / "v.mp4", np.rot90(portrait, 1, (1, 2)))
    set_matrix(path, *MATRICES["turned 90"][0])
    footage = read_footage(path, (96, 48))
    assert footage.native == (96, 48) and close_to(footage.frames, portrait)


def test_rotation_by_other_angles_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "v.mp4", scene())
    set_matrix(path, 56756, 32768, -32768, 56756)
    with pytest.raises(PisaError, match=r"v\.mp4: is rotated by -?\d+ degrees"):
        read_footage(path, (SIDE, SIDE))


def test_pixel_shape_comes_before_the_test_of_the_aspect_ratio(tmp_path: Path) -> None:
    narrow = np.stack([np.asarray(Image.fromarray(f).resize((48, SIDE))) for f in scene()])
    path = write(tmp_path / "anamorphic.mp4", narrow, aspect=Fraction(4, 3))
    footage = read_footage(path, (SIDE, SIDE))
    assert footage.native == (SIDE, SIDE) and close_to(footage.frames, scene(), 4)
    wide = write(tmp_path / "wide.mp4", scene(), aspect=Fraction(16, 9))
    with pytest.raises(PisaError, match="114x64 px without black borders does not fit"):
        read_footage(wide, (SIDE, SIDE))


@pytest.mark.parametrize(("transfer", "tag"), [(18, "arib-std-b67"), (16, "smpte2084")])
def test_hdr_is_shown_as_sdr(tmp_path: Path, transfer: int, tag: str) -> None:
    """SDR put into HLG and PQ as BT.2408 does (diffuse white at 75 and 58 %) comes back."""
    to_2020 = [[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]]
    light = (scene() / 255.0) ** 2.4 @ np.array(to_2020).T
    if transfer == 18:
        scaled = light * 0.265
        log = 0.17883277 * np.log((12 * scaled - 0.28466892).clip(1e-9)) + 0.55991073
        signal = np.where(scaled <= 1 / 12, np.sqrt(3 * scaled.clip(0)), log)
    else:
        root = (light.clip(0) * 203 / 10000) ** 0.1593017578125
        signal = ((0.8359375 + 18.8515625 * root) / (1 + 18.6875 * root)) ** 78.84375
    luma = signal @ [0.2627, 0.6780, 0.0593]
    planes = np.stack(
        [
            64 + 876 * luma,
            512 + 896 * (signal[..., 2] - luma) / 1.8814,
            512 + 896 * (signal[..., 0] - luma) / 1.4746,
        ],
        axis=1,
    )
    planes = planes.round().clip(0, 1023).astype(np.uint16)
    path = tmp_path / "hdr.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx265", rate=16)
        stream.height, stream.width, stream.pix_fmt = SIDE, SIDE, "yuv444p10le"
        colours = f"colorprim=bt2020:transfer={tag}:colormatrix=bt2020nc:log-level=none"
        stream.options = {"crf": "4", "x265-params": colours}
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc = 9, 9, transfer
        for values in planes:
            frame = av.VideoFrame(SIDE, SIDE, "yuv444p10le")
            for plane, channel in zip(frame.planes, values, strict=True):
                rows = np.frombuffer(plane, np.uint16).reshape(SIDE, -1).copy()
                rows[:, :SIDE] = channel
                plane.update(rows.tobytes())
            frame.colorspace = 9
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert close_to(read_footage(path, (SIDE, SIDE)).frames, scene())


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize(("matrix", "name"), [(5, "smpte170m"), (1, "bt709")])
def test_range_and_matrix_are_honoured(
    tmp_path: Path, full_range: bool, matrix: int, name: str
) -> None:
    def prepare(frame: av.VideoFrame) -> av.VideoFrame:
        converted = frame.reformat(
            format="yuv444p",
            dst_colorspace=matrix,
            dst_color_range=2 if full_range else 1,
        )
        converted.color_range = 2 if full_range else 1
        converted.colorspace = matrix
        return converted

    options = f"fullrange={'on' if full_range else 'off'}:colormatrix={name}"
    path = write(tmp_path / "v.mp4", scene(), options={"x264-params": options}, prepare=prepare)
    assert close_to(read_footage(path, (SIDE, SIDE)).frames, scene())


def test_frames_hidden_by_an_edit_list_are_no_truncation(tmp_path: Path) -> None:
    hidden = np.full_like(scene()[:4], 90)
    options = {"g": "250", "bf": "0"}
    path = write(tmp_path / "v.mp4", np.concatenate([hidden, scene()]), options=options)
    content = bytearray(path.read_bytes())
    edit, movie = content.find(b"elst"), content.find(b"mvhd")
    with av.open(str(path)) as container:
        tick_s = container.streams.video[0].time_base
    assert tick_s is not None
    scale = struct.unpack(">I", content[movie + 16 : movie + 20])[0]
    length, start = struct.unpack(">Ii", content[edit + 12 : edit + 20])
    trimmed = struct.pack(">Ii", length - scale // 4, start + int(Fraction(1, 4) / tick_s))
    content[edit + 12 : edit + 20] = trimmed
    path.write_bytes(content)
    assert close_to(read_footage(path, (SIDE, SIDE)).frames, scene())


@pytest.mark.parametrize(
    "options", [{"bf": "3", "g": "250"}, {"g": "1"}, {"bf": "2", "x264-params": "open-gop=1"}]
)
def test_frame_order_does_not_depend_on_b_frames(tmp_path: Path, options: dict[str, str]) -> None:
    path = write(tmp_path / "v.mp4", scene(), options=options)
    assert close_to(read_footage(path, (SIDE, SIDE)).frames, scene())


def test_a_late_start_keeps_every_frame_and_the_rate(tmp_path: Path) -> None:
    path = write(tmp_path / "v.mp4", scene(), times=[8 + t for t in range(T)])
    footage = read_footage(path, (SIDE, SIDE), expected_fps_hz=16)
    assert footage.fps_hz == 16 and close_to(footage.frames, scene())


def test_variable_rate_shows_each_frame_at_its_time(tmp_path: Path) -> None:
    times = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 15]  # the eleventh is shown for five periods
    path = write(tmp_path / "v.mkv", scene(), times=times)
    footage = read_footage(path, (SIDE, SIDE), expected_fps_hz=16)
    shown = np.arange(len(footage.frames)) / footage.fps_hz
    expected = scene()[[max(k for k in range(T) if times[k] / 16 <= s + 1e-3) for s in shown]]
    assert close_to(footage.frames, expected)


def test_a_cover_picture_is_not_the_video(tmp_path: Path) -> None:
    cover = io.BytesIO()
    Image.fromarray(np.full((32, 32, 3), 255, np.uint8)).save(cover, "png")
    path = tmp_path / "v.mp4"
    with av.open(str(path), "w") as container:
        picture = container.add_stream("png", rate=1)
        picture.height = picture.width = 32
        picture.pix_fmt = "rgb24"
        picture.disposition = av.stream.Disposition.attached_pic
        stream = container.add_stream("libx264", rate=16)
        stream.height, stream.width, stream.pix_fmt = SIDE, SIDE, "yuv444p"
        stream.options = {"crf": "4"}
        still = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 255, np.uint8), format="rgb24")
        container.mux(picture.encode(still))
        for pixels in scene():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    assert close_to(read_footage(path, (SIDE, SIDE)).frames, scene())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_of_images_is_honoured(tmp_path: Path, orientation: int) -> None:
    upright = scene(height=SIDE, width=48)[5]
    stored = {  # the picture that a viewer turns upright
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "f.jpg"
    Image.fromarray(np.ascontiguousarray(stored)).save(path, quality=95, subsampling=0, exif=exif)
    assert close_to(read_image(path, 10_000)[None], upright[None])


@pytest.mark.parametrize("mode", ["CMYK", "L", "LA", "P", "I;16", "RGBA"])
def test_images_of_every_mode_show_the_same_picture(tmp_path: Path, mode: str) -> None:
    """Clips and frame folders read colour, grey, palette, 16-bit and print images alike."""
    picture = Image.fromarray(scene()[5])
    expected = picture if mode in ("CMYK", "P", "RGBA") else picture.convert("L").convert("RGB")
    if mode == "I;16":
        stored = Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)
    else:
        stored = picture.quantize(64) if mode == "P" else picture.convert(mode)
    path = tmp_path / ("00000.jpg" if mode == "CMYK" else "00000.png")
    stored.save(path, **({"quality": 98, "subsampling": 0} if mode == "CMYK" else {}))
    for found in (read_image(path, 10**6), read_frames([path])[0][0]):
        assert found.dtype == np.uint8 and found.shape == (SIDE, SIDE, 3)
        assert np.abs(found.astype(int) - np.asarray(expected).astype(int)).mean() < 2


def test_an_animation_is_not_a_frame(tmp_path: Path) -> None:
    frames = [Image.fromarray(f) for f in scene()[:3]]
    path = tmp_path / "00000.png"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    with pytest.raises(PisaError, match=r"00000\.png.*is an animation"):
        read_image(path, 10_000)
