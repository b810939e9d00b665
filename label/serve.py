"""Serve bundles in MONAI Label, and say what to do in 3D Slicer.

It runs in the environment that ``make label`` sets up, and needs no network.
"""

from __future__ import annotations

import importlib.util
import ipaddress
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

from cyclopts import Parameter, validators

from equivariant_nets.cli import command_line

REPOSITORY = Path(__file__).resolve().parent.parent
BUNDLES = REPOSITORY / "bundles"
OUTPUT = REPOSITORY / "output" / "label"
APP_FILES = Path(__file__).resolve().parent / "app"
MODELS = ("hippocampus_mri_so3_segmentation", "hippocampus_mri_so3_deepedit")
DEMO_MODEL = "phantom_so3_segmentation"
DROPOUT = 0.1
MAX_UPLOAD_MB = 1024
START_SECONDS = 300
LOOPBACK = ["127.0.0.1", "localhost"]
MIN_TOKEN = 16  # characters


class UsageError(Exception):
    """What was asked for is not possible; the message says what is."""


def volume_bundles(bundles: Path) -> list[str]:
    """Names of the bundles in a folder that segment volumes, which is what MONAI Label shows in 3D Slicer."""

    def segments_volumes(path: Path) -> bool:
        image = json.loads(path.read_text())["network_data_format"]["inputs"]["image"]
        return len(image["spatial_shape"]) == 3

    return sorted(path.parts[-3] for path in bundles.glob("*/configs/metadata.json") if segments_volumes(path))


def check_models(names: Sequence[str], bundles: Path) -> None:
    """Refuse names that no bundle has, and bundles without weights."""
    legal = volume_bundles(bundles)
    if unknown := [name for name in names if name not in legal]:
        raise UsageError(
            f"There is no bundle {', '.join(unknown)} for volumes in {bundles}. Legal are: {', '.join(legal)}."
        )
    for name in names:
        if not (weights := bundles / name / "models" / "model.pt").is_file():
            raise UsageError(
                f"{name} has no weights: {weights} does not exist. Train them with:\n  python -m monai.bundle run "
                f"--bundle_root {bundles / name} --config_file {bundles / name / 'configs' / 'train.json'} "
                f"--ckpt_dir {bundles / name / 'models'} --dataset_dir DIR"
            )


def check_studies(studies: str) -> str:
    """The absolute path of a folder of studies; the address of a DICOMweb server is left as it is."""
    if studies.startswith(("http://", "https://")):
        return studies
    folder = Path(studies).expanduser().absolute()
    if not folder.is_dir():
        raise UsageError(f"The folder of studies {folder} does not exist. Give one that holds images (*.nii.gz).")
    return str(folder)


def check_port(host: str, port: int) -> None:
    """Refuse a port that is in use."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UsageError(
                f"Port {port} of {host} cannot be used ({error.strerror}). Give another --port."
            ) from error


def is_loopback(host: str) -> bool:
    """Whether who listens there is heard by this computer alone."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def own_names(host: str) -> list[str]:
    """The names and addresses by which a server that listens there is asked for."""
    if host not in ("0.0.0.0", ""):
        return [host, *LOOPBACK]
    import psutil

    addresses = [a.address for card in psutil.net_if_addrs().values() for a in card if a.family == socket.AF_INET]
    return [socket.getfqdn(), socket.gethostname(), *addresses, *LOOPBACK]


def read_token(file: Path | None, host: str) -> str:
    """The token of a file, which is written if it is missing. Without a file: a new one, or none for this computer."""
    if file is None:
        return "" if is_loopback(host) else secrets.token_urlsafe(24)
    if not file.exists():
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as new:
            new.write(secrets.token_urlsafe(24) + "\n")
    token = file.read_text().strip()
    if len(token) < MIN_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise UsageError(
            f"--token_file {file} holds no token: legal are {MIN_TOKEN} characters or more, of ASCII and without "
            "blanks. Remove the file, and a token is written into it."
        )
    return token


