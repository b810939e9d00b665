"""Laws of the brain structure bundles: what they accept, and that pose, grid and intensities do not matter."""

import pickle
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from bundle_files import BRAIN, config, load_shipped, weights
from monai.metrics import compute_dice
from monai.transforms import AsDiscrete, AsDiscreted, Compose, Invertd, Lambdad, Spacing, SpatialPad, SpatialResample
from nibabel.orientations import axcodes2ornt, ornt_transform

from equivariant_nets import equivariance_error
from equivariant_nets.data import target_structures, write_brain_phantoms
from equivariant_nets.networks.regular import find_group
from equivariant_nets.rotations import plane_rotation

SO3, CONVENTIONAL, OCTAHEDRAL, SIDES = (
    f"brain_structures_mri_{family}_segmentation" for family in ("so3", "conventional", "octahedral", "sides")
)
PLANES = [(0, 1), (0, 2), (1, 2)]
FINE = {"spacing_mm": [1.0, 1.0, 1.0]}
HEAD_SPACING_MM = 6.0  # at which a small phantom is as large as a head
FEW_POSES = {"sweep_angles": [0], "sweep_random_poses": 1, "sweep_cases": 1, "sweep_scales": [1.0, 0.8]}


def brain(size=(24, 21, 27), seed=0):
    """A smooth brain without symmetry, off the centre of a background of 0, and not touching the border."""
    noise = torch.randn(1, 1, *size, generator=torch.Generator().manual_seed(seed))
    for _ in range(2):
        noise = torch.nn.functional.avg_pool3d(noise, 5, 1, 2)
    smooth = noise[0, 0].numpy()
    points = np.stack(np.meshgrid(*[np.linspace(-1, 1, side) for side in size], indexing="ij"))
    inside = ((points - np.reshape([0.1, -0.1, 0.05], (3, 1, 1, 1))) ** 2).sum(0) < 0.5
    return np.where(inside, (3 + smooth / smooth.std()).clip(0.2), 0).astype(np.float32)


def oblique(spacing_mm):
    """An affine in no lattice orientation, closest to RAS."""
    turn = plane_rotation((0, 2), 12.0) @ plane_rotation((1, 2), -12.0)
    return nib.affines.from_matvec(turn @ np.diag(spacing_mm), [-7, 30, 12])


def reoriented(image, axcodes):
    start, end = (axcodes2ornt(codes) for codes in (nib.aff2axcodes(image.affine), axcodes))
    return image.as_reoriented(ornt_transform(start, end))


@pytest.fixture
def segment(tmp_path, get_bundle, get_network, run_here):
    """Segment images, given by name, by a bundle with fixed random weights, which predict several classes."""

    def run(name, images, **overrides):
        folder = tmp_path / "images"
        folder.mkdir()
        for case, image in images.items():
            nib.save(image, folder / f"{case}.nii.gz")
        bundle, checkpoint = get_bundle(name), tmp_path / "random.pt"
        features = bundle.tiny["features"]
        torch.save(get_network(bundle.root, features).state_dict(), checkpoint)
        paths = {"dataset_dir": folder, "ckpt_path": checkpoint, "output_dir": tmp_path / "out"}
        options = {"features": features, **{key: str(path) for key, path in paths.items()}, **FINE, **overrides}
        run_here(bundle.root, "inference.json", **options)
        labels = {path.name.split("_seg")[0]: nib.load(path) for path in (tmp_path / "out").glob("*_seg.nii.gz")}
        assert labels.keys() == images.keys()
        assert all(len(np.unique(label.dataobj)) > 1 for label in labels.values())
        return labels

    return run


@pytest.mark.parametrize("name", BRAIN)
def test_the_classes_are_the_structures(name):
    parser = config(name)
    names = target_structures("sides" if name == SIDES else "structures")
    assert parser.get_parsed_content("class_names") == names
    label = torch.arange(16.0).clamp(max=len(names)).reshape(1, 2, 2, 4)
    item = {"pred": torch.nn.functional.one_hot(label[0].long()).movedim(-1, 0).float(), "label": label}
    result = parser.get_parsed_content("validate#postprocessing")(item)
    assert torch.equal(torch.as_tensor(result["pred"]), torch.as_tensor(result["label"]))
    assert len(result["label"]) == len(names) + 1


