"""The authors' files from a local hub: resumed, checked, unpacked whole, nothing else taken."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import pytest

from pisa.__main__ import main
from pisa.data import released
from pisa.data.clip_io import read_clip
from pisa.data.manifest import list_clips
from pisa.data.real import RealDataModule, require_real_clips
from pisa.data.released import fetch_clips
from pisa.errors import PisaError
from tests.launch.test_release_folders import write_release_set
from tests.local_server import COMMIT, REPOSITORY, Served, serve_repository

CLIPS = ("0000", "0001", "0002")
REAL = "pisabench/real.zip"
OTHERS = {
    "real/0000/movie.mp4": b"film",
    "real/0000/run_me.py": b"raise SystemExit(1)",
    "real/0000/truth.pkl": b"cos\nsystem\n.",
    "../outside.txt": b"x",
    "real/../../0000/../evil/00000.sh": b"x",
    "__MACOSX/real/0000/._00000.jpg": b"x",
}


def members() -> dict[str, bytes]:
    files = {}
    for clip in CLIPS:
        files |= {f"real/{clip}/{t:05d}.jpg": f"{clip} {t}".encode() for t in range(3)}
        files[f"real/{clip}/clip_info.json"] = b'{"points": []}'
    return files


def zipped(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def write_zip(path: Path, files: dict[str, bytes]) -> Path:
    path.write_bytes(zipped(files))
    return path


@pytest.fixture
def hub(bucket, monkeypatch: pytest.MonkeyPatch) -> type[Served]:
    """A hub with every kind of file that ``pisa fetch`` knows."""
    url, handler = bucket
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", url)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    simulated = {
        f"sim/{group}/{clip}/{file}": content
        for group in ("seen", "unseen")
        for clip in CLIPS
        for file, content in (("rgba_00000.jpg", b"x"), ("clip_info.json", b"{}"))
    }
    files = {
        REAL: zipped(members() | OTHERS),
        "pisabench/sim.zip": zipped(simulated),
        "training_data/oro/part_1.zip": zipped(
            {k: v for k, v in members().items() if "/0000/" in k}
        ),
        "training_data/oro/part_2.zip": zipped(
            {k: v for k, v in members().items() if "/0001/" in k}
        ),
        "checkpoints/base/model/pytorch_model.bin": b"weights of the base" * 10,
        "checkpoints/base/ema.pt": b"small",
        "checkpoints/flow/model/pytorch_model.bin": b"weights of flow" * 10,
    }
    serve_repository(handler, files)
    serve_repository(handler, files, revision="v1")
    return handler


def downloads(handler: type[Served]) -> list[tuple[str, str | None]]:
    return [(path.rpartition("/")[2], part) for path, part in handler.requests if "resolve" in path]


def test_clips_are_fetched_once_with_their_origin(hub: type[Served], tmp_path: Path) -> None:
    folder = tmp_path / "data" / "real"
    assert fetch_clips("real", folder, revision="v1") == folder
    assert fetch_clips("real", folder) == folder
    assert downloads(hub) == [("real.zip", None)]
    assert [clip.name for clip in list_clips(folder)] == list(CLIPS)
    assert (folder / "0001" / "00002.jpg").read_bytes() == b"0001 2"
    source = json.loads((folder / "source.json").read_text())
    assert source["commit"] == COMMIT and source["repository"] == REPOSITORY
    assert source["licence"].startswith("cc-by-4.0") and len(source["sha256"][REAL]) == 64
    assert {path.name for path in (tmp_path / "data").iterdir()} == {"real"}


def test_a_broken_download_is_resumed_by_the_same_command(hub, tmp_path, capsys) -> None:
    address = f"/datasets/{REPOSITORY}/resolve/{COMMIT}/{REAL}"
    hub.broken.add(address)
    command = ["fetch", "real", str(tmp_path / "real")]
    assert main(command) == 2
    assert "real.zip" in capsys.readouterr().err and not (tmp_path / "real").exists()
    assert main(command) == 0
    half = len(hub.files[address]) // 2
    assert downloads(hub) == [("real.zip", None), ("real.zip", f"bytes={half}-")]
    printed = capsys.readouterr().out
    assert "3 clips" in printed and "361" in printed and "sha256" in printed


def test_a_wrong_hash_is_refused(hub: type[Served], tmp_path: Path) -> None:
    address = f"/datasets/{REPOSITORY}/resolve/{COMMIT}/{REAL}"
    hub.files[address] = hub.files[address][:-1] + b"?"
    with pytest.raises(PisaError, match=r"sha256 is .* expected .* the file was removed"):
        fetch_clips("real", tmp_path / "real")
    assert not (tmp_path / "real").exists()
    assert not [path for path in tmp_path.rglob("*.zip") if path.is_file()]


def test_only_frames_and_annotations_leave_the_archive(hub, tmp_path: Path) -> None:
    folder = fetch_clips("real", tmp_path / "data" / "real")
    written = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert written == {name.removeprefix("real/") for name in members()} | {"source.json"}
    assert not (tmp_path / "outside.txt").exists()


def test_simulated_clips_keep_the_folder_that_says_seen_or_unseen(hub, tmp_path, capsys) -> None:
    assert main(["fetch", "sim", str(tmp_path / "sim")]) == 0
    for group in ("seen", "unseen"):
        assert [clip.name for clip in list_clips(tmp_path / "sim" / group)] == list(CLIPS)
        assert (
            f"benchmark={tmp_path / 'sim' / group} split=sim_seen" in capsys.readouterr().out
            or (group == "unseen")
        )


def test_training_clips_come_from_every_archive_of_their_name(hub, tmp_path, capsys) -> None:
    assert main(["fetch", "oro", str(tmp_path / "oro")]) == 0
    assert [clip.name for clip in list_clips(tmp_path / "oro")] == ["0000", "0001"]
    assert f"oro.train={tmp_path / 'oro'}" in capsys.readouterr().out
    with pytest.raises(PisaError, match=r"no zip archive of psft \(it has training_data/oro/part"):
        fetch_clips("psft", tmp_path / "psft")


def test_clips_of_the_release_are_read_as_they_are_unpacked(hub, tmp_path: Path) -> None:
    made = write_release_set(tmp_path / "made")
    files = {
        f"psft/{path.relative_to(made)}": path.read_bytes()
        for path in made.rglob("*")
        if path.is_file()
    }
    serve_repository(hub, {"training_data/psft.zip": zipped(files)})
    folder = fetch_clips("psft", tmp_path / "psft")
    clip = read_clip(list_clips(folder)[2])
    assert clip.video.shape == (3, 16, 64, 64) and clip.masks.any() and clip.fps_hz == 16


def test_checkpoints_are_copied_file_by_file_and_checked(hub, tmp_path, capsys) -> None:
    folder = tmp_path / "weights"
    assert main(["fetch", "checkpoints", str(folder), "--only", "base"]) == 0
    assert (folder / "base" / "ema.pt").read_bytes() == b"small"
    assert not (folder / "flow").exists()
    asked = len(downloads(hub))
    assert main(["fetch", "checkpoints", str(folder)]) == 0
    assert downloads(hub)[asked:] == [("pytorch_model.bin", None)]  # of flow
    assert f"psft.checkpoint={folder / 'base'}" in capsys.readouterr().out
    source = json.loads((folder / "source.json").read_text())
    assert len(source["sha256"]) == 3
    with pytest.raises(PisaError, match=r"no checkpoint 'seg'; valid: base, flow"):
        released.fetch_checkpoints(folder, only=["seg"])


def test_an_interrupted_unpacking_resumes(hub, tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "data" / "real"
    read = zipfile.ZipFile.read
    seen: list[str] = []

    def killed(self: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
        seen.append(member.filename)
        if len(seen) == 6:  # in the second clip
            raise KeyboardInterrupt
        return read(self, member)

    monkeypatch.setattr(zipfile.ZipFile, "read", killed)
    with pytest.raises(KeyboardInterrupt):
        fetch_clips("real", folder)
    assert not folder.exists()
    fetch_clips("real", folder)
    assert [name for name in seen[6:] if "/0000/" in name] == []  # the first clip was there
    assert len(list_clips(folder)) == 3 and downloads(hub) == [("real.zip", None)]


def test_an_archive_at_hand_needs_no_hub(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    archive = write_zip(tmp_path / "real.zip", {k[5:]: v for k, v in members().items()})
    assert main(["fetch", "real", str(tmp_path / "real"), "--archive", str(archive)]) == 0
    assert "3 clips" in capsys.readouterr().out
    source = json.loads((tmp_path / "real" / "source.json").read_text())
    assert "repository" not in source and len(source["sha256"]["real.zip"]) == 64


@pytest.mark.parametrize("state", ["offline", "no server", "no such data set"])
def test_without_network_one_line_says_what_to_fetch(
    state: str, bucket, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", state == "offline")
    address = bucket[0] if state == "no such data set" else "http://127.0.0.1:9"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    assert main(["fetch", "real", str(tmp_path / "real")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    for part in (REAL, REPOSITORY, "--archive", str(tmp_path / "real" / "0000"), "annotate.py"):
        assert part in line
    assert main(["fetch", "checkpoints", str(tmp_path / "weights")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "checkpoints/" in line and REPOSITORY in line
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"real/0001/clip_info.json": None}, "0001 lacks its clip_info.json"),
        ({"other/0001/00000.jpg": b"x"}, "holds 0001/00000.jpg twice"),
        (dict.fromkeys(members()), "holds no clips"),
    ],
)
def test_archives_that_would_lose_clips_are_refused(
    change: dict[str, bytes | None], message: str, tmp_path: Path
) -> None:
    files = {k: v for k, v in (members() | change).items() if v is not None}
    archive = write_zip(tmp_path / "a.zip", files)
    with pytest.raises(PisaError, match=message):
        fetch_clips("real", tmp_path / "real", archives=[archive])
    assert not (tmp_path / "real").exists()


def test_broken_and_absurd_archives(tmp_path: Path, monkeypatch) -> None:
    whole = write_zip(tmp_path / "whole.zip", members())
    broken = tmp_path / "broken.zip"
    broken.write_bytes(whole.read_bytes()[:200])
    for archive in (broken, tmp_path / "absent.zip"):
        with pytest.raises(PisaError, match=r"cannot unpack"):
            fetch_clips("real", tmp_path / "real", archives=[archive])
    monkeypatch.setattr(released, "_MAX_BYTES", 4)
    with pytest.raises(PisaError, match="too large"):
        fetch_clips("real", tmp_path / "real", archives=[whole])


def test_a_folder_of_something_else_is_left_alone(hub, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "thesis.tex").touch()
    with pytest.raises(PisaError, match="neither empty nor"):
        fetch_clips("real", tmp_path / "real")
    assert not hub.requests


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["reel"], "valid: real, sim, psft, oro, checkpoints, gso, hdri"),
        (["gso", "--archive", "a.zip"], "--archive is for clips"),
        (["real", "--only", "0000"], "--only is for checkpoints, gso, hdri"),
    ],
)
def test_wrong_arguments_are_one_line(arguments, message, capsys) -> None:
    assert main(["fetch", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_the_benchmark_and_the_data_module_fetch_on_first_use(hub, tmp_path: Path) -> None:
    with pytest.raises(PisaError, match=r"no masks.*annotate\.py path="):
        require_real_clips(tmp_path / "a")
    with pytest.raises(PisaError, match="no masks"):
        RealDataModule(tmp_path, name="b", revision="v1").prepare_data()
    asked = [path for path, _ in hub.requests if "/revision/" in path]
    assert [path.rpartition("/")[2] for path in asked] == ["main", "v1"]
