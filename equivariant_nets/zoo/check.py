"""The check of a bundle, which lists all that is wrong instead of the first."""

from __future__ import annotations

from pathlib import Path

from equivariant_nets.zoo.build import build_findings
from equivariant_nets.zoo.bundle import METADATA, Bundle
from equivariant_nets.zoo.card import card_findings
from equivariant_nets.zoo.configs import config_findings
from equivariant_nets.zoo.files import REQUIRED, file_findings
from equivariant_nets.zoo.metadata import check_schema, metadata_findings
from equivariant_nets.zoo.networks import network_findings

__all__ = ["check_bundle"]


def check_bundle(path: str | Path, schema: str | Path | None = None, quick: bool = False) -> list[str]:
    """Check a bundle by what the Model Zoo and MONAI's commands ask for, and by what its own files say of each other.

    The configs of a bundle are code, and are run unless ``quick``: check what you trust.

    Args:
        path: folder of the bundle.
        schema: a file of JSON schema that the metadata must satisfy.
        quick: run nothing of the bundle: leave out what builds the networks, which takes seconds to a minute, and what
            imports modules of packages that are not this one's own or those that it needs. The former is left out as
            well where the files, the metadata or the configs have findings.

    Returns:
        one text a finding; empty if the bundle is sound. That it ships no weights is none where its card says so.

    Raises:
        ValueError: the schema cannot be used.
    """
    try:
        bundle = Bundle(Path(path))
    except ValueError as error:
        return [str(error)]
    findings = list(file_findings(bundle))
    unreadable = []
    for file in (METADATA, *(f"configs/{name}" for name in bundle.config_files)):
        try:
            if (bundle.root / file).is_file():
                bundle.read_json(file)
        except ValueError as error:
            unreadable.append(str(error))
    findings += unreadable
    if unreadable or any(not (bundle.root / file).is_file() for file in REQUIRED if file.endswith(("json", "md"))):
        return findings
    findings += [*metadata_findings(bundle), *config_findings(bundle, quick), *build_findings(bundle)]
    if schema is not None and (finding := check_schema(bundle, schema)):
        findings.append(finding)
    sound = not findings
    findings += card_findings(bundle)
    return findings + list(network_findings(bundle) if sound and not quick else ())
