"""An interpreter for the processes that tests start, which forks them from one with the imports done.

Importing torch, MONAI and what they bring takes six seconds, a small command one. The first process imports no module
of equivariant_nets and computes nothing, so that a command finds all as a new interpreter would: its folder and
``PYTHONPATH`` to import from, arguments, environment, streams, ``__main__``, ``sys.executable``, hooks and handlers at
exit. Signals reach it, and it is killed with the process that was started for it.

As a script it is that first process.
"""

import atexit
import gc
import json
import os
import runpy
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import ModuleType

IMPORTS = [
    "e3nn.o3", "ignite.handlers", "matplotlib.figure", "monai.bundle", "monai.engines", "nibabel", "scipy.ndimage",
    "torch.distributed.launcher.api", "torch.utils.tensorboard",
]  # fmt: skip
# What stands for the interpreter: it hands its streams, arguments, folder and environment over, and waits.
STAND_IN = """#!{python} -IS
import json, os, signal, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    request = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(server, [len(request).to_bytes(8, "big")], [0, 1, 2])
    server.sendall(request)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _: server.sendall(bytes([number])))
    code = int.from_bytes(server.recv(4), "big", signed=True)
if code < 0:
    signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
os._exit(code)
"""


@cache
def python() -> str:
    """The path to use in place of ``sys.executable``: with ``-m``, ``-c`` or a script."""
    folder = Path(tempfile.mkdtemp(prefix="fresh"))
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / "server"))
    listener.listen(64)
    stand_in = folder / "python"
    stand_in.write_text(STAND_IN.format(python=sys.executable, address=str(folder / "server")))
    stand_in.chmod(stat.S_IRWXU)
    command = [sys.executable, __file__, str(listener.fileno()), str(stand_in)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    server = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, pass_fds=[listener.fileno()])
    listener.close()
    atexit.register(shutil.rmtree, folder)
    atexit.register(server.stdin.close)  # at which the server ends
    return str(stand_in)


def run_module(module, *arguments, cwd, kill_after_s=None, **variables):
    """Run ``python -m module arguments`` in a folder, on one thread, with environment variables added.

    It is killed, without any warning, when it has not ended after ``kill_after_s``.
    """
    command = [python(), "-m", module, *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=cwd, env=environment, **pipes) as process:
        try:
            output = process.communicate(timeout=kill_after_s)
        except subprocess.TimeoutExpired:
            process.kill()
            output = process.communicate()
    return subprocess.CompletedProcess(command, process.returncode, *output)


def _serve(listener):
    """Fork for each request, and again for who waits for it; return the request in the new process."""
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        if sys.stdin in ready:
            sys.exit()
        connection = listener.accept()[0]
        if os.fork():
            connection.close()
            with suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            continue
        listener.close()
        size, streams, _, _ = socket.recv_fds(connection, 8, 3)
        request = json.loads(connection.makefile("rb").read(int.from_bytes(size, "big")))
        worker = os.fork()
        if worker == 0:
            connection.close()
            return request, streams
        _wait(worker, connection)


def _wait(worker, connection):
    """Pass signals on to the process, and its exit status back; kill it when nobody waits for that."""

    def pass_on():
        with suppress(ProcessLookupError):
            while number := connection.recv(1):
                os.kill(worker, number[0])
            os.kill(worker, signal.SIGKILL)

    threading.Thread(target=pass_on, daemon=True).start()
    code = os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1])
    with suppress(BrokenPipeError):
        connection.sendall(code.to_bytes(4, "big", signed=True))
    os._exit(0)


def _become(request, streams):
    """Take over what a process starts with; return its arguments, without options of the interpreter."""
    arguments, folder, environment = request
    for stream, given in enumerate(streams):
        os.dup2(given, stream)
        os.close(given)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    if arguments[0] == "-u":
        arguments.pop(0)
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(write_through=True)
    found = _PATH
    if arguments[0] == "-S":  # none of what the module site adds, such as packages that are installed in place
        arguments.pop(0)
        found = [path for path in _PATH if path in _WITHOUT_SITE]
        sys.meta_path[:] = [
            finder for finder in sys.meta_path if "__editable__" not in getattr(finder, "__module__", "")
        ]
    own_path = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    own_folder = folder if arguments[0] in ("-m", "-c") else str(Path(arguments[0]).resolve().parent)
    sys.path[:] = [own_folder, *own_path, *found]
    sys.executable = sys.argv[2]
    return arguments


def _run(asked):
    """What the interpreter was asked for."""
    if asked[0] == "-c":
        sys.argv[:] = ["-c", *asked[2:]]
        sys.modules["__main__"] = ModuleType("__main__")
        exec(asked[1], vars(sys.modules["__main__"]))
    elif asked[0] == "-m":
        sys.argv[:] = asked[1:]
        runpy.run_module(asked[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv[:] = asked
        runpy.run_path(asked[0], run_name="__main__")


def _end(code):
    """End as an interpreter does, but take no module apart: that copies all memory shared with the first process."""
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


if __name__ == "__main__":
    _PATH = [path for path in sys.path[1:] if path not in os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    bare = subprocess.run([sys.executable, "-IS", "-c", "import sys; print(*sys.path, sep='\n')"], capture_output=True)
    _WITHOUT_SITE = bare.stdout.decode().splitlines()
    for name in IMPORTS:
        __import__(name)
    sys.path_importer_cache.clear()
    gc.freeze()  # what was imported stays: to take it apart at the end of each process takes two seconds
    asked = _become(*_serve(socket.socket(fileno=int(sys.argv[1]))))
    try:
        _run(asked)
    except SystemExit as end:
        if end.code is not None and not isinstance(end.code, int):
            raise
        _end(end.code or 0)
    _end(0)
