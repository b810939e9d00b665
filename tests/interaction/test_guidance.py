"""Laws of clicks as channels: they lie where the user clicked, and turn with the image."""

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, NormalizeIntensityd, Orientationd, Spacingd

from equivariant_nets import SteerableUNet
from equivariant_nets.data import LoadVolumed, NormalizeContentd
from equivariant_nets.equivariance import transform_field
from equivariant_nets.interaction import AddClickGuidanced, click_signal
from equivariant_nets.interaction.guidance import add_click, content_of_image
from equivariant_nets.rotations import lattice_rotations, lattice_symmetries, plane_rotation

NAMES = {"head": 1, "tail": 2, "background": 0}
SIZE = (5, 7, 6)
SIGMA = 1.5
PREPROCESSING = [
    LoadVolumed("image"),
    Orientationd("image", axcodes="RAS", labels=None),
    Spacingd("image", pixdim=(1.0, 1.0, 1.0), mode="bilinear"),
    NormalizeIntensityd("image"),
]
AFFINES = {
    **{str(i): matrix @ np.diag([1.0, 2.0, 1.5]) for i, matrix in enumerate(lattice_symmetries())},
    "oblique": plane_rotation("axial", 20) @ plane_rotation("coronal", 35) @ np.diag([1.2, 0.8, 2.5]),
}


def write(path, spacing_and_axes=None, size=SIZE):
    affine = np.eye(4)
    affine[:3, 3] = -20.0, 11.0, 7.5
    affine[:3, :3] = np.eye(3) if spacing_and_axes is None else spacing_and_axes
    nib.save(nib.Nifti1Image(np.random.RandomState(0).rand(*size).astype(np.float32), affine), path)
    return affine


def preprocessed(path, **options):
    clicks = {name.replace("_", " "): points for name, points in options.items()}
    return Compose([*PREPROCESSING, AddClickGuidanced("image", NAMES, SIGMA)])({"image": str(path), **clicks})


def world(affine, voxels):
    return np.asarray(voxels) @ np.asarray(affine)[:3, :3].T + np.asarray(affine)[:3, 3]


@pytest.mark.parametrize("axes", AFFINES)
def test_a_click_lies_where_the_user_clicked_in_every_orientation_and_spacing(axes, tmp_path):
    file_affine = write(tmp_path / "a.nii.gz", AFFINES[axes])
    click = [3, 1, 4]
    image = preprocessed(tmp_path / "a.nii.gz", tail=[click])["image"]
    assert image.shape[0] == 4
    voxels = np.moveaxis(np.indices(image.shape[1:]), 0, -1)
    squared_mm = ((world(image.affine, voxels) - world(file_affine, click)) ** 2).sum(-1)
    assert np.allclose(image[2], np.exp(-squared_mm / (2 * SIGMA**2)), atol=1e-4)
    assert not image[[1, 3]].any()


def test_clicks_leave_filling_as_it_is(tmp_path):
    """A network that normalizes over content takes for filling what is 0 in all channels, clicks included."""
    values = np.random.RandomState(0).rand(14, 12, 13).astype(np.float32) + 1
    values[:, :4] = 0  # as tools fill what a turned volume leaves of its canvas
    nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / "a.nii.gz")
    steps = [
        LoadVolumed("image"),
        NormalizeContentd("image"),
        AddClickGuidanced("image", NAMES, SIGMA, within_content=True),
    ]
    item = {"image": str(tmp_path / "a.nii.gz"), "tail": [[6, 5, 6]], "background": [[6, 1, 6]]}
    image = Compose(steps)(item)["image"].as_tensor()
    filling = image[0] == 0
    assert filling.sum() == (values == 0).sum()
    assert not image[:, filling].any()
    assert image[2].max() == 1  # the click beside the filling is there
    clicked = add_click(image, 1, (6, 4, 6), SIGMA, content_of_image(image[:1]))
    assert clicked[1].max() == 1
    assert not clicked[:, filling].any()


def test_every_corner_of_the_file_can_be_clicked(tmp_path):
    write(tmp_path / "a.nii.gz")
    corners = [[0, 0, 0], [n - 1 for n in SIZE], [0, SIZE[1] - 1, 0]]
    signal = preprocessed(tmp_path / "a.nii.gz", head=corners)["image"][1]
    assert [signal[tuple(corner)].item() for corner in corners] == pytest.approx([1, 1, 1])


def test_without_clicks_the_channels_are_zero_and_the_image_is_as_it_was(tmp_path):
    write(tmp_path / "a.nii.gz", AFFINES["oblique"])
    plain = Compose(PREPROCESSING)({"image": str(tmp_path / "a.nii.gz")})["image"]
    for clicks in ({}, {"head": []}, {"head": None, "background": []}):
        image = preprocessed(tmp_path / "a.nii.gz", **clicks)["image"]
        assert torch.equal(image[:1].as_tensor(), plain.as_tensor())
        assert not image[1:].any()


def test_channels_for_clicks_are_replaced_and_the_item_keeps_no_clicks(tmp_path):
    write(tmp_path / "a.nii.gz")
    item = preprocessed(tmp_path / "a.nii.gz", head=[[1, 2, 3]])
    assert set(item) == {"image"}
    assert item["image"].shape == (4, *SIZE)
    again = AddClickGuidanced("image", NAMES, SIGMA)({**item, "tail": [[1, 2, 3]]})["image"]
    assert torch.equal(again[2], item["image"][1])
    assert not again[1].any()


