"""The authors' files: one data set repository on the Hugging Face hub (paper section 3).

Clips come as zip archives, of which frames, ``clip_info.json`` and masks are kept; checkpoints are
copied file by file. An interrupted download resumes. The hub knows the SHA-256 of large files, and
each is checked. ``source.json`` beside the files records commit, licence and hashes. Nothing is
executed or unpickled. ``HF_ENDPOINT`` names a mirror of the hub, as for the hub's own tools.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from rich.progress import track

from pisa.data.manifest import is_complete
from pisa.errors import PisaError, reason
from pisa.io.download import download, read_json
from pisa.io.files import replace_folder, sha256_of, write_atomic

REPOSITORY = "nyu-visionx/pisa-experiments"  # named by the README of the paper's release
CHECKPOINTS = "checkpoints"
SOURCE = "source.json"
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_WANTED = re.compile(r"(rgba_)?\d{5}\.(jpg|jpeg|png)|clip_info\.json|mask\.np[yz]")
_MAX_BYTES = 256 * 2**20  # of one file; a frame has a hundredth of that
_ZIP_ERRORS = (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
Members = Mapping[str, zipfile.ZipInfo]


@dataclass(frozen=True)
class ReleasedSet:
    """Clips of the release: one archive, or those below a folder whose path contains ``word``."""

    path: str
    word: str = ""
    grouped: bool = False  # keep the folder above each clip, such as seen and unseen
    num_clips: int | None = None  # of the paper


RELEASED = {
    "real": ReleasedSet("pisabench/real.zip", num_clips=361),
    "sim": ReleasedSet("pisabench/sim.zip", grouped=True),
    "psft": ReleasedSet("training_data", "psft"),
    "oro": ReleasedSet("training_data", "oro"),
}


@dataclass(frozen=True)
class RemoteFile:
    """A file of the repository; the hub knows the hash of large ones."""

    path: str
    sha256: str | None


@dataclass(frozen=True)
class Repository:
    """The authors' repository at one commit."""

    commit: str
    licence: str

    @classmethod
    def open(cls, revision: str | None = None) -> Repository:
        """Raises ``PisaError`` where the hub cannot be reached or has no such revision."""
        info, _ = read_json(f"{_hub()}/api/datasets/{REPOSITORY}/revision/{revision or 'main'}")
        try:
            licence = (info.get("cardData") or {}).get("license") or "not stated on its card"
            return cls(str(info["sha"]), str(licence))
        except (AttributeError, KeyError, TypeError) as error:
            raise PisaError(f"{_hub()}: does not answer as the Hugging Face hub does") from error

    def files(self, folder: str) -> list[RemoteFile]:
        """Every file below a folder, in order of path."""
        url = f"{_hub()}/api/datasets/{REPOSITORY}/tree/{self.commit}/{folder}?recursive=true"
        entries: list[Any] = []
        following: str | None = url
        while following:
            page, following = read_json(following)
            entries += page
        found = [e for e in entries if e.get("type") == "file"]
        for entry in found:
            if not all(_PLAIN.fullmatch(part) for part in PurePosixPath(entry["path"]).parts):
                raise PisaError(f"{REPOSITORY}: {entry['path']!r} is not a plain path")
        hashes = [(e.get("lfs") or {}).get("oid") for e in found]
        listed = [RemoteFile(e["path"], h) for e, h in zip(found, hashes, strict=True)]
        return sorted(listed, key=lambda file: file.path)

    def download(self, file: RemoteFile, path: Path) -> Path:
        """The file at ``path``; its hash is checked where the hub knows it."""
        url = f"{_hub()}/datasets/{REPOSITORY}/resolve/{self.commit}/{quote(file.path)}"
        return download(url, path, sha256=file.sha256)

    def source(self, hashes: Mapping[str, str]) -> dict[str, Any]:
        return {
            "repository": REPOSITORY,
            "commit": self.commit,
            "licence": f"{self.licence} (https://huggingface.co/datasets/{REPOSITORY})",
            "sha256": dict(hashes),
        }


