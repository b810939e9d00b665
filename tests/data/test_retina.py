"""Laws of the lists of fundus photographs: patients never cross sections, and nothing that is missing is overlooked."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from photographs import WRITERS
from PIL import Image

from equivariant_nets.data import retina_datalist
from equivariant_nets.data.retina import SOURCES

SECTIONS = ("training", "validation", "test")
COUNTS = {
    "drive": (16, 4, 20),
    "chase_db1": (16, 4, 8),
    "stare": (0, 0, 3),
    "prime_fp20": (7, 1, 2),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("retina")
    for name, write in WRITERS.items():
        write(root / name)
    return root


@pytest.mark.parametrize("name", WRITERS)
def test_every_photograph_is_in_one_section(folder, name):
    cases = []
    for section, count in zip(SECTIONS, COUNTS[name], strict=True):
        if count:
            items = retina_datalist(folder, section, name)
            assert len(items) == count
            assert all(Path(item[key]).is_file() for item in items for key in ("image", "label"))
            assert {item["dataset"] for item in items} == {name}
            cases += [item["case"] for item in items]
        else:
            with pytest.raises(ValueError, match=f"{name} has no {section} section"):
                retina_datalist(folder, section, name)
    assert len(set(cases)) == len(cases) == sum(COUNTS[name])


def test_both_eyes_of_a_child_stay_together(folder):
    children = [{item["case"][:-1] for item in retina_datalist(folder, section, "chase_db1")} for section in SECTIONS]
    assert [len(own) for own in children] == [8, 2, 4]
    assert len(set.union(*children)) == 14
    assert children[2] == {f"chase_{child}" for child in (11, 12, 13, 14)}


def test_image_and_labels_belong_together(folder):
    for item in retina_datalist(folder, "test", ["drive", "chase_db1"], ["mask", "second_label"]):
        number = re.search(r"(\d\d[LR]?)$", item["case"])[1]
        assert all(number in Path(item[key]).name for key in ("image", "label", "second_label"))
        assert ("mask" in item) == (item["dataset"] == "drive")
        first, second = (np.asarray(Image.open(item[key])) > 0 for key in ("label", "second_label"))
        assert (np.roll(first, 1, 0) == second).all()


def test_only_what_was_asked_for_is_given(folder):
    assert set(retina_datalist(folder, "test", "drive")[0]) == {"image", "label", "case", "dataset"}


def test_data_sets_come_in_the_order_given(folder):
    names = [item["dataset"] for item in retina_datalist(folder, "test", ["stare", "drive"])]
    assert names == ["stare"] * 3 + ["drive"] * 20


@pytest.mark.parametrize("name", WRITERS)
def test_a_missing_folder_says_where_to_get_the_data_and_the_layout(tmp_path, name):
    with pytest.raises(FileNotFoundError) as error:
        retina_datalist(tmp_path, "test", name)
    message = str(error.value)
    assert f"{tmp_path / name} does not exist" in message
    assert SOURCES[name].where in message
    assert SOURCES[name].layout in message


@pytest.mark.parametrize(
    ("name", "section", "lost"),
    [
        ("drive", "training", "training/1st_manual/22_manual1.gif"),
        ("drive", "test", "test/1st_manual/03_manual1.gif"),
        ("chase_db1", "training", "Image_07R.jpg"),
        ("stare", "test", "stare-images/im0001.ppm"),
        ("prime_fp20", "training", "labels/03.png"),
    ],
)
def test_missing_files_of_the_section_are_listed_and_no_others_asked_for(tmp_path, name, section, lost):
    WRITERS[name](tmp_path / name)
    (tmp_path / name / lost).unlink()
    with pytest.raises(FileNotFoundError) as error:
        retina_datalist(tmp_path, section, name)
    lines = str(error.value).splitlines()
    assert f"{section} section: 1 files are missing:" in lines[0]
    assert Path(lines[1].strip()).name == Path(lost).name
    assert SOURCES[name].where in lines[2]
    for other, count in zip(SECTIONS, COUNTS[name], strict=True):
        if other != section and count:
            assert len(retina_datalist(tmp_path, other, name)) == count


def test_drive_as_its_site_gives_it_today_trains(tmp_path):
    folder = WRITERS["drive"](tmp_path / "drive")
    for part in ("1st_manual", "2nd_manual"):
        shutil.rmtree(folder / "test" / part)
    assert len(retina_datalist(tmp_path, "training", "drive", ["mask"])) == 16
    assert len(retina_datalist(tmp_path, "validation", "drive")) == 4
    with pytest.raises(FileNotFoundError, match=r"(?s)test section: 20 files are missing.*site gives these labels"):
        retina_datalist(tmp_path, "test", "drive")


def test_second_observers_are_optional(tmp_path):
    for name, lost in (("drive", "test/2nd_manual/03_manual2.gif"), ("chase_db1", "Image_14L_2ndHO.png")):
        WRITERS[name](tmp_path / name)
        (tmp_path / name / lost).unlink()
        items = retina_datalist(tmp_path, "test", name, ["second_label"])
        assert sum("second_label" not in item for item in items) == 1


def test_an_empty_folder_is_no_data_set(tmp_path):
    (tmp_path / "stare").mkdir()
    with pytest.raises(FileNotFoundError, match="holds no labelled photograph"):
        retina_datalist(tmp_path, "test", "stare")


def test_illegal_arguments(folder):
    with pytest.raises(ValueError, match=r"datasets='messidor' is not legal; choose one or more of \['drive'"):
        retina_datalist(folder, "test", "messidor")
    with pytest.raises(ValueError, match="datasets="):
        retina_datalist(folder, "test", [])
    with pytest.raises(ValueError, match="section='all' is not one of training"):
        retina_datalist(folder, "all", "drive")


def test_the_real_data_sets(real_retina):
    for name, counts in {"drive": (16, 4, 20), "chase_db1": (16, 4, 8), "stare": (0, 0, 10)}.items():
        for section, count in zip(SECTIONS, counts, strict=True):
            if count:
                assert len(retina_datalist(real_retina, section, name, ["mask", "second_label"])) == count