@pytest.mark.parametrize("name", [SO3, CONVENTIONAL, OCTAHEDRAL, SIDES])
def test_sides_are_classes_of_their_own(name):
    parser = config(name)
    parser.update({"targets": "sides"})
    assert parser.get_parsed_content("class_names") == target_structures("sides")
    net = parser.get_parsed_content("network_def").eval()
    with torch.no_grad():
        assert net(torch.zeros(1, 1, 33, 33, 33)).shape[1] == 14
    convert = parser.get_parsed_content("validate#preprocessing").transforms
    (labels,) = [step for step in convert if type(step).__name__ == "StructuresFromLabelsd"]
    mapped = labels({"label": torch.tensor([[[[47.0, 48, 35]]]]), "convention": "neuromorphometrics"})["label"]
    assert mapped.flatten().tolist() == [4, 3, 13]


def test_both_layouts_give_the_same_training_items(shared_brains):
    items = {}
    for layout, folder in shared_brains.items():
        parser = config(SO3, dataset_dir=str(folder), **FINE)
        preprocessing = parser.get_parsed_content("validate#preprocessing")
        items[layout] = [preprocessing(item) for item in parser.get_parsed_content("evaluation_data")]
    for item, same in zip(*items.values(), strict=True):
        assert torch.equal(item["image"].as_tensor(), same["image"].as_tensor())
        assert torch.equal(item["label"].as_tensor(), same["label"].as_tensor())
        assert torch.allclose(item["image"].affine, same["image"].affine, atol=1e-4)
        assert item["label"].unique().tolist() == list(range(8))


def test_the_training_sees_soft_labels_and_the_validation_whole_numbers(shared_brains):
    sizes = {"spacing_mm": [1.5] * 3, "patch_size": [16] * 3, "patches_per_case": 3}
    parser = config(SO3, dataset_dir=str(shared_brains["miccai"]), **sizes)
    (item, *_) = parser.get_parsed_content("train#dataset#data")
    transforms = {section: parser.get_parsed_content(f"{section}#preprocessing") for section in ("train", "validate")}
    transforms["train"].set_random_state(0)
    for patch in transforms["train"](item):
        labels = patch["label"].as_tensor()
        assert labels.shape == (8, 16, 16, 16)
        assert labels.min() > -1e-5
        assert ((labels > 0.05) & (labels < 0.95)).any()
    assert transforms["validate"](item)["label"].unique().tolist() == list(range(8))


@pytest.mark.parametrize("augmentation", ["none", "moderate", "full", "uniform", "lattice"])
def test_soft_labels_are_turned_as_images_are_and_the_rest_is_background(augmentation):
    parser = config(SO3, patch_size=[16] * 3, augmentation=augmentation)
    steps = parser.get_parsed_content("train#random_transforms")
    fill = next(place for place, step in enumerate(steps) if isinstance(step, Lambdad))
    turn = Compose(steps[fill - 1 : fill + 1]).set_random_state(1)
    image = torch.rand(1, 24, 24, 24, generator=torch.Generator().manual_seed(0))
    share = torch.linspace(0.05, 0.2, 7).reshape(7, 1, 1, 1)
    for _ in range(3):
        patch = turn({"image": image, "label": torch.cat([torch.zeros_like(image), share * image])})
        assert patch["label"].shape == (8, 16, 16, 16)
        assert torch.allclose(patch["label"][1:], share * patch["image"], atol=1e-6)
        assert torch.allclose(patch["label"][:1], 1 - share.sum() * patch["image"], atol=1e-5)
        assert torch.equal(patch["image"], image[:, 4:20, 4:20, 4:20]) == (augmentation == "none")


@pytest.mark.parametrize("name", BRAIN)
def test_other_processes_can_be_given_the_transforms(name):
    transforms = config(name).get_parsed_content("train#preprocessing")
    assert len(pickle.loads(pickle.dumps(transforms)).transforms) == len(transforms.transforms)