def fetch_clips(
    name: str, folder: Path, revision: str | None = None, archives: Sequence[Path] = ()
) -> Path:
    """``folder`` with clips of the release (``RELEASED``); returns at once where it holds them.

    It appears when it is complete; until then archives and clips are in hidden folders beside it.
    ``archives`` are files fetched elsewhere; else they are downloaded at ``revision`` (a commit,
    tag or branch; None: the newest).

    Raises:
        PisaError: no network, a wrong hash, a broken archive, or a folder of something else.
    """
    if is_complete(folder) or (folder / SOURCE).is_file():
        return folder
    if folder.is_dir() and any(folder.iterdir()):
        raise PisaError(f"{folder}: is neither empty nor a folder of clips; nothing was fetched")
    downloads = folder.with_name(f".{folder.name}.download")
    try:
        record: dict[str, Any] = {"sha256": {}}
        if archives:
            local = {path.name: path for path in archives}
        else:
            local, record = _download_archives(name, downloads, revision)
        record["sha256"] |= {k: sha256_of(p) for k, p in local.items() if k not in record["sha256"]}
        key = min(record["sha256"].values())[:12]
        staging = folder.with_name(f".{folder.name}.{key}.part")
        staging.mkdir(parents=True, exist_ok=True)
        for archive in local.values():
            unpack(archive, staging, grouped=RELEASED[name].grouped)
        for stray in staging.rglob(".*.part"):  # of a run that was killed
            shutil.rmtree(stray)
        write_atomic(staging / SOURCE, json.dumps(record, indent=1).encode())
        os.replace(staging, folder)
        shutil.rmtree(downloads, ignore_errors=True)
    except OSError as error:
        raise PisaError(f"cannot unpack to {folder}: {reason(error)}") from error
    return folder


def _download_archives(
    name: str, downloads: Path, revision: str | None
) -> tuple[dict[str, Path], dict[str, Any]]:
    """Local archives by path in the repository, and the record of where they come from."""
    chosen = RELEASED[name]
    try:
        repository = Repository.open(revision)
        parent = chosen.path if chosen.word else str(PurePosixPath(chosen.path).parent)
        listed = repository.files(parent)
        wanted = [
            file
            for file in listed
            if (chosen.word in file.path.lower() and file.path.endswith(".zip"))
            and (chosen.word or file.path == chosen.path)
        ]
        if not wanted:
            there = ", ".join(file.path for file in listed[:10]) or "no files"
            raise PisaError(
                f"{chosen.path} of {REPOSITORY} has no zip archive of {name} (it has {there})"
            )
        local = {f.path: repository.download(f, downloads / Path(f.path).name) for f in wanted}
    except PisaError as error:
        folder = downloads.with_name(downloads.name.removeprefix(".").removesuffix(".download"))
        raise PisaError(_by_hand(name, folder, error)) from error
    known = {file.path: file.sha256 for file in wanted if file.sha256 is not None}
    return local, repository.source(known)


def _by_hand(name: str, folder: Path, error: PisaError) -> str:
    """One sentence: what is missing, why, and how to bring it without a network."""
    chosen = RELEASED[name]
    what = chosen.path if not chosen.word else f"the archives of {name} in {chosen.path}"
    clip = folder / ("GROUP" if chosen.grouped else "") / "0000" / "clip_info.json"
    masks = f"; masks: python annotate.py path={folder}" if name == "real" else ""
    return (
        f"{folder}: holds no clips of {name}, and they cannot be downloaded ({error}); fetch "
        f"{what} of the data set {REPOSITORY} on the Hugging Face hub where there is a network, "
        f"then: pisa fetch {name} {folder} --archive FILE.zip, or unpack it so that {clip} "
        f"exists{masks}"
    )


