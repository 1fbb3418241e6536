"""A data set folder: ``clips/NAME/`` and a ``manifest.json`` that is written last.

Clip folders without a manifest, directly in the data set folder, are the release's layout.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pisa.data.clip_info import check_name
from pisa.errors import PisaError, reason
from pisa.io.files import sha256_of, write_atomic

SCHEMA = 1


@dataclass(frozen=True)
class Manifest:
    """Origin of a data set; ``seeds`` and ``sha256`` are keyed by clip name.

    ``versions`` (of libraries) and ``licences`` (of assets) are for people; readers ignore them.
    """

    clips: tuple[str, ...]
    config_sha256: str = ""
    seeds: Mapping[str, int] = field(default_factory=dict)
    sha256: Mapping[str, str] = field(default_factory=dict)  # of each clip's content; optional
    versions: Mapping[str, str] = field(default_factory=dict)
    licences: Mapping[str, str] = field(default_factory=dict)
    schema: int = SCHEMA


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write ``manifest.json`` in one step. Write it last: it says the data set is complete.

    Raises ``PisaError`` where it cannot be written.
    """
    for name in manifest.clips:
        check_name(name)
    path = Path(folder) / "manifest.json"
    write_atomic(path, json.dumps(asdict(manifest), indent=1).encode())


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a complete data set; ``PisaError`` if it is absent or broken."""
    path = Path(folder) / "manifest.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["schema"] != SCHEMA:
            raise PisaError(f"{path}: has schema {record['schema']!r:.40}, not {SCHEMA}")
        manifest = Manifest(
            clips=tuple(check_name(name) for name in record["clips"]),
            config_sha256=str(record["config_sha256"]),
            seeds={str(k): int(v) for k, v in record["seeds"].items()},
            sha256={str(k): str(v) for k, v in record["sha256"].items()},
            versions=dict(record.get("versions", {})),
            licences=dict(record.get("licences", {})),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise PisaError(f"{path}: cannot read: {reason(error)}") from error
    if len(set(manifest.clips)) != len(manifest.clips):
        raise PisaError(f"{path}: names a clip twice")
    return manifest


def list_clips(folder: Path) -> list[Path]:
    """Folders of the clips, in manifest order; of a release folder, in order of name.

    Raises ``PisaError`` when there are none, when the manifest names one that is absent, or when
    ``clips/`` has no manifest, which means that the simulation was interrupted.
    """
    folder = Path(folder)
    if (folder / "manifest.json").exists():
        clips = [folder / "clips" / name for name in read_manifest(folder).clips]
        absent = [clip.name for clip in clips if not clip.is_dir()]
        if absent:
            raise PisaError(f"{folder}: the manifest names clips that are absent: {absent[:3]}")
    elif (folder / "clips").is_dir():
        raise PisaError(f"{folder}: is unfinished (it has clips/ but no manifest.json)")
    else:
        clips = sorted(p.parent for p in folder.glob("[!.]*/clip_info.json"))
    if not clips:
        raise PisaError(f"{folder}: holds no clips")
    return clips


def is_complete(folder: Path) -> bool:
    """Whether ``folder`` is a finished data set of ours, or holds clips in the release's layout."""
    folder = Path(folder)
    if (folder / "manifest.json").exists():
        return True
    return not (folder / "clips").exists() and any(folder.glob("[!.]*/clip_info.json"))


def clip_sha256(clip_folder: Path) -> str:
    """Hash of the names and contents of a clip's files.

    Raises ``PisaError`` where one cannot be read.
    """
    digest = hashlib.sha256()
    try:
        for path in sorted(p for p in Path(clip_folder).iterdir() if p.is_file()):
            digest.update(f"{path.name} {sha256_of(path)}\n".encode())
    except OSError as error:
        raise PisaError(f"{clip_folder}: cannot read: {reason(error)}") from error
    return digest.hexdigest()


def damaged_clips(folder: Path) -> dict[str, str]:
    """Clips of a complete data set that are not what the manifest says: name and what is wrong.

    Raises ``PisaError`` for a manifest without content hashes.
    """
    manifest = read_manifest(folder)
    if manifest.clips and not manifest.sha256:
        raise PisaError(
            f"{folder}: the manifest has no content hashes (made by an older version); delete "
            "manifest.json and simulate again to add them"
        )
    wrong: dict[str, str] = {}
    for name in manifest.clips:
        clip = Path(folder) / "clips" / name
        if not clip.is_dir():
            wrong[name] = "missing"
        elif clip_sha256(clip) != manifest.sha256.get(name):
            wrong[name] = "damaged"
    return wrong


def data_sha256(folder: Path) -> str:
    """Hash of all clips of a data set, by name; the folder's own name and place do not matter.

    Always computed from the files, so that it changes with them. It reads every byte: about a
    second per gigabyte.
    """
    digest = hashlib.sha256()
    for clip in sorted(list_clips(folder), key=lambda path: path.name):
        digest.update(f"{clip.name} {clip_sha256(clip)}\n".encode())
    return digest.hexdigest()