def test_labels_of_real_brains_outlive_coarser_voxels(real_brain_structures):
    parser = config(SO3, dataset_dir=str(real_brain_structures))
    steps = parser.get_parsed_content("train#deterministic_transforms")
    nearest = Spacing(parser.get_parsed_content("spacing_mm"), mode="nearest")
    soften = next(place for place, step in enumerate(steps) if isinstance(step, AsDiscreted))
    for item in parser.get_parsed_content("validate#dataset#data"):
        fine = Compose(steps[: soften + 1])(item)["label"]
        soft = Compose(steps)(item)["label"]
        volumes = [label[1:].sum((1, 2, 3)) * label.pixdim.prod() for label in (soft, fine)]
        assert torch.allclose(*volumes, rtol=0.02)  # nearest neighbours change that of ventricles by 5 %
        kept = []
        for label in (soft, nearest(fine)):
            back = SpatialResample(mode="bilinear")(label, dst_affine=fine.affine, spatial_size=fine.shape[1:])
            classes = AsDiscrete(argmax=True, to_onehot=8)(back)
            kept.append(compute_dice(classes[None], fine[None], include_background=False))
        assert kept[0].min() > 0.96
        assert (kept[0] > kept[1] + 0.01).all()


@pytest.mark.parametrize("name", BRAIN)
def test_the_orientation_of_the_file_does_not_matter(name, segment):
    upright = nib.Nifti1Image(brain(), oblique((1.0, 1.5, 0.8)))
    images = {axcodes: reoriented(upright, axcodes) for axcodes in ("RAS", "LAS", "PSR", "SAL", "IPL")}
    labels = segment(name, images)
    expected = labels["RAS"].get_fdata()
    for axcodes, label in labels.items():
        assert label.shape == images[axcodes].shape
        assert np.allclose(label.affine, images[axcodes].affine, atol=1e-5)
        same = reoriented(label, "RAS").get_fdata() == expected
        assert same.mean() > 0.999, axcodes  # logits that are equal but for rounding


@pytest.mark.parametrize(
    ("name", "symmetries"),
    [(SO3, {0, 1, 2}), (SIDES, {0, 1, 2}), (OCTAHEDRAL, {0, 2}), (CONVENTIONAL, {0})],
    ids=["so3", "o3", "V4", "none"],
)
def test_a_turned_head_is_segmented_alike_under_the_symmetries_of_the_network(name, symmetries, segment):
    turns = {f"{axes[0]}{axes[1]} {quarters}": (quarters, axes) for axes in PLANES for quarters in (0, 1, 2)}
    images = {case: nib.Nifti1Image(np.rot90(brain(), *turn).copy(), np.eye(4)) for case, turn in turns.items()}
    labels = segment(name, images)
    inside = brain() > 0
    expected = labels["01 0"].get_fdata()[inside]
    assert len(np.unique(expected)) > 1
    for case, (quarters, axes) in turns.items():
        back = np.rot90(labels[case].get_fdata(), -quarters, axes)[inside]
        agreement = np.mean(back == expected)
        assert agreement > 0.999 if quarters in symmetries else agreement < 0.98, case


def test_a_mirrored_head_has_its_sides_exchanged(segment):
    images = {name: np.flip(brain(), axes).copy() for name, axes in (("as it is", ()), ("mirrored", 0), ("all", None))}
    labels = segment(SIDES, {name: nib.Nifti1Image(image, np.eye(4)) for name, image in images.items()})
    exchanged = np.array([0, *(k + (1 if k % 2 else -1) for k in range(1, 13)), 13])
    structure = np.array([0, *(k - 1 + k % 2 for k in range(1, 13)), 13])
    own = labels["as it is"].get_fdata().astype(int)
    paired = (brain() > 0) & (exchanged[own] != own)
    for name, axes in (("mirrored", 0), ("all", None)):
        back = np.flip(labels[name].get_fdata().astype(int), axes)
        same = paired & (structure[back] == structure[own])  # the structures are found under rotations alone
        assert same.sum() > 100
        assert len(np.unique(own[same])) > 1
        assert np.mean(exchanged[back[same]] == own[same]) > 0.999


def test_the_network_of_sides_has_no_other_classes(error_of):
    error = error_of(SIDES, "train.json", targets="structures")
    assert "pairs=0 and singles=7: give 1 or more pairs" in error
    assert "with --targets sides" in error


def test_the_structures_of_both_bundles_are_found_by_the_same_weights():
    alone, of_two = (load_shipped(name)[1] for name in (SO3, SIDES))
    own, inside = alone.state_dict(), of_two.structures.state_dict()
    assert own.keys() == inside.keys()
    assert all(torch.equal(value, inside[name]) for name, value in own.items())


def test_voxels_whose_edges_differ_are_told(error_of):
    assert "give three times the same edge" in error_of(SIDES, "train.json", spacing_mm=[1.0, 1.0, 2.0])


