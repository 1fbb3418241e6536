from __future__ import annotations

import pytest

from pisa.errors import PisaError
from pisa.io.files import replace_file, replace_folder, write_atomic


def test_bytes_and_parent_folders(tmp_path):
    path = tmp_path / "new" / "a.bin"
    write_atomic(path, b"one")
    write_atomic(path, b"two")
    assert path.read_bytes() == b"two"
    assert [p.name for p in path.parent.iterdir()] == ["a.bin"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("replace", [replace_file, replace_folder])
def test_a_failed_body_leaves_the_old_content_and_nothing_else(tmp_path, replace, error):
    target = tmp_path / "target"
    if replace is replace_file:
        target.write_bytes(b"old")
    else:
        target.mkdir()
        (target / "old").write_bytes(b"old")
    expected = PisaError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected), replace(target) as part:
        (part if replace is replace_file else part / "new").write_bytes(b"new")
        raise error
    assert [p.name for p in tmp_path.iterdir()] == ["target"]
    kept = target if target.is_file() else target / "old"
    assert kept.read_bytes() == b"old"


def test_a_folder_takes_the_place_of_the_old_one(tmp_path):
    for name in ("a", "b"):
        with replace_folder(tmp_path / "set") as part:
            (part / name).write_bytes(b"")
            assert not (tmp_path / "set" / name).exists()
    assert [p.name for p in (tmp_path / "set").iterdir()] == ["b"]


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PisaError, match=r"cannot write .*file/a: Not a directory|File exists"):
        write_atomic(tmp_path / "file" / "a", b"")
