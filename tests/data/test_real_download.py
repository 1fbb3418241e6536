"""The real set from a fake hub: fetched once, unpacked whole or not at all, nothing else taken."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from pisa.__main__ import main
from pisa.data import real_download
from pisa.data.manifest import list_clips
from pisa.data.real import RealDataModule, require_real_clips
from pisa.data.real_download import FILE, REPOSITORY, fetch_real
from pisa.errors import PisaError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CLIPS = ("0000", "0001", "0002")
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


def write_zip(path: Path, files: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


class Hub:
    """In the place of ``hf_hub_download``: the hub's cache layout, and what was asked for."""

    def __init__(self, root: Path, files: dict[str, bytes]) -> None:
        self.path = write_zip(root / "snapshots" / COMMIT / FILE, files)
        self.asked: list[tuple[str, str, str, str | None]] = []

    def __call__(self, repo: str, file: str, *, repo_type: str, revision: str | None) -> str:
        self.asked.append((repo, file, repo_type, revision))
        return str(self.path)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    fake = Hub(tmp_path / "cache", members() | OTHERS)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", fake)
    return fake


def test_clips_are_fetched_once_at_the_revision(hub: Hub, tmp_path: Path) -> None:
    folder = tmp_path / "data" / "real"
    assert fetch_real(folder, revision=COMMIT) == folder
    assert fetch_real(folder) == folder
    assert hub.asked == [(REPOSITORY, FILE, "dataset", COMMIT)]
    assert [clip.name for clip in list_clips(folder)] == list(CLIPS)
    assert (folder / "0001" / "00002.jpg").read_bytes() == b"0001 2"
    source = json.loads((folder / "source.json").read_text())
    assert source["commit"] == COMMIT and source["repository"] == REPOSITORY
    assert len(source["sha256"]) == 64


def test_only_frames_and_annotations_leave_the_archive(hub: Hub, tmp_path: Path) -> None:
    folder = fetch_real(tmp_path / "data" / "real")
    written = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert written == {name.removeprefix("real/") for name in members()} | {"source.json"}
    assert {p.name for p in (tmp_path / "data").iterdir()} == {"real"}
    assert not (tmp_path / "outside.txt").exists()


def test_an_interrupted_run_goes_on(hub: Hub, tmp_path: Path, monkeypatch) -> None:
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
        fetch_real(folder)
    assert not folder.exists()
    fetch_real(folder)
    assert [name for name in seen[6:] if "/0000/" in name] == []  # the first clip was there
    assert len(list_clips(folder)) == 3


def test_an_archive_at_hand_needs_no_hub(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("huggingface_hub.hf_hub_download", None)
    archive = write_zip(tmp_path / "real.zip", {k[5:]: v for k, v in members().items()})
    assert main(["fetch", str(tmp_path / "real"), "--archive", str(archive)]) == 0
    assert "3 clips" in capsys.readouterr().out
    assert "repository" not in json.loads((tmp_path / "real" / "source.json").read_text())


@pytest.mark.parametrize("number", range(5))
def test_without_network_one_line_says_what_to_fetch(
    number: int, tmp_path: Path, monkeypatch, capsys
) -> None:
    import httpx
    from huggingface_hub.errors import EntryNotFoundError, RevisionResolutionError

    errors = (
        ConnectionError("no\nroute"),
        httpx.ReadTimeout("slow"),
        EntryNotFoundError("moved"),
        RevisionResolutionError("what commit"),
        ValueError("offline"),
    )

    def fail(*arguments: object, **options: object) -> str:
        raise errors[number]

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fail)
    assert main(["fetch", str(tmp_path / "real")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    for part in (FILE, REPOSITORY, "--archive", str(tmp_path / "real" / "0000"), "annotate.py"):
        assert part in line
    assert not (tmp_path / "real").exists()


def test_the_hub_itself_fails_in_one_line_when_offline(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(PisaError, match=r"real\.zip"):
        fetch_real(tmp_path / "real")


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
        fetch_real(tmp_path / "real", archive=archive)
    assert not (tmp_path / "real").exists()


def test_broken_and_absurd_archives(tmp_path: Path, monkeypatch) -> None:
    whole = write_zip(tmp_path / "whole.zip", members())
    broken = tmp_path / "broken.zip"
    broken.write_bytes(whole.read_bytes()[:200])
    for archive in (broken, tmp_path / "absent.zip"):
        with pytest.raises(PisaError, match=archive.name):
            fetch_real(tmp_path / "real", archive=archive)
    monkeypatch.setattr(real_download, "_MAX_BYTES", 4)
    with pytest.raises(PisaError, match="too large"):
        fetch_real(tmp_path / "real", archive=whole)


def test_a_folder_of_something_else_is_left_alone(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "thesis.tex").touch()
    with pytest.raises(PisaError, match="neither empty nor"):
        fetch_real(tmp_path / "real")
    assert not hub.asked


def test_the_benchmark_and_the_data_module_fetch_on_first_use(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(PisaError, match=r"no masks.*annotate\.py path="):
        require_real_clips(tmp_path / "a")
    with pytest.raises(PisaError, match="no masks"):
        RealDataModule(tmp_path, name="b", revision="v1").prepare_data()
    assert [revision for *_, revision in hub.asked] == [None, "v1"]