def prepare_app(app: Path, models: Sequence[str], bundles: Path, reset: bool = False) -> list[str]:
    """Write the app of MONAI Label with some bundles.

    Args:
        app: the folder to write. Weights in it, fine-tuned by an earlier server, stay.
        models: names of bundles.
        bundles: the folder that holds them.
        reset: take the weights of the bundles again.

    Returns:
        the models whose weights were there already.
    """
    app.mkdir(parents=True, exist_ok=True)
    for path in APP_FILES.glob("*.py"):
        shutil.copy(path, app)
    kept = []
    for name in models:
        target = app / "model" / name
        if reset:
            shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(bundles / name / "configs", target / "configs", dirs_exist_ok=True)
        if (target / "models" / "model.pt").is_file():
            kept.append(name)
        else:
            (target / "models").mkdir(exist_ok=True)
            shutil.copy(bundles / name / "models" / "model.pt", target / "models")
    return kept


def write_demo(folder: Path) -> Path:
    """Write synthetic phantoms, and return the folder of their images."""
    from equivariant_nets.data import write_phantoms

    return write_phantoms(folder, num_training=1, num_validation=1, num_test=4) / "imagesTs"


class Server:
    """A running server of MONAI Label.

    Args:
        app: a folder that :func:`prepare_app` wrote.
        models: names of its bundles.
        studies: a folder of images, or the address of a DICOMweb server.
        uncertainty: the model whose uncertainty chooses images, or None.
        dropout: probability of dropping a feature, for the uncertainty.
        host: to listen on.
        port: to listen on.
        hosts: further names that clients may ask for.
        token: what clients must bear, or nothing.
        max_upload_mb: the largest request.
    """

    def __init__(
        self,
        app: Path,
        models: Sequence[str],
        studies: str,
        uncertainty: str | None = None,
        dropout: float = DROPOUT,
        host: str = "127.0.0.1",
        port: int = 8000,
        hosts: Sequence[str] = (),
        token: str = "",
        max_upload_mb: int = MAX_UPLOAD_MB,
    ) -> None:
        check_port(host, port)
        names = [*hosts, *own_names(host)]
        self.address = f"http://{names[0] if host == '0.0.0.0' else host}:{port}"
        self.local_address = f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"
        self.token = token
        self.log = app / "logs" / "server.log"
        conf = {"models": ",".join(models)}
        if uncertainty:
            conf |= {"epistemic_model": uncertainty, "epistemic_dropout": str(dropout)}
        command = [sys.executable, "-m", "monailabel.main", "start_server", "--app", str(app), "--studies", studies]
        command += ["--host", host, "--port", str(port), "--uvicorn_app", "server:app"]
        command += [word for pair in conf.items() for word in ("--conf", *pair)]
        self.log.parent.mkdir(exist_ok=True)
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, [str(app), os.environ.get("PYTHONPATH")])),
            "MONAI_LABEL_SESSION_PATH": str(app / "sessions"),
            "LABEL_ADDRESS": self.local_address,
            "LABEL_HOSTS": json.dumps(names),
            "LABEL_TOKEN": token,
            "LABEL_MAX_UPLOAD_MB": str(max_upload_mb),
            "LABEL_END_WITH_STDIN": "true",
        }
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command, cwd=app, env=environment, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT
            )

    def wait(self) -> None:
        """Return when it answers; an error if it stops before, or does not start in time."""
        end = time.monotonic() + START_SECONDS
        request = urllib.request.Request(f"{self.local_address}/info/")
        request.add_header("Authorization", f"Bearer {self.token}")
        while time.monotonic() < end and self.process.poll() is None:
            try:
                with urllib.request.urlopen(request, timeout=30):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.3)
        self.stop()
        last = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
        raise UsageError(f"The server did not start. The last lines of {self.log} are:\n{last}")

    def stop(self) -> None:
        """End it and wait for the end."""
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def wait_for_end(process: subprocess.Popen, parent: int | None) -> None:
    """Return when a process has ended, or the parent of this one, where it is given."""
    while process.poll() is None and parent in (None, os.getppid()):
        time.sleep(0.5)


