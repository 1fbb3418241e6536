"""Production: shards, kill -9, verify, digests that stay, errors in one sentence."""

import fcntl
import signal
import time
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest

from pisa.data.clip_io import discard_parts, write_clip
from pisa.data.data_sets import DataSets
from pisa.data.manifest import data_sha256, read_manifest
from pisa.errors import PisaError
from pisa.io.progress import progress_line
from pisa.launch.compose import compose_simulate
from pisa.simulation.fast import FastSimulator
from pisa.simulation.kubric.simulator import KubricSimulator
from pisa.simulation.pool import Transient
from pisa.simulation.produce import ClipsFailed, DataSetSpec, Shard, produce
from pisa.simulation.scene import Prior
from tests.launch.conftest import compose
from tests.processes import start_script

SMALL = ("simulation.backend.num_frames=4", "dataset=psft", "num_clips=6")


def data_sets(root: Path, *overrides: str) -> DataSets:
    cfg = compose(*SMALL, f"data_dir={root}", *overrides, name="simulate")
    return compose_simulate(cfg).sets


def test_shards_make_disjoint_parts_and_the_last_writes_the_manifest(tmp_path: Path) -> None:
    whole = data_sets(tmp_path / "whole").make("psft")
    for i in (1, 0, 2):
        assert not list((tmp_path / "parts").rglob("manifest.json"))
        part = data_sets(tmp_path / "parts", f"shard={i}/3").make("psft")
    files = [p.relative_to(whole) for p in whole.rglob("*") if p.is_file() and "lock" not in p.name]
    assert len(files) > 6 * 4
    assert all((whole / f).read_bytes() == (part / f).read_bytes() for f in files)


def test_a_run_waits_for_another_that_makes_the_same_set(tmp_path: Path, capsys) -> None:
    """It would take the clip that the other is writing for a killed run's, and remove it."""
    sets, made = data_sets(tmp_path), []
    folder = tmp_path / sets.folder_name("psft")
    folder.mkdir()
    run = Thread(target=lambda: made.append(sets.make("psft")))
    with (folder / ".lock-0-of-1").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        run.start()
        time.sleep(0.5)
        assert not (folder / "clips").exists()
    run.join()
    assert made == [folder] and (folder / "manifest.json").exists()
    assert f"another run makes {folder}" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["3/3", "1", "-1/3", "a/b"])
def test_a_wrong_shard_is_one_sentence(text: str) -> None:
    with pytest.raises(PisaError, match="shard must be"):
        Shard.parse(text)


def test_killed_at_any_moment_the_result_is_the_same_bytes(tmp_path: Path) -> None:
    """SIGKILL the command while it works; the same command then ends as an undisturbed one."""
    where = f"data_dir={tmp_path / 'killed'}"
    process = start_script("simulate.py", *SMALL, where, cwd=tmp_path, output=tmp_path)
    while not list((tmp_path / "killed").rglob("rgba_00000.jpg")) and process.is_alive():
        time.sleep(0.002)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    killed = data_sets(tmp_path / "killed").make("psft")
    whole = data_sets(tmp_path / "whole").make("psft")
    files = {p.relative_to(whole): p.read_bytes() for p in whole.rglob("*") if p.is_file()}
    assert {
        p.relative_to(killed): p.read_bytes() for p in killed.rglob("*") if p.is_file()
    } == files


def test_verify_finds_and_remakes_just_the_wrong_clips(tmp_path: Path, capsys) -> None:
    sets = data_sets(tmp_path)
    clips = sets.make("psft") / "clips"
    before = data_sha256(clips.parent)
    untouched = (clips / "000000" / "mask.npz").stat().st_mtime_ns
    (clips / "000002" / "rgba_00001.jpg").write_bytes(b"damage")
    (clips / "000004").rename(tmp_path / "away")
    assert sets.verify("psft").startswith("2 of 6")
    said = capsys.readouterr().out
    assert "000002 is damaged" in said and "000004 is missing" in said
    assert data_sha256(clips.parent) == before
    assert (clips / "000000" / "mask.npz").stat().st_mtime_ns == untouched
    assert sets.verify("psft").startswith("0 of 6")


def test_the_manifest_says_what_the_set_was_made_from(tmp_path: Path) -> None:
    manifest = read_manifest(data_sets(tmp_path).make("psft"))
    assert manifest.seeds["000005"] == 5 and len(manifest.sha256["000005"]) == 64
    assert "pybullet" in manifest.versions and manifest.versions["look"] == "3"
    assert "zlib" in manifest.licences["objects"]


def test_half_written_clips_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    mine, others = tmp_path / ".000001.0123456789ab.part", tmp_path / ".000002.0123456789ab.part"
    for folder in (mine, others):
        folder.mkdir()
    discard_parts(tmp_path, ["000001"])
    assert not mine.exists() and others.exists()


class Unreliable(FastSimulator):
    """Its renderer dies for one seed."""

    def make_clip(self, seed, split, name):
        if seed == 1:
            raise Transient("the renderer ended")
        return super().make_clip(seed, split, name)


def test_a_clip_that_never_works_is_listed_and_the_others_are_made(tmp_path: Path) -> None:
    prior = Prior(num_dropping=(1, 1), num_pile=(0, 0), size_m=None, span_px=(9.0, 20.0))
    spec = DataSetSpec(Unreliable(prior, num_frames=2), "train", 3, 0)
    with pytest.raises(ClipsFailed, match=r"1 clips failed 2 times \(000001: the renderer ended"):
        list(produce(spec, tmp_path, write_clip, num_workers=1, attempts=2))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["000000", "000002"]


def test_digests_ignore_later_fields_at_their_defaults_and_where_the_renderer_lies() -> None:
    """`psft-...` of the tiny scale must stay what it was when the shown results were measured."""
    tiny = compose_simulate(compose(name="simulate")).sets.folder_name("psft")
    assert tiny == "psft-f5da8b11"
    spec = DataSetSpec(KubricSimulator(Prior()), "train", 3, 0)
    elsewhere = replace(spec, simulator=KubricSimulator(Prior(), python="/x/python"))
    faster = replace(spec, simulator=KubricSimulator(Prior(step_hz=480)))
    assert spec.digest() == elsewhere.digest() != faster.digest()


def test_the_progress_line_counts_only_this_runs_clips() -> None:
    line = progress_line("psft", present=100, made=50, total=1100, elapsed_s=600)
    assert line == "psft: 150/1100 clips, 300 clips/h, 3 h 10 min to go"
