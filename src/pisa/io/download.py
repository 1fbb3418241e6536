"""Downloads that resume and are checked, and Kubric's asset libraries.

Kubric's public bucket holds one manifest per library (``GSO.json``, ``HDRI_haven.json``) and one
``NAME.tar.gz`` per asset beside it (paper Appendix K: 1033 scanned objects, 509 environments).
``fetch_library`` unpacks them to ``FOLDER/NAME/...``, which is what ``prior.assets=gso`` and
``simulation.backend.hdri_dir`` read.
"""

from __future__ import annotations

import json
import os
import re
import tarfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
    track,
)

from pisa.errors import PisaError, reason
from pisa.io.files import sha256_of, write_atomic

BUCKET = "https://storage.googleapis.com/kubric-public/assets"
TIMEOUT_S = 60.0
_BLOCK = 2**20
_MAX_MEMBER_BYTES = 512 * 2**20
_MAX_JSON_BYTES = 64 * 2**20
_NEXT = re.compile(r'<([^>]+)>; *rel="next"')
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True)
class Library:
    """One asset library of the bucket; ``licence`` is written beside the files."""

    manifest: str  # below the bucket
    licence: str


LIBRARIES = {
    "gso": Library("GSO/GSO.json", "CC BY 4.0, Google Scanned Objects (Google Research)"),
    "hdri": Library("HDRI_haven/HDRI_haven.json", "CC0, Poly Haven"),
}


def download(url: str, path: Path, *, sha256: str | None = None) -> Path:
    """``path`` with the content of ``url``; a part left by an interrupted call is continued.

    A finished file is returned as it is, after checking its hash if ``sha256`` is given.

    Raises:
        PisaError: no network, an incomplete answer, no room, or another hash (then the file is
            removed).
    """
    if not path.is_file():
        part = path.with_name(f".{path.name}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with _bar(path.name) as bar:
                _continue(url, part, bar)
            os.replace(part, path)
        except (OSError, ValueError) as error:  # URLError and HTTPError are OSErrors
            raise PisaError(
                f"cannot download {url}: {reason(error)}. The same command resumes; without a "
                f"network fetch the file elsewhere and save it as {path}"
            ) from error
    if sha256 is not None and (found := sha256_of(path)) != sha256:
        path.unlink()
        raise PisaError(f"{url}: sha256 is {found}, expected {sha256}; the file was removed")
    return path


def fetch_library(
    name: str,
    folder: Path,
    *,
    bucket: str = BUCKET,
    names: Sequence[str] | None = None,
) -> Path:
    """``folder`` with the assets of a library, one subfolder each; finished ones are skipped.

    ``names`` restricts it to some assets. The SHA-256 of archives are recorded in ``source.json``,
    with the licence.

    Raises:
        PisaError: an unknown library, a broken manifest or archive, or what ``download`` raises.
    """
    if name not in LIBRARIES:
        raise PisaError(f"no asset library {name!r}; valid: {', '.join(LIBRARIES)}")
    library = LIBRARIES[name]
    manifest = download(
        f"{bucket}/{library.manifest}", folder / PurePosixPath(library.manifest).name
    )
    available = _asset_names(manifest)
    wanted = available if names is None else list(names)
    if unknown := sorted(set(wanted) - set(available)):
        raise PisaError(f"{manifest}: has no asset {unknown[0]!r}")
    remote = f"{bucket}/{PurePosixPath(library.manifest).parent}"
    record = folder / "source.json"
    found = json.loads(record.read_text())["sha256"] if record.is_file() else {}
    for asset in track(wanted, f"fetching {name}", transient=True):
        if (folder / asset).is_dir():
            continue
        archive = download(f"{remote}/{asset}.tar.gz", folder / f"{asset}.tar.gz")
        digest = sha256_of(archive)
        _unpack(archive, folder / asset)
        archive.unlink()
        found[asset] = digest
        source = {"library": name, "url": remote, "licence": library.licence, "sha256": found}
        write_atomic(record, json.dumps(source, indent=1).encode())
    return folder


def read_json(url: str) -> tuple[Any, str | None]:
    """The document at ``url``, and the address of its next page where the server names one.

    Raises ``PisaError`` where it cannot be had or is no JSON.
    """
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
            content = json.loads(answer.read(_MAX_JSON_BYTES))
            following = _NEXT.search(answer.headers.get("Link") or "")
    except (OSError, ValueError) as error:
        raise PisaError(f"cannot read {url}: {reason(error)}") from error
    return content, following and following[1]


def _bar(name: str) -> Progress:
    return Progress(
        TextColumn(name),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        transient=True,
    )


def _continue(url: str, part: Path, bar: Progress) -> None:
    """Append what is missing; a server that ignores ranges sends the whole file again."""
    have = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if have and error.code == 416:  # the part is complete already
            return
        raise
    with answer, part.open("ab" if answer.status == 206 else "wb") as stream:
        length = answer.headers.get("Content-Length")
        before = have if answer.status == 206 else 0
        total = None if length is None else before + int(length)
        task = bar.add_task("", total=total, completed=before)
        received = 0
        while block := answer.read(_BLOCK):
            stream.write(block)
            received += len(block)
            bar.advance(task, len(block))
    if length is not None and received != int(length):
        raise OSError(f"connection closed after {received} of {length} bytes")


def _asset_names(manifest: Path) -> list[str]:
    try:
        content: Any = json.loads(manifest.read_text(encoding="utf-8"))
        names = sorted(content["assets"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        manifest.unlink(missing_ok=True)
        raise PisaError(
            f"{manifest}: is not an asset manifest: {reason(error)}; it was removed"
        ) from error
    for name in names:
        if not _NAME.fullmatch(name):
            raise PisaError(f"{manifest}: {name!r} is not a plain asset name")
    return names


def _unpack(archive: Path, folder: Path) -> None:
    """Copy regular files below ``folder``, which appears complete or not at all."""
    staging = folder.with_name(f".{folder.name}.part")
    try:
        with tarfile.open(archive, "r:gz") as opened:
            for member in opened:
                parts = [p for p in PurePosixPath(member.name).parts if p not in (".", folder.name)]
                if not member.isfile() or not parts:
                    continue
                if any(not _NAME.fullmatch(p) for p in parts):
                    raise PisaError(
                        f"{archive}: {member.name!r} leads out of the archive or is no plain name"
                    )
                if member.size > _MAX_MEMBER_BYTES:
                    raise PisaError(f"{archive}: {member.name} is too large to be part of an asset")
                content = opened.extractfile(member)
                assert content is not None  # isfile()
                write_atomic(staging.joinpath(*parts), content.read())
        if not staging.is_dir():
            raise PisaError(f"{archive}: holds no files")
        os.replace(staging, folder)
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        archive.unlink(missing_ok=True)
        raise PisaError(f"{archive}: cannot unpack: {reason(error)}; it was removed") from error