def instructions(server: Server, models: Sequence[str], studies: str, uncertainty: str | None) -> str:
    """What a user does in 3D Slicer."""
    clicked = [name for name in models if "deepedit" in name]
    automatic = [name if name not in clicked else f"{name}_seg" for name in models]
    strategies = "epistemic (the most uncertain first), first or random" if uncertainty else "first or random"
    lines = [
        f"MONAI Label serves {studies} at {server.address}",
        "",
        "In 3D Slicer, with the extension MONAILabel, open the module MONAI Label:",
        f"  MONAI Label server   {server.address}, then the button beside it that connects",
        f"  Next Sample          opens an image; strategies: {strategies}",
        f"  Auto Segmentation    choose {' or '.join(automatic)}, then Run",
    ]
    if clicked:
        lines.append(
            f"  SmartEdit            choose {' or '.join(clicked)} and a label, click where it is missing, then Update"
        )
    if server.token:
        lines.insert(4, f"                       It asks for a user, any name, and a password: {server.token}")
    lines += [
        "  Submit Label         stores the corrected label; from three labels on, Train fine-tunes the chosen model",
        "",
        f"The log is {server.log}. Ctrl+C stops the server.",
    ]
    return "\n".join(lines)


def choose_models(names: str | None, bundles: Path, has_studies: bool) -> list[str]:
    """The models asked for; else those of the hippocampus that are trained, and that of the phantoms for these."""
    if names:
        return [name.strip() for name in names.split(",") if name.strip()]
    trained = [name for name in MODELS if (bundles / name / "models" / "model.pt").is_file()]
    return trained if has_studies else [DEMO_MODEL, *trained]


def serve(
    *,
    models: str | None = None,
    studies: str | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    bundles: Path = BUNDLES,
    app: Path = OUTPUT / "app",
    reset: bool = False,
    uncertainty: str | None = None,
    dropout: float = DROPOUT,
    hosts: str = "",
    token_file: Path | None = None,
    max_upload_mb: Annotated[int, Parameter(validator=validators.Number(gte=1))] = MAX_UPLOAD_MB,
    end_with_parent: bool = False,
) -> None:
    """Serve bundles in MONAI Label, and say what to do in 3D Slicer.

    It runs in the environment that ``make label`` sets up, and needs no network.

    Args:
        models: bundles, separated by commas. By default those of the hippocampus, if trained.
        studies: folder of images, or address of a DICOMweb server. By default phantoms.
        host: to listen on; 0.0.0.0 for other computers too, who then need the token that is printed.
        port: to listen on.
        bundles: folder of bundles.
        app: folder for the app and fine-tuned weights.
        reset: forget fine-tuned weights.
        uncertainty: the model whose uncertainty chooses images, or none. By default the first.
        dropout: of dropping a feature, for uncertainty.
        hosts: further names that clients may ask for, such as that of a reverse proxy, separated by commas.
        token_file: file of the token that every client needs; it is written if it is missing. By default the token is
            new at each start, and needed beyond this computer alone.
        max_upload_mb: the largest request.
        end_with_parent: end when the process that started this has ended.
    """
    parent = os.getppid()
    app, bundles = app.expanduser().absolute(), bundles.expanduser().absolute()
    names = choose_models(models, bundles, studies is not None)
    check_models(names, bundles)
    chooser = None if uncertainty == "none" else uncertainty or names[0]
    if chooser and chooser not in names:
        raise UsageError(f"--uncertainty {chooser} is none of the models: {', '.join(names)}.")
    place = check_studies(studies) if studies else str(write_demo(OUTPUT / "phantoms"))
    check_port(host, port)
    token = read_token(token_file, host)
    if importlib.util.find_spec("monailabel") is None:
        raise UsageError(
            f"MONAI Label is not installed for {sys.executable}. `make label` installs it and starts this."
        )
    if kept := prepare_app(app, names, bundles, reset):
        print(f"Weights of an earlier server are used, in {app / 'model'}: {', '.join(kept)}. --reset forgets them.")
    print("MONAI Label starts ...", flush=True)
    more = [name.strip() for name in hosts.split(",") if name.strip()]
    server = Server(app, names, place, chooser, dropout, host, port, more, token, max_upload_mb)
    try:
        server.wait()
        print(instructions(server, names, place, chooser), flush=True)
        wait_for_end(server.process, parent if end_with_parent else None)
    finally:
        server.stop()
    if end_with_parent and os.getppid() != parent:
        return
    raise UsageError(f"The server ended with exit code {server.process.returncode}; {server.log} says why.")


def _stop(*_: object) -> NoReturn:
    raise KeyboardInterrupt


cli = command_line(serve)

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop)
    try:
        cli()
    except KeyboardInterrupt:
        print("Stopped.")
    except UsageError as error:
        sys.exit(str(error))
