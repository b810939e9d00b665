"""A file is there whole or not at all, whatever happens to who writes it."""

import errno
import json
import os
import signal
import subprocess
import sys

import pytest

from equivariant_nets.files import replace_file, write_json, write_text


@pytest.fixture
def old(tmp_path):
    path = tmp_path / "table.nii.gz"
    path.write_text("old")
    return path


def names(path):
    return [file.name for file in path.parent.iterdir()]


def test_a_file_gets_its_name_when_all_is_written(old):
    with replace_file(old) as partial:
        partial.write_text("ne")
        assert old.read_text() == "old"
        with partial.open("a") as file:
            file.write("w")
    assert old.read_text() == "new"
    assert names(old) == [old.name]


@pytest.mark.parametrize("shared", [False, True])
def test_the_hidden_name_lies_beside_the_file_and_ends_as_it_does(old, shared):
    """Writers such as nibabel's choose the format by the ending."""
    with replace_file(old, shared=shared) as partial:
        assert partial.parent == old.parent
        assert partial.name.startswith(".")
        assert partial.name.endswith(old.name)
        partial.touch()


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("error", [OSError, ValueError, KeyboardInterrupt])
def test_a_failure_leaves_the_former_file_and_nothing_else(old, error, shared):
    with pytest.raises(error), replace_file(old, shared=shared) as partial:  # noqa: PT012
        partial.write_text("half")
        raise error
    assert old.read_text() == "old"
    assert names(old) == [old.name]


@pytest.mark.faults
@pytest.mark.parametrize("is_there", [True, False])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG], ids=errno.errorcode.get)
def test_a_full_disk_is_told_with_the_file_and_what_is_kept(old, code, is_there, monkeypatch):
    def fail(descriptor):
        raise OSError(code, os.strerror(code))

    kept = "Its former content is kept" if is_there else "Nothing of it is left"
    if not is_there:
        old.unlink()
    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match=rf"table\.nii\.gz cannot be written: {os.strerror(code)}\. {kept}\. Free space"):
        write_text(old, "new")
    assert names(old) == ([old.name] if is_there else [])


@pytest.mark.faults
def test_a_link_under_the_hidden_name_is_not_followed(old):
    target = old.with_name("target")
    target.write_text("of somebody else")
    old.with_name(f".{old.name}").symlink_to(target)
    write_text(old, "new")
    assert (old.read_text(), target.read_text()) == ("new", "of somebody else")
    assert not old.is_symlink()


def test_a_file_and_its_name_are_on_the_disk_before_it_is_told(old, monkeypatch):
    synced, sync = [], os.fsync
    monkeypatch.setattr("os.fsync", lambda d: [synced.append(os.readlink(f"/proc/self/fd/{d}")), sync(d)])
    write_text(old, "new")
    assert synced == [str(old.with_name(f".{old.name}")), str(old.parent)]


def test_a_writer_that_writes_nothing_is_an_error(old):
    with pytest.raises(FileNotFoundError), replace_file(old):
        pass
    assert old.read_text() == "old"


@pytest.mark.parametrize("shared", [False, True])
def test_who_is_killed_leaves_the_former_file(old, shared):
    code = (
        "import os, signal, sys\n"
        "from equivariant_nets.files import replace_file\n"
        f"with replace_file(sys.argv[1], shared={shared}) as partial:\n"
        "    partial.write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(old)], check=False).returncode == -signal.SIGKILL
    assert old.read_text() == "old"
    assert [name for name in names(old) if not name.startswith(".")] == [old.name]
    write_text(old, "new")
    assert old.read_text() == "new"


def test_processes_that_share_a_file_do_not_disturb_each_other(old):
    with replace_file(old, shared=True) as first, replace_file(old, shared=True) as second:
        first.write_text("first")
        second.write_text("second")
    assert old.read_text() == "first"  # which ended last
    assert names(old) == [old.name]


def test_texts_are_utf_8_and_json_comes_back(tmp_path):
    write_text(tmp_path / "a.txt", "± é\n")
    assert (tmp_path / "a.txt").read_bytes() == "± é\n".encode()
    content = {"a": [1, 2.5, None], "é": "±"}
    write_json(tmp_path / "a.json", content)
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == content
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"a": object()})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == content
    assert sorted(os.listdir(tmp_path)) == ["a.json", "a.txt"]