def test_a_prediction_is_inverted_into_the_space_of_the_file(tmp_path):
    file_affine = write(tmp_path / "a.nii.gz", AFFINES["17"])
    pipeline = Compose([*PREPROCESSING[:3], AddClickGuidanced("image", NAMES, SIGMA)])
    item = pipeline({"image": str(tmp_path / "a.nii.gz"), "head": [[3, 1, 4]]})
    back = pipeline.inverse(item)["image"]
    assert back.shape == (4, *SIZE)
    assert np.allclose(back.affine, file_affine, atol=1e-5)
    assert np.unravel_index(int(back[1].argmax()), SIZE) == (3, 1, 4)


def test_a_second_click_leaves_the_first_as_it_is():
    one = click_signal((9, 9, 9), [[4, 4, 4]], 2.0)
    two = click_signal((9, 9, 9), [[4, 4, 4], [4, 4, 5.5]], 2.0)
    assert one.max() == two.max() == 1
    assert (two >= one).all()
    assert torch.equal(click_signal((9, 9, 9), [[4, 4, 4]] * 3, 2.0), one)


@pytest.mark.parametrize(("group", "matrices"), [("SO3", lattice_rotations()), ("O3", lattice_symmetries())])
@pytest.mark.parametrize("size", [(8, 9, 11), (10, 8, 8)])
def test_the_network_turns_with_image_and_clicks(group, matrices, size):
    features = {"SO3": "2x0e+1x1e+1x2e", "O3": "2x0e+1x0o+1x1o+1x1e"}[group]
    network = SteerableUNet(irreps_in="4x0e", irreps_out="3x0e", features=features, depth=2, group=group).eval()
    image = torch.randn(1, 1, *size)
    clicks = {1: [[1, 2, 3], [5, 6.5, 7]], 2: [], 3: [[7, 0, 4]]}

    def logits(volume, points):
        signals = [click_signal(volume.shape[2:], points[channel], SIGMA) for channel in (1, 2, 3)]
        with torch.no_grad():
            return network(torch.cat([volume, torch.stack(signals)[None]], 1))

    upright = logits(image, clicks)
    assert not torch.allclose(upright, logits(image, {**clicks, 1: []}), atol=1e-3)  # clicks matter
    for matrix in matrices:
        turned = transform_field(image, matrix)
        centres = [(np.array(volume.shape[2:]) - 1) / 2 for volume in (image, turned)]
        points = {
            channel: [matrix @ (np.array(point) - centres[0]) + centres[1] for point in of_channel]
            for channel, of_channel in clicks.items()
        }
        assert (logits(turned, points) - transform_field(upright, matrix)).abs().max() < 1e-4


BAD_CLICKS = {
    "outside": ({"head": [[1, 2, 6]]}, r"click \[1, 2, 6\] on 'head' .*0 to 4 x 0 to 6 x 0 to 5.*not millimetres"),
    "negative": ({"tail": [[0, 0, 0], [-1, 2, 3]]}, r"click \[-1, 2, 3\] on 'tail' lies outside"),
    "two coordinates": ({"background": [[1, 2]]}, r"on 'background' is \[1, 2\]; legal are three"),
    "one point, no list": ({"head": [1, 2, 3]}, "on 'head' is 1; legal are three"),
    "NaN": ({"head": [[1, float("nan"), 3]]}, r"is \[1, nan, 3\]; legal are three finite"),
    "text": ({"head": [["a", "b", "c"]]}, "legal are three finite"),
    "unknown label": ({"heart": [[1, 2, 3]]}, "clicks under 'heart'; the labels .* are 'head', 'tail'"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD_CLICKS)
def test_bad_clicks_are_refused_with_the_file_and_what_is_legal(kind, tmp_path):
    write(tmp_path / "a.nii.gz")
    clicks, message = BAD_CLICKS[kind]
    image = Compose(PREPROCESSING)({"image": str(tmp_path / "a.nii.gz")})["image"]
    with pytest.raises(ValueError, match=message) as error:
        AddClickGuidanced("image", NAMES)({"image": image, **clicks})
    assert kind == "unknown label" or str(tmp_path / "a.nii.gz") in str(error.value)


@pytest.mark.parametrize("image", [torch.zeros(1, *SIZE), MetaTensor(torch.zeros(1, *SIZE))])
def test_clicks_on_an_image_without_the_affine_of_its_file_are_refused(image):
    with pytest.raises(ValueError, match="Load the image by LoadVolumed"):
        AddClickGuidanced("image", NAMES)({"image": image, "head": [[1, 2, 3]]})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_names": {}}, "give each label a value"),
        ({"label_names": {"Head": 1, "background": 0}}, "in lower case"),
        ({"label_names": {"head": 1, "tail": 1}}, "a value of its own"),
        ({"label_names": NAMES, "sigma": 0}, "sigma=0 is not legal"),
        ({"label_names": NAMES, "sigma": float("nan")}, "sigma=nan is not legal"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        AddClickGuidanced("image", **options)