def test_offset_and_scale_of_the_intensities_do_not_matter(segment):
    values = np.rint(100 * brain())
    arrays = {
        "plain": values.astype(np.int16), "low": (values - 1024).astype(np.int16), "high": values + 5000,
        "scaled": 0.37 * values, "both": -3 + values / 1000,
    }  # fmt: skip
    labels = segment(SO3, {case: nib.Nifti1Image(array, np.eye(4)) for case, array in arrays.items()})
    expected = labels["plain"].get_fdata()
    for case, label in labels.items():
        assert np.mean(label.get_fdata() == expected) > 0.999, case


def test_how_much_background_a_file_has_does_not_matter(segment):
    padded = SpatialPad((40, 40, 40))(brain()[None])[0].numpy()
    start = [(40 - side) // 2 for side in brain().shape]
    box = tuple(slice(first, first + side) for first, side in zip(start, brain().shape, strict=True))
    labels = segment(SO3, {"tight": nib.Nifti1Image(brain(), np.eye(4)), "padded": nib.Nifti1Image(padded, np.eye(4))})
    inside = brain() > 0
    same = labels["padded"].get_fdata()[box] == labels["tight"].get_fdata()
    assert same[inside].mean() > 0.999


@pytest.mark.parametrize(
    ("spacing_mm", "file_spacing_mm", "size", "axcodes"),
    [
        (1.0, (1.0, 1.0, 1.0), (24, 21, 27), "LAS"),
        (2.0, (1.0, 1.0, 1.0), (41, 38, 47), "PSR"),
        (1.0, (0.7, 0.9, 1.3), (35, 40, 27), "RAS"),
        (1.5, (2.0, 1.6, 2.5), (25, 32, 31), "IPL"),
    ],
)
def test_what_was_cropped_and_resampled_comes_back_onto_the_grid_of_the_file(
    spacing_mm, file_spacing_mm, size, axcodes, tmp_path
):
    source = reoriented(nib.Nifti1Image(brain(size), oblique(file_spacing_mm)), axcodes)
    nib.save(source, tmp_path / "brain.nii.gz")
    preprocessing = config(SO3, "inference.json", spacing_mm=[spacing_mm] * 3).get_parsed_content("preprocessing")
    item = preprocessing({"image": str(tmp_path / "brain.nii.gz")})
    extent = np.array(item["image"].shape[1:]) * spacing_mm
    whole = np.array(reoriented(source, "RAS").shape) * file_spacing_mm
    assert (extent < whole).all()  # it was cropped
    item["pred"] = item["image"].clone()
    inverse = Invertd("pred", preprocessing, orig_keys="image", nearest_interp=False, to_tensor=True)(item)["pred"]
    assert tuple(inverse.shape[1:]) == source.shape
    assert np.allclose(inverse.affine, source.affine, atol=1e-5)
    original, back = source.get_fdata(), inverse[0].numpy()
    inside = original > 0

    def likeness(shift, axis):
        return np.corrcoef(np.roll(back, shift, axis)[inside], original[inside])[0, 1]

    least = 0.9999 if len({spacing_mm, *file_spacing_mm}) == 1 else 0.85
    assert likeness(0, 0) > least
    assert all(likeness(shift, axis) < likeness(0, 0) for shift in (-1, 1) for axis in range(3))


@pytest.fixture(scope="module")
def whole_heads(tmp_path_factory):
    """Heads with skull and scalp, where stripped brains belong."""
    return write_brain_phantoms(
        tmp_path_factory.mktemp("heads") / "data", num_cases=3, size=(28, 28, 28), spacing_mm=HEAD_SPACING_MM,
        whole_head=True,
    )  # fmt: skip


@pytest.mark.parametrize("file", ["train.json", "inference.json"])
def test_a_whole_head_is_refused_with_what_to_do(file, error_of, whole_heads):
    folder = whole_heads / "images" if file == "inference.json" else whole_heads
    error = error_of(SO3, file, dataset_dir=str(folder))
    assert any(str(path) in error for path in (whole_heads / "images").iterdir())
    assert "Strip the skull first" in error
    assert "--check_skull False" in error


def test_a_whole_head_is_taken_without_the_check(get_bundle, run_here, whole_heads):
    bundle = get_bundle(CONVENTIONAL)
    accepted = {"check_skull": False, "spacing_mm": [HEAD_SPACING_MM] * 3}
    run_here(bundle.root, "train.json", **{**bundle.tiny, **accepted, "dataset_dir": str(whole_heads)})
    options = {"features": bundle.tiny["features"], "dataset_dir": str(whole_heads / "images")}
    run_here(bundle.root, "inference.json", **options, **accepted)
    assert len(list((bundle.root / "eval").glob("*_seg.nii.gz"))) == 3


@pytest.mark.parametrize(("group", "separable"), [("V4", False), ("O", True), ("O", False)])
def test_groups_are_chosen_by_name_and_train(group, separable, get_bundle, run_here):
    bundle, options = get_bundle(OCTAHEDRAL), {"group": group, "separable": separable, "features": 1}
    run_here(bundle.root, "train.json", **{**bundle.tiny, **options})
    network = config(OCTAHEDRAL, **options).get_parsed_content("network_def")
    network.load_state_dict(weights(bundle.root / "eval" / "model.pt"), strict=True)
    image = torch.randn(1, 1, 9, 10, 11)
    turns = find_group(group, 3).matrices
    assert len(turns) == {"V4": 4, "O": 24}[group]
    for turn in turns[1::5]:
        assert equivariance_error(network.eval(), image, turn) < 1e-4


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"group": "D8"}, "group='D8' is not known in 3-D"),
        ({"augmentation": "some"}, "'some' is unknown"),
        ({"train_cases": 2}, "train_cases=2 is not a whole number from 1 to 1"),
        ({"dataset_dir": "nowhere"}, "Point dataset_dir at the folder that holds images/"),
    ],
    ids=str,
)
def test_an_override_that_is_not_legal_says_what_is(overrides, message, error_of):
    assert message in error_of(OCTAHEDRAL, "train.json", **overrides)


