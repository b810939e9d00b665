"""Laws of clicks from a file: they reach the image they are for, or an error says why not."""

import json

import pytest

from equivariant_nets.interaction import read_clicks, with_clicks

NAMES = {"head": 1, "tail": 2, "background": 0}
DATA = [{"image": "/data/a.nii.gz"}, {"image": "/data/b.nii.gz"}]
CLICKS = {"b.nii.gz": {"head": [[1, 2, 3], [4, 5, 6]], "background": []}}
WITH_CLICKS = [{"image": "/data/a.nii.gz"}, {"image": "/data/b.nii.gz", "head": [[1, 2, 3], [4, 5, 6]]}]


def test_clicks_reach_their_image_from_a_dictionary_a_file_and_by_the_whole_path(tmp_path):
    path = tmp_path / "clicks.json"
    path.write_text(json.dumps(CLICKS))
    for clicks in (CLICKS, path, str(path), {"/data/b.nii.gz": CLICKS["b.nii.gz"]}):
        assert with_clicks(DATA, read_clicks(clicks), NAMES) == WITH_CLICKS
    assert with_clicks(DATA, read_clicks(None), NAMES) == DATA


@pytest.mark.parametrize(
    ("clicks", "message"),
    [
        ({"c.nii.gz": {}}, r"'c.nii.gz', which is not among the 2 images to segment: a.nii.gz, b.nii.gz"),
        ({"a": {"head": [[1, 2, 3]]}}, "name of a file with its ending"),
        ({"a.nii.gz": {"heart": [[1, 2, 3]]}}, "'a.nii.gz' are on 'heart'; the labels .* 'head', 'tail', 'background'"),
        ({"a.nii.gz": [[1, 2, 3]]}, "legal is a list for each label"),
        ({"a.nii.gz": {"head": 3}}, "legal is a list for each label"),
    ],
)
def test_clicks_for_what_is_not_there_are_refused(clicks, message):
    with pytest.raises(ValueError, match=message):
        with_clicks(DATA, clicks, NAMES)


def test_a_bad_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.json does not exist"):
        read_clicks(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(ValueError, match=r"bad\.json is not valid JSON"):
        read_clicks(tmp_path / "bad.json")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(ValueError, match=r"list\.json is a list"):
        read_clicks(str(tmp_path / "list.json"))
    with pytest.raises(ValueError, match="clicks is a list, not a dictionary by file name"):
        read_clicks([1])
