"""Laws of clicks through a server of MONAI Label: they improve, wherever the file's axes point, or are refused."""

import nibabel as nib
import numpy as np
import pytest
from clients import DEEPEDIT, HIPPOCAMPUS
from nibabel.orientations import apply_orientation, axcodes2ornt, ornt_transform

from equivariant_nets.interaction import next_click

LABELS = {"anterior hippocampus": 1, "posterior hippocampus": 2, "background": 0}


def dice(pred, label):
    return np.mean([2 * np.sum((pred == v) & (label == v)) / np.sum((pred == v) + (label == v)) for v in (1, 2)])


def array(image):
    return np.asarray(image.dataobj)


def corrected(server, case, label, clicks):
    """The segmentation after some simulated clicks, the one before, and the clicks."""
    given = {name: [] for name in LABELS}
    before = pred = array(server.segment(DEEPEDIT, case, **given))
    for _ in range(clicks):
        name, voxel = next_click(pred, label, LABELS)
        given[name].append([int(n) for n in voxel])
        pred = array(server.segment(DEEPEDIT, case, **given))
    return before, pred, given


def test_clicks_improve_real_hippocampi(server, hippocampi):
    for case, (_, label) in hippocampi.items():
        label = array(nib.load(label))
        before, after, _ = corrected(server, case, label, 5)
        assert dice(after, label) > dice(before, label), case


def test_a_click_lands_where_it_was_set_in_every_orientation(server, hippocampi):
    case, (path, label) = next(iter(hippocampi.items()))
    image = nib.load(path)
    _, expected, clicks = corrected(server, case, array(nib.load(label)), 2)
    for axcodes in ("LPS", "SAR"):
        change = ornt_transform(axcodes2ornt(nib.aff2axcodes(image.affine)), axcodes2ornt(axcodes))
        nib.save(image.as_reoriented(change), server.studies / f"turned_{axcodes}.nii.gz")
        moved = {name: [moved_voxel(voxel, change, image.shape) for voxel in voxels] for name, voxels in clicks.items()}
        server.wait_for_images(f"turned_{axcodes}")
        result = array(server.segment(DEEPEDIT, f"turned_{axcodes}", **moved))
        (server.studies / f"turned_{axcodes}.nii.gz").unlink()
        assert np.array_equal(result, apply_orientation(expected, change)), axcodes


def moved_voxel(voxel, change, shape):
    mark = np.zeros(shape)
    mark[tuple(voxel)] = 1
    return np.argwhere(apply_orientation(mark, change))[0].tolist()


def test_without_clicks_both_models_of_the_bundle_are_one(server):
    first, second = (array(server.segment(name, "phantom_turned")) for name in (DEEPEDIT, f"{DEEPEDIT}_seg"))
    assert np.array_equal(first, second)


@pytest.mark.parametrize(
    ("clicks", "message"),
    [
        ({"anterior hippocampus": [[3, 4, 500]]}, "lies outside the volume; legal voxel indices are 0 to 25 x 0 to 21"),
        ({"anterior hippocampus": [[3, 4]]}, "legal are three finite voxel indices"),
        ({"background": [["a", 1, 2]]}, "legal are three finite voxel indices"),
        ({"liver": [[3, 4, 5]]}, "There are clicks under 'liver'; the labels that can be clicked are 'anterior hip"),
    ],
    ids=["outside", "two coordinates", "text", "unknown label"],
)
def test_bad_clicks_are_refused_and_the_server_lives_on(clicks, message, server):
    answer = server.infer(DEEPEDIT, "phantom_turned", **clicks)
    assert answer.status_code == 400, answer.text
    assert message in answer.json()["detail"]
    assert server.infer(DEEPEDIT, "phantom_turned").status_code == 200


def test_clicks_do_not_disturb_a_model_that_takes_none(server):
    with_click, without = (
        server.segment(HIPPOCAMPUS, "phantom_turned", **clicks) for clicks in ({"background": [[3, 4, 5]]}, {})
    )
    assert np.array_equal(array(with_click), array(without))
