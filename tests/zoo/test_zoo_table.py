"""The table of the bundles is that of their files."""

import pytest
from bundle_files import BUNDLES, NAMES

from equivariant_nets.zoo import bundle_table
from equivariant_nets.zoo.__main__ import table


@pytest.fixture(scope="module")
def page():
    return bundle_table(BUNDLES)


def test_the_committed_table_is_that_of_the_bundles(page):
    committed = (BUNDLES / "README.md").read_text(encoding="utf-8")
    assert committed == page, "run python -m equivariant_nets.zoo table bundles"


def test_each_bundle_has_a_row(page):
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| [")]
    assert [row[0] for row in rows] == [f"[{name}]({name}/docs/README.md)" for name in NAMES]
    assert all(len(row) == 9 and all(row) for row in rows)
    assert {row[7] for row in rows} == {"yes"}
    by_name = dict(zip(NAMES, rows, strict=True))
    assert by_name["hippocampus_mri_so3_segmentation"][1:] == [
        "Segmentation of the anterior and posterior hippocampus", "`SteerableUNet`, SO3", "32,747",
        "Medical Segmentation Decathlon, Task04_Hippocampus", "0.1.0", "mean dice 0.872", "yes", "CC BY-SA 4.0",
    ]  # fmt: skip
    assert by_name["brain_tumor_mri_scale_segmentation"][2:4] == ["`ScaleUNet`", "35,983"]
    two = "`SteerableUNet`, SO3 and `SteerableUNet`, O3"
    assert by_name["brain_structures_mri_sides_segmentation"][2:4] == [two, "173,767"]
    assert by_name["retina_vessels_fundus_e2_segmentation"][2] == "`RegularUNet`, D8"


def test_the_command_writes_the_table_into_the_folder(copy_of, tmp_path):
    copy_of()
    assert table(str(tmp_path)) == f"{tmp_path}/README.md lists 1 bundles"
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == bundle_table(tmp_path)
    with pytest.raises(SystemExit, match=r"docs holds no bundle. Give the folder"):
        table(str(BUNDLES / NAMES[0] / "docs"))
