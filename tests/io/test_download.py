"""Downloads against a small local server: resumed, checked, unpacked safely."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile

import pytest

from pisa.__main__ import main
from pisa.errors import PisaError
from pisa.io.download import download, fetch_library
from pisa.simulation.assets import kubric_split
from tests.local_server import Served


def archive(name: str, members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as opened:
        for path, content in members.items():
            info = tarfile.TarInfo(path)
            info.size = len(content)
            opened.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def serve_library(handler: type[Served], assets: dict[str, dict[str, bytes]]) -> None:
    handler.files["/GSO/GSO.json"] = json.dumps({"assets": {name: {} for name in assets}}).encode()
    for name, members in assets.items():
        handler.files[f"/GSO/{name}.tar.gz"] = archive(name, members)


MESH = {"visual_geometry.obj": b"v 0 0 0\n", "textures/texture.png": b"png"}


def test_an_interrupted_download_is_continued(bucket, tmp_path):
    url, handler = bucket
    content = bytes(range(256)) * 400
    handler.files["/a.bin"] = content
    handler.broken.add("/a.bin")
    with pytest.raises(PisaError, match="The same command resumes"):
        download(f"{url}/a.bin", tmp_path / "a.bin")
    assert not (tmp_path / "a.bin").exists()
    digest = hashlib.sha256(content).hexdigest()
    assert download(f"{url}/a.bin", tmp_path / "a.bin", sha256=digest).read_bytes() == content
    assert handler.requests[1] == ("/a.bin", f"bytes={len(content) // 2}-")
    download(f"{url}/a.bin", tmp_path / "a.bin", sha256=digest)
    assert len(handler.requests) == 2


def test_a_wrong_hash_is_refused_and_the_file_removed(bucket, tmp_path):
    url, handler = bucket
    handler.files["/a.bin"] = b"other"
    with pytest.raises(PisaError, match=r"expected 0000.* the file was removed"):
        download(f"{url}/a.bin", tmp_path / "a.bin", sha256="0" * 64)
    assert not (tmp_path / "a.bin").exists()


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/x", "nonsense"])
def test_without_a_network_one_sentence_names_the_file(address, tmp_path):
    with pytest.raises(PisaError, match=r"save it as .*x\.bin"):
        download(address, tmp_path / "x.bin")


def test_a_library_is_unpacked_with_its_licence_and_hashes(bucket, tmp_path):
    url, handler = bucket
    serve_library(handler, {"Mug": {f"Mug/{k}": v for k, v in MESH.items()}, "Shoe": MESH})
    folder = fetch_library("gso", tmp_path / "gso", bucket=url)
    for name in ("Mug", "Shoe"):
        assert (folder / name / "visual_geometry.obj").read_bytes() == MESH["visual_geometry.obj"]
        assert (folder / name / "textures" / "texture.png").is_file()
    source = json.loads((folder / "source.json").read_text())
    assert source["licence"].startswith("CC BY 4.0")
    assert source["sha256"]["Mug"] == hashlib.sha256(handler.files["/GSO/Mug.tar.gz"]).hexdigest()
    asked = len(handler.requests)
    fetch_library("gso", folder, bucket=url)
    assert len(handler.requests) == asked


def test_a_broken_asset_download_is_resumed_by_the_same_call(bucket, tmp_path):
    url, handler = bucket
    serve_library(handler, {"Mug": MESH, "Shoe": MESH})
    handler.broken.add("/GSO/Shoe.tar.gz")
    with pytest.raises(PisaError, match=r"Shoe\.tar\.gz"):
        fetch_library("gso", tmp_path, bucket=url)
    assert (tmp_path / "Mug").is_dir() and not (tmp_path / "Shoe").exists()
    fetch_library("gso", tmp_path, bucket=url)
    assert (tmp_path / "Shoe" / "visual_geometry.obj").is_file()


@pytest.mark.parametrize("member", ["../evil.obj", "Mug/../../evil.obj", "/etc/evil.obj"])
def test_members_cannot_leave_the_folder(bucket, tmp_path, member):
    url, handler = bucket
    serve_library(handler, {"Mug": {member: b"x"}})
    with pytest.raises(PisaError, match="leads out of the archive"):
        fetch_library("gso", tmp_path / "gso", bucket=url)
    assert not list(tmp_path.rglob("evil.obj"))


def test_a_manifest_that_is_a_web_page_is_refused(bucket, tmp_path):
    url, handler = bucket
    handler.files["/GSO/GSO.json"] = b"<html>AccessDenied</html>"
    with pytest.raises(PisaError, match="is not an asset manifest"):
        fetch_library("gso", tmp_path, bucket=url)
    with pytest.raises(PisaError, match="valid: gso, hdri"):
        fetch_library("shapenet", tmp_path, bucket=url)


def test_the_splits_of_the_paper_come_out():
    objects = kubric_split([f"object_{i:04d}" for i in range(1033)])
    skies = kubric_split([f"sky_{i:03d}" for i in range(509)])
    assert [len(part) for part in (*objects, *skies)] == [930, 103, 458, 51]


def test_the_command_fetches_a_library_and_says_how_it_is_used(bucket, tmp_path, capsys):
    url, handler = bucket
    serve_library(handler, {f"Mug_{i:02d}": MESH for i in range(20)})
    folder = tmp_path / "gso"
    assert main(["fetch", "gso", str(folder), "--bucket", url]) == 0
    printed = capsys.readouterr().out
    assert "18 for training, 2 for tests" in printed and f"PISA_GSO_DIR={folder}" in printed
    assert "licence and hashes" in printed
    assert main(["fetch", "hdri", str(tmp_path / "hdri"), "--bucket", url]) == 2
    assert "HDRI_haven.json" in capsys.readouterr().err