def test_two_processes_train_one_network(tmp_path, get_bundle, run_command):
    bundle = get_bundle(OCTAHEDRAL)
    brains = write_brain_phantoms(tmp_path / "ten", num_cases=10, size=(24, 24, 24))  # two of them for validation
    launcher = ["torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m"]
    result = run_command(
        bundle.root, ["train.json", "multi_gpu_train.json"], cwd=tmp_path, launcher=launcher,
        **{**bundle.tiny, "dataset_dir": str(brains)},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    network = config(OCTAHEDRAL, features=bundle.tiny["features"]).get_parsed_content("network_def")
    network.load_state_dict(weights(bundle.root / "eval" / "model.pt"), strict=True)


@pytest.fixture(scope="session")
def real_brains(real_brain_structures, tmp_path_factory):
    """Three cases of MICCAI 2012 under names of their own, so that each section has one."""
    source, folder = real_brain_structures, tmp_path_factory.mktemp("real_brains")
    files = sorted((source / "images").glob("*.nii.gz"))[:3]
    for part in ("images", "labels"):
        (folder / part).mkdir()
        for number, file in enumerate(files):
            (folder / part / f"person_{number}.nii.gz").symlink_to(source / part / file.name)
    return folder


@pytest.mark.parametrize("name", BRAIN)
def test_real_brains_run_through_the_whole_pipeline(name, real_brains, get_bundle, run_here):
    bundle = get_bundle(name)
    options = {
        **bundle.tiny, "dataset_dir": str(real_brains), "spacing_mm": [4.0, 4.0, 4.0], "roi_size": [48, 48, 48],
        "augmentation": "moderate", "epochs": 2, "val_interval": 2,
    }  # fmt: skip
    run_here(bundle.root, "train.json", **options)
    run_here(bundle.root, "train.json", "evaluate.json", **options, **FEW_POSES)
    header, scores = (bundle.root / "eval" / "mean_dice_raw.csv").read_text().splitlines()
    assert header == ",".join(["filename", *config(name).get_parsed_content("class_names"), "mean", "weights"])
    assert all(0 <= float(dice) <= 1 for dice in scores.split(",")[1:-1])
    image = real_brains / "images" / "person_0.nii.gz"
    kept = {key: options[key] for key in ("features", "spacing_mm", "roi_size")}
    run_here(bundle.root, "inference.json", **kept, dataset_dir=str(image))
    label = nib.load(bundle.root / "eval" / "person_0_seg.nii.gz")
    assert label.shape == nib.load(image).shape
    assert np.allclose(label.affine, nib.load(image).affine)
    assert Path(bundle.root / "eval" / "person_0_preview.png").is_file()
