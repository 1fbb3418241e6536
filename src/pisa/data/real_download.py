"""The released real clips: one archive of a data set repository on the Hugging Face hub.

``pisa fetch data/real`` fetches and unpacks it; the same command resumes
where it was interrupted. ``--revision COMMIT`` pins what is fetched, ``--archive real.zip`` takes a
file that was fetched elsewhere. Frames, ``clip_info.json`` and masks are copied out of the archive,
everything else in it is left there; nothing is executed or unpickled.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from rich.progress import track

from pisa.data.manifest import is_complete, list_clips
from pisa.errors import PisaError, reason
from pisa.io.files import replace_folder

REPOSITORY = "nyu-visionx/pisa-experiments"  # named by the README of the paper's release
FILE = "pisabench/real.zip"
NUM_CLIPS = 361
_CLIP = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_WANTED = re.compile(r"\d{5}\.(jpg|jpeg|png)|clip_info\.json|mask\.np[yz]")
_MAX_BYTES = 256 * 2**20  # of one file; a frame has a hundredth of that
_ZIP_ERRORS = (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
Members = Mapping[str, zipfile.ZipInfo]


def fetch_real(folder: Path, revision: str | None = None, archive: Path | None = None) -> Path:
    """``folder`` with the released clips in it; returns at once where it holds clips.

    It appears when it is complete; until then the clips lie in a hidden folder beside it.
    ``source.json`` in it records where they come from. Raises ``PisaError``.
    """
    if is_complete(folder):
        return folder
    if folder.is_dir() and any(folder.iterdir()):
        raise PisaError(f"{folder}: is neither empty nor a folder of clips; nothing was fetched")
    local = archive or _download(folder, revision)
    try:
        digest = _sha256(local)
        staging = folder.with_name(f".{folder.name}.{digest[:12]}.part")
        staging.mkdir(parents=True, exist_ok=True)
        unpack(local, staging)
        for stray in staging.glob(".*.part"):  # of a run that was killed
            shutil.rmtree(stray)
        (staging / "source.json").write_text(json.dumps(_source(local, digest, archive is None)))
        os.replace(staging, folder)
    except OSError as error:
        raise PisaError(f"cannot unpack {local} to {folder}: {reason(error)}") from error
    return folder


def unpack(archive: Path, folder: Path) -> None:
    """Write the clips of ``archive`` to ``folder``; those that are there are left alone.

    Raises ``PisaError`` for a broken archive, and for one that holds no clips.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            clips = clip_members(opened)
            if not clips:
                raise PisaError(f"{archive}: holds no clips (NAME/clip_info.json and frames)")
            todo = [name for name in sorted(clips) if not (folder / name).is_dir()]
            for name in track(todo, "unpacking clips", transient=True):
                with replace_folder(folder / name) as part:
                    for file, member in clips[name].items():
                        (part / file).write_bytes(opened.read(member))
    except _ZIP_ERRORS as error:
        raise PisaError(f"{archive}: cannot unpack: {reason(error)}") from error


def clip_members(archive: zipfile.ZipFile) -> dict[str, Members]:
    """Members to keep of each clip, by file name. The folders above the clips do not matter.

    Raises ``PisaError`` for files that are too large or there twice, and for clips without frames
    or ``clip_info.json``.
    """
    clips: dict[str, dict[str, zipfile.ZipInfo]] = {}
    for member in archive.infolist():
        clip, file = ("", *PurePosixPath(member.filename).parts)[-2:]
        if member.is_dir() or not _CLIP.fullmatch(clip) or not _WANTED.fullmatch(file):
            continue
        if member.file_size > _MAX_BYTES:
            raise PisaError(f"{archive.filename}: {member.filename} is too large to be a frame")
        if file in clips.setdefault(clip, {}):
            raise PisaError(f"{archive.filename}: holds {clip}/{file} twice")
        clips[clip][file] = member
    for clip, files in clips.items():
        if "clip_info.json" not in files or len(files) < 2:
            raise PisaError(f"{archive.filename}: {clip} lacks its clip_info.json or its frames")
    return dict(clips)


def _download(folder: Path, revision: str | None) -> Path:
    """The archive in the hub's cache, with the hub's progress bar; a part that is there is kept."""
    import httpx
    import huggingface_hub
    from huggingface_hub import errors

    try:
        return Path(
            huggingface_hub.hf_hub_download(
                REPOSITORY, FILE, repo_type="dataset", revision=revision
            )
        )
    except (
        OSError,
        ValueError,
        httpx.HTTPError,
        errors.EntryNotFoundError,
        errors.RevisionResolutionError,
        errors.XetDownloadError,
    ) as error:
        raise PisaError(
            f"{folder}: holds no real clips, and they cannot be downloaded "
            f"({_first_sentence(error)}). Fetch {FILE} of the data set {REPOSITORY} on the "
            f"Hugging Face hub ({NUM_CLIPS} clips; github.com/vision-x-nyu/pisa-experiments) "
            f"where there is a network, then: pisa fetch {folder} "
            f"--archive real.zip; or unpack it so that {folder / '0000' / 'clip_info.json'} "
            f"exists. Masks: python annotate.py path={folder}"
        ) from error


def _first_sentence(error: Exception) -> str:
    return reason(error).partition(". ")[0].removesuffix(".")


def _source(local: Path, digest: str, from_hub: bool) -> dict[str, str]:
    record = {"file": FILE if from_hub else local.name, "sha256": digest}
    if from_hub:
        record["repository"] = REPOSITORY
        if local.parents[2].name == "snapshots":  # the hub's cache: snapshots/COMMIT/FILE
            record["commit"] = local.parents[1].name
    return record


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="new folder for the clips, as data/real")
    parser.add_argument("--revision", help="commit, tag or branch of the repository")
    parser.add_argument("--archive", type=Path, help="real.zip, fetched elsewhere")


def main(given: argparse.Namespace) -> None:
    """Fetch the clips and count them."""
    folder = fetch_real(given.folder, given.revision, given.archive)
    count = len(list_clips(folder))
    print(f"{count} clips in {folder} (the paper's set has {NUM_CLIPS})")
