"""Commands as ``python -m`` runs them, each in a process of its own that is forked from one with the imports done.

Importing torch, MONAI and what they bring takes six seconds, a small command one. The first process imports no module
of equivariant_nets and computes nothing, so that a command finds all as a new interpreter would: its folder and
``PYTHONPATH`` to import from, arguments, environment, ``__main__``, hooks and handlers at exit.

As a script it is that first process.
"""

import atexit
import json
import os
import runpy
import select
import signal
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

IMPORTS = [
    "e3nn.o3", "ignite.handlers", "matplotlib.figure", "monai.bundle", "monai.engines", "nibabel", "scipy.ndimage",
    "torch.utils.tensorboard",
]  # fmt: skip


def run_module(module, *arguments, cwd, kill_after_s=None, **variables):
    """Run ``python -m module arguments`` in a folder, on one thread, with environment variables added.

    It is killed, without any warning, when it has not ended after ``kill_after_s``.
    """
    request = {
        "module": module,
        "arguments": [str(argument) for argument in arguments],
        "cwd": str(cwd),
        "environment": {**os.environ, "OMP_NUM_THREADS": "1", **variables},
        "kill_after_s": kill_after_s,
    }
    with tempfile.TemporaryDirectory() as folder:
        request["outputs"] = [str(Path(folder) / name) for name in ("stdout", "stderr")]
        server = _server()
        server.stdin.write(json.dumps(request) + "\n")
        server.stdin.flush()
        code = int(server.stdout.readline())
        stdout, stderr = (Path(path).read_bytes().decode() for path in request["outputs"])
    return subprocess.CompletedProcess([module, *request["arguments"]], code, stdout, stderr)


@cache
def _server():
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__]
    server = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(server.stdin.close)
    return server


def _serve():
    """Fork for each request on the standard input, and write its exit status; return the request in the new process."""
    for line in sys.stdin:
        child = os.fork()
        request = json.loads(line)
        if child == 0:
            return request
        if request["kill_after_s"] is not None:
            _kill(child, request["kill_after_s"])
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    sys.exit()


def _kill(child, seconds):
    """Kill a process unless it ends before."""
    descriptor = os.pidfd_open(child)
    if not select.select([descriptor], [], [], seconds)[0]:
        os.kill(child, signal.SIGKILL)
    os.close(descriptor)


def _become(request):
    """Take over what a command of that request starts with."""
    for stream, path in ((0, os.devnull), *enumerate(request["outputs"], start=1)):
        flags = os.O_RDONLY if stream == 0 else os.O_WRONLY | os.O_CREAT | os.O_APPEND
        os.dup2(os.open(path, flags), stream)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["cwd"])
    own_path = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:] = [request["cwd"], *own_path, *_PATH]
    sys.argv[:] = [request["module"], *request["arguments"]]


if __name__ == "__main__":
    _PATH = [path for path in sys.path[1:] if path not in os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    for name in IMPORTS:
        __import__(name)
    sys.path_importer_cache.clear()
    asked = _serve()
    _become(asked)
    runpy.run_module(asked["module"], run_name="__main__", alter_sys=True)
