"""One process at a time owns a folder, and a process that ends, however it ends, owns nothing."""

import contextlib
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
from multiprocessing.pool import ThreadPool

import psutil
import pytest

from equivariant_nets.experiments.execution import PROCESS, _stop_orphan
from equivariant_nets.ownership import FolderLock

# Owns a folder, and says so; forks where it is told to.
CODE = """
import os, sys, time
from equivariant_nets.ownership import FolderLock
lock = FolderLock(sys.argv[1]).acquire()
if len(sys.argv) > 2:
    read, write = os.pipe()
    if os.fork() == 0:
        os.write(write, b"!")  # behind what gives the lock up in a child
        time.sleep(60)
    os.read(read, 1)
print(flush=True)
time.sleep(60)
"""


@pytest.fixture
def own_elsewhere(tmp_path):
    """Start a process that owns a folder; the folder and the process."""
    processes = []

    def own(*arguments):
        command = [sys.executable, "-c", CODE, str(tmp_path / "out"), *arguments]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
        processes.append(process)
        assert process.stdout.readline() == b"\n"
        return tmp_path / "out", process

    yield own
    for process in processes:
        with contextlib.suppress(ProcessLookupError):  # it was killed, and had no child
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.faults
@pytest.mark.parametrize("forked", [[], ["forked"]], ids=["alone", "with a child that lives on"])
def test_a_second_process_is_refused_with_the_owner_until_that_ends(own_elsewhere, forked):
    folder, process = own_elsewhere(*forked)
    with pytest.raises(RuntimeError, match=rf"out is in use by process {process.pid} on .* since .*\(python -c .*give"):
        FolderLock(folder).acquire()
    process.send_signal(signal.SIGSTOP)  # as a laptop that is asleep
    with pytest.raises(RuntimeError, match="in use by process"):
        FolderLock(folder).acquire()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert json.loads((folder / ".owner.json").read_text())["process"] == process.pid  # which is stale
    with FolderLock(folder):
        assert json.loads((folder / ".owner.json").read_text())["process"] == os.getpid()
    assert [path.name for path in folder.iterdir()] == [".owner.lock"]


def test_a_process_may_own_a_folder_several_times_over(tmp_path):
    with FolderLock(tmp_path) as first, FolderLock(tmp_path / "."):
        assert not first.is_lost
    assert not (tmp_path / ".owner.json").exists()


@pytest.mark.faults
def test_a_folder_that_is_removed_is_noticed_and_may_have_another_owner_by_then(tmp_path, own_elsewhere):
    folder = tmp_path / "out"
    lock = FolderLock(folder).acquire()
    for name in (".owner.lock", ".owner.json"):
        (folder / name).unlink()
    assert lock.is_lost
    lock.renew()
    assert not lock.is_lost
    (folder / ".owner.lock").unlink()
    _, other = own_elsewhere()
    assert lock.is_lost
    with pytest.raises(RuntimeError, match=f"in use by process {other.pid}"):
        lock.renew()
    assert json.loads((folder / ".owner.json").read_text())["process"] == other.pid


@pytest.mark.faults
def test_a_lock_file_that_is_a_link_is_not_followed(tmp_path):
    (tmp_path / "target").write_text("of somebody else")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".owner.json").symlink_to(tmp_path / "target")
    with FolderLock(tmp_path / "out"):
        pass
    assert (tmp_path / "target").read_text() == "of somebody else"


@pytest.mark.faults
def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file/out cannot be written to: give another --output_dir"):
        FolderLock(tmp_path / "file" / "out").acquire()


def test_what_an_experiment_left_at_work_is_stopped_here_and_waited_for_on_another_machine(own_elsewhere):
    folder, process = own_elsewhere()
    identity = [process.pid, psutil.Process(process.pid).create_time()]
    (folder / PROCESS).write_text(json.dumps([*identity, "another machine"]))
    with ThreadPool(1) as pool:
        waiting = pool.apply_async(_stop_orphan, [folder])
        with pytest.raises(multiprocessing.TimeoutError):
            waiting.get(timeout=0.2)
        assert process.poll() is None
        process.kill()
        waiting.get(timeout=60)
    folder, process = own_elsewhere()
    identity = [process.pid, psutil.Process(process.pid).create_time(), socket.gethostname()]
    (folder / PROCESS).write_text(json.dumps(identity))
    _stop_orphan(folder)
    assert not psutil.pid_exists(process.pid)
