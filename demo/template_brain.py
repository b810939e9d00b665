"""The template brain MNI152, out of a wheel on the package index of which nothing is installed."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

from equivariant_nets.files import replace_file

__all__ = ["NOTICE", "fetch_template"]

REQUIREMENT = Path(__file__).resolve().parent / "template.txt"  # the version, and the checksum that pip asks for
MEMBER = "nilearn/datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
# In the wheel the licence of the template stands as unknown; this is the notice of the institute.
NOTICE = (
    "Template MNI152 (ICBM 2009a, symmetric): copyright 1993-2009 Louis Collins, McConnell Brain Imaging Centre, "
    "Montreal Neurological Institute, McGill University; free to use, copy, modify and distribute under this notice, "
    "as is and without warranty. Fonov et al., NeuroImage 54, 313-327 (2011)."
)


def fetch_template(folder: Path) -> Path | None:
    """The average of 152 brains in T1-weighted MRI, without skull, at 1 mm.

    Args:
        folder: receives the wheel and the file; what lies there is not fetched again.

    Returns:
        the NIfTI file; None, after a line that says why, where the package index cannot be reached.
    """
    file = folder / Path(MEMBER).name
    if file.is_file():
        return file
    folder.mkdir(parents=True, exist_ok=True)
    print("Fetching a brain: the template MNI152, 11 MB, out of the wheel of nilearn", flush=True)
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--require-hashes", "--retries=1", "--timeout=10"]
    command += ["--requirement", str(REQUIREMENT), "--dest", str(folder)]
    download = subprocess.run(command, check=False, stderr=subprocess.PIPE, text=True)
    wheel = next(folder.glob("nilearn-*.whl"), None)
    if download.returncode != 0 or wheel is None:
        reason = next(reversed(download.stderr.strip().splitlines()), f"exit code {download.returncode}")
        print(f"No brain could be fetched, so the demo goes on with phantoms alone. pip says: {reason}", flush=True)
        return None
    with zipfile.ZipFile(wheel) as archive, replace_file(file) as unfinished:
        unfinished.write_bytes(archive.read(MEMBER))
    return file