def unpack(archive: Path, folder: Path, *, grouped: bool = False) -> None:
    """Write the clips of ``archive`` to ``folder``; those that are there are left alone.

    Raises ``PisaError`` for a broken archive, and for one that holds no clips.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            clips = clip_members(opened, grouped=grouped)
            if not clips:
                raise PisaError(f"{archive}: holds no clips (NAME/clip_info.json and frames)")
            todo = [name for name in sorted(clips) if not (folder / name).is_dir()]
            for name in track(todo, "unpacking clips", transient=True):
                with replace_folder(folder / name) as part:
                    for file, member in clips[name].items():
                        (part / file).write_bytes(opened.read(member))
    except _ZIP_ERRORS as error:
        raise PisaError(f"{archive}: cannot unpack: {reason(error)}") from error


def clip_members(archive: zipfile.ZipFile, *, grouped: bool = False) -> dict[str, Members]:
    """Members to keep of each clip, by file name.

    A clip is called after its folder, with ``grouped`` after the folder above it too
    (``seen/0000``). Other folders above it do not matter.

    Raises ``PisaError`` for files that are too large or there twice, and for clips without frames
    or ``clip_info.json``.
    """
    clips: dict[str, dict[str, zipfile.ZipInfo]] = {}
    for member in archive.infolist():
        group, clip, file = ("", "", *PurePosixPath(member.filename).parts)[-3:]
        if member.is_dir() or not _PLAIN.fullmatch(clip) or not _WANTED.fullmatch(file):
            continue
        if grouped and _PLAIN.fullmatch(group):
            clip = f"{group}/{clip}"
        if member.file_size > _MAX_BYTES:
            raise PisaError(f"{archive.filename}: {member.filename} is too large to be a frame")
        if file in clips.setdefault(clip, {}):
            raise PisaError(f"{archive.filename}: holds {clip}/{file} twice")
        clips[clip][file] = member
    for clip, files in clips.items():
        if "clip_info.json" not in files or len(files) < 2:
            raise PisaError(f"{archive.filename}: {clip} lacks its clip_info.json or its frames")
    return dict(clips)


def fetch_checkpoints(
    folder: Path, revision: str | None = None, only: Sequence[str] = ()
) -> list[Path]:
    """The authors' checkpoints below ``folder``, one subfolder each; finished files are skipped.

    ``only`` names some of them. Returns their folders.

    Raises:
        PisaError: no network, a name that is not there, or a wrong hash.
    """
    try:
        repository = Repository.open(revision)
        files = {
            f: PurePosixPath(f.path).relative_to(CHECKPOINTS) for f in repository.files(CHECKPOINTS)
        }
    except PisaError as error:
        raise PisaError(
            f"{folder}: the checkpoints cannot be downloaded ({error}); fetch {CHECKPOINTS}/ of "
            f"the data set {REPOSITORY} on the Hugging Face hub where there is a network, and copy "
            f"it so that {folder}/NAME/model exists"
        ) from error
    names = sorted({path.parts[0] for path in files.values() if len(path.parts) > 1})
    if unknown := sorted(set(only) - set(names)):
        raise PisaError(f"no checkpoint {unknown[0]!r}; valid: {', '.join(names)}")
    chosen = list(only) or names
    record = folder / SOURCE
    found: dict[str, str] = json.loads(record.read_text())["sha256"] if record.is_file() else {}
    for file, path in files.items():
        if path.parts[0] not in chosen:
            continue
        place = folder / path
        if place.is_file() and found.get(str(path)) == file.sha256 is not None:
            continue  # checked before; hashing 5 GB again takes half a minute
        repository.download(file, place)
        found[str(path)] = file.sha256 or sha256_of(place)
        write_atomic(record, json.dumps(repository.source(found), indent=1).encode())
    return [folder / name for name in chosen]


def _hub() -> str:
    """Address of the hub. Raises ``PisaError`` where its own switch forbids the network."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise PisaError("HF_HUB_OFFLINE is set")
    return str(constants.ENDPOINT)
