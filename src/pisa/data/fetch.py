"""Fetch the authors' clips and checkpoints, and Kubric's objects and HDRIs.

    pisa fetch real            the 361 real clips of PisaBench
    pisa fetch sim             its simulated clips
    pisa fetch psft            the authors' clips for stage 1, and `oro` for stage 2
    pisa fetch checkpoints     the authors' weights (`--only NAME` for some of them)
    pisa fetch gso             1033 scanned objects of Kubric's bucket, and `hdri`: 509 environments

The same command resumes where it was interrupted. Hashes are checked where the server knows them;
those found, and the licences, are written to `source.json` beside the files. Without a network,
`--archive FILE.zip` takes archives that were fetched elsewhere.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from pisa.data.manifest import list_clips
from pisa.data.released import CHECKPOINTS, RELEASED, SOURCE, fetch_checkpoints, fetch_clips
from pisa.errors import PisaError
from pisa.io.download import BUCKET, LIBRARIES, fetch_library
from pisa.simulation.assets import GSO_FOLDER, kubric_split

NAMES = (*RELEASED, CHECKPOINTS, *LIBRARIES)
_USES = {
    "real": "eval.py benchmark=real, after: python annotate.py path={folder}",
    "sim": "eval.py benchmark={folder} split=sim_seen (or sim_unseen)",
    "psft": "train.py psft.train={folder}",
    "oro": "train.py oro.train={folder}",
    CHECKPOINTS: "eval.py scale=paper ckpt={folder}, or train.py psft.checkpoint={folder}",
    "gso": "simulate.py prior=paper prior.assets=gso prior.size_m=null, with "
    f"{GSO_FOLDER}={{folder}} in the environment",
    "hdri": "simulate.py simulation=kubric simulation.backend.hdri_dir={folder}",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help=", ".join(NAMES))
    parser.add_argument("folder", type=Path, nargs="?", help="default: data/NAME")
    parser.add_argument("--revision", help="commit, tag or branch of the authors' repository")
    parser.add_argument("--archive", type=Path, nargs="+", default=[], help="fetched elsewhere")
    parser.add_argument("--only", nargs="+", default=[], help="some checkpoints or assets")
    parser.add_argument("--bucket", default=BUCKET, help="a mirror of Kubric's assets")


def fetch(
    name: str,
    folder: Path | str | None = None,
    *,
    revision: str | None = None,
    archives: Sequence[Path] = (),
    only: Sequence[str] = (),
    bucket: str = BUCKET,
) -> dict[Path, str]:
    """Download what is called ``name``; calling it again resumes.

    Args:
        name: one of ``NAMES``.
        folder: default ``data/NAME``.
        revision: commit, tag or branch of the authors' repository.
        archives: zip files of clips that were fetched elsewhere.
        only: some checkpoints or assets.
        bucket: of Kubric's assets, or a mirror.

    Returns:
        The folders (or files of checkpoints) to use, each with a word on its content.

    Raises:
        PisaError: no such name, an option that it does not have, no network, or a wrong hash.
    """
    if name not in NAMES:
        raise PisaError(f"nothing to fetch is called {name!r}; valid: {', '.join(NAMES)}")
    if archives and name not in RELEASED:
        raise PisaError(f"--archive is for clips ({', '.join(RELEASED)}), not for {name}")
    if only and name in RELEASED:
        raise PisaError(f"--only is for {CHECKPOINTS}, {', '.join(LIBRARIES)}, not for {name}")
    place = Path(folder or Path("data") / name).absolute()
    if name in RELEASED:
        return _clip_folders(fetch_clips(name, place, revision, archives))
    if name == CHECKPOINTS:
        return {path: "" for path in fetch_checkpoints(place, revision, only)}
    fetch_library(name, place, bucket=bucket, names=only or None)
    assets = [path.name for path in place.iterdir() if path.is_dir()]
    train, test = (len(part) for part in kubric_split(assets))
    return {place: f"{train} for training, {test} for tests"}


def main(given: argparse.Namespace) -> None:
    """Fetch what is named, and say how it is used."""
    name: str = given.name
    options = {"revision": given.revision, "only": given.only, "bucket": given.bucket}
    found = fetch(name, given.folder, archives=given.archive, **options)
    folder: Path = (given.folder or Path("data") / name).absolute()
    for place, text in found.items():
        print(f"{place}: {text}" if text else str(place))
        print(f"  use: {_USES[name].format(folder=place)}")
    if (folder / SOURCE).is_file():
        hashes = json.loads((folder / SOURCE).read_text())["sha256"]
        for file, digest in list(hashes.items())[:5]:
            print(f"  sha256 {digest} {file}")
        print(f"licence and hashes: {folder / SOURCE}")
    if paper := name in RELEASED and RELEASED[name].num_clips:
        print(f"the paper's set has {paper} clips")


def _clip_folders(folder: Path) -> dict[Path, str]:
    """The folders that hold clips, with their number: the folder itself or its groups."""
    groups = sorted({path.parents[1] for path in folder.glob("[!.]*/[!.]*/clip_info.json")})
    return {place: f"{len(list_clips(place))} clips" for place in groups or [folder]}
