"""Archives as the Model Zoo distributes bundles, which hold what their configs reach of this package.

The Model Zoo installs required packages by their names, and ``equivariant_nets`` may not be found by its name. So an
archive has a copy of the modules at the root of the bundle, and does not require the package.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import equivariant_nets
from equivariant_nets.files import replace_file
from equivariant_nets.zoo.bundle import METADATA, PACKAGE, Bundle
from equivariant_nets.zoo.check import check_bundle
from equivariant_nets.zoo.files import archived_files, large_files, missing_weights
from equivariant_nets.zoo.modules import reachable_modules
from equivariant_nets.zoo.style import zoo_style

__all__ = ["archive_content", "pack_bundle"]

_SOURCE = Path(equivariant_nets.__file__).parent
_TIME = (1980, 1, 1, 0, 0, 0)  # the first that an archive can hold
_UNIX, _MODE = 3, 0o100644


def pack_bundle(
    path: str | Path,
    output_dir: str | Path,
    without_weights: bool = False,
    quick: bool = False,
    in_zoo_style: bool = False,
) -> Path:
    """Check a bundle and write ``<name>_v<version>.zip``.

    The bytes depend on the files that go in alone (see :func:`archive_content`), and in the style of the Model Zoo on
    the versions of its formatters. Entries are sorted, have one time and one mode, and are stored uncompressed, because
    versions of zlib compress differently; weights hardly shrink anyway.
    An archive of that name is replaced, at once.

    Args:
        path: folder of the bundle.
        output_dir: receives the archive; made where it does not exist.
        without_weights: accept a bundle that has no weights, to be trained by whoever unpacks it.
        quick: leave out the part of the check that builds the networks.
        in_zoo_style: the modules as the formatters of the Model Zoo leave them, which its pull requests need.

    Returns:
        path of the archive.

    Raises:
        ModuleNotFoundError: the formatters are asked for, and are not installed.
        ValueError: the path is no bundle, the check has findings, which the message lists, there are no weights, or
            output_dir is no folder.
    """
    if Path(output_dir).exists() and not Path(output_dir).is_dir():
        raise ValueError(f"output_dir {output_dir} is a file; legal is a folder, which is made where there is none.")
    bundle = Bundle(Path(path))
    missing = None if without_weights else missing_weights(bundle)
    if findings := [*check_bundle(path, quick=quick), *([missing] if missing else [])]:
        raise ValueError("\n".join(findings))
    content = archive_content(bundle, in_zoo_style)
    Path(output_dir).mkdir(parents=True, exist_ok=True)
    archive = Path(output_dir) / f"{bundle.name}_v{bundle.metadata['version']}.zip"
    with replace_file(archive, shared=True) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as file:
        for name in sorted(content):
            entry = zipfile.ZipInfo(f"{bundle.name}/{name}", _TIME)
            entry.create_system, entry.external_attr = _UNIX, _MODE << 16
            file.writestr(entry, content[name])
    return archive


def archive_content(bundle: Bundle, in_zoo_style: bool = False) -> dict[str, bytes]:
    """What an archive of a bundle holds, by path below the bundle.

    These are the files of the bundle that ``equivariant_nets.zoo.files.ARCHIVED`` lists, other than those that its
    ``large_files.yml`` offers for download, and the modules of the package that its configs can reach. They are copied
    as they are, but for the metadata, which no longer requires the package, and for the modules ``in_zoo_style``.
    """
    large = {entry.get("path") for entry in large_files(bundle)}
    content = {file: (bundle.root / file).read_bytes() for file in archived_files(bundle) if file not in large}
    required = {key: text for key, text in bundle.metadata["required_packages_version"].items() if key != PACKAGE}
    metadata = {**bundle.metadata, "required_packages_version": required}
    content[METADATA] = (json.dumps(metadata, indent=4, ensure_ascii=False) + "\n").encode()
    for module in reachable_modules(bundle):
        source = (_SOURCE / module).read_bytes()
        if in_zoo_style and module.suffix == ".py":
            try:
                source = zoo_style(source.decode()).encode()
            except ValueError as error:  # of black
                raise ValueError(f"{module} cannot be formatted for the Model Zoo: {error}") from error
        content[f"{PACKAGE}/{module.as_posix()}"] = source
    return content
