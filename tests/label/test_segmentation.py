"""Laws of segmentation by a MONAI Label server: as by the bundle, in the space of the image, or a clear error."""

import json

import nibabel as nib
import numpy as np
import pytest
import torch
from bundle_files import BUNDLES, config
from clients import DEEPEDIT, HIPPOCAMPUS, MODELS, PHANTOM, read


def dice(pred, label, values):
    return np.mean([2 * np.sum((pred == v) & (label == v)) / np.sum((pred == v) + (label == v)) for v in values])


def array(path):
    return np.asarray(nib.load(path).dataobj)


@pytest.fixture(scope="module")
def segmented_by_bundle(phantoms, tmp_path_factory):
    """The phantoms as ``inference.json`` segments them without a server."""
    folder, threads = tmp_path_factory.mktemp("bundle"), torch.get_num_threads()
    for image, _ in phantoms.values():
        (folder / image.name).symlink_to(image)
    paths = {"bundle_root": BUNDLES / PHANTOM, "dataset_dir": folder, "output_dir": folder / "out"}
    torch.set_num_threads(1)
    parser = config(PHANTOM, "inference.json", **{key: str(path) for key, path in paths.items()})
    parser.get_parsed_content("evaluator").run()
    torch.set_num_threads(threads)
    return {path.name.removesuffix("_seg.nii.gz"): array(path) for path in (folder / "out").glob("*_seg.nii.gz")}


def test_the_server_says_where_it_is_and_offers_the_bundles(server):
    assert server.address in server.said
    info = server.get("/info/").json()
    assert info["models"].keys() == {*MODELS, f"{DEEPEDIT}_seg"}
    assert info["trainers"].keys() == set(MODELS)
    assert {"first", "random", "epistemic"} == info["strategies"].keys()
    assert info["models"][HIPPOCAMPUS]["labels"] == {"anterior hippocampus": 1, "posterior hippocampus": 2}
    assert info["models"][DEEPEDIT]["type"] == "deepedit"
    assert info["models"][f"{DEEPEDIT}_seg"]["type"] == "segmentation"


def test_a_segmentation_is_that_of_the_bundle_in_the_space_of_the_image(server, phantoms, segmented_by_bundle):
    assert segmented_by_bundle.keys() == phantoms.keys()
    for case, (image, label) in phantoms.items():
        result = server.segment(PHANTOM, case)
        assert result.shape == nib.load(image).shape, case
        assert np.allclose(result.affine, nib.load(image).affine, atol=1e-5), case
        assert np.array_equal(np.asarray(result.dataobj), segmented_by_bundle[case]), case
        assert dice(np.asarray(result.dataobj), array(label), (1, 2, 3)) > 0.7, (
            case
        )  # these are half as large as those it learned


def test_a_file_is_segmented_as_the_same_image_of_the_studies(server, phantoms):
    case, (image, _) = next(iter(phantoms.items()))
    files = {"file": (image.name, image.read_bytes()), "params": (None, "{}")}
    answer = server.infer_with(PHANTOM, "output=image", files)
    assert np.array_equal(read(answer).dataobj, server.segment(PHANTOM, case).dataobj)


def test_a_segmentation_keeps_both_places_of_its_image(server, phantoms, tmp_path):
    """As SPM and FSL leave them: the sform in another space than the qform, where ITK looks."""
    image = nib.load(next(iter(phantoms.values()))[0])
    place = image.affine + np.array([[0, 0, 0, 60]] * 3 + [[0, 0, 0, 0]])
    image.set_qform(image.affine, 1)
    image.set_sform(place, 4)
    nib.save(image, tmp_path / "coregistered.nii.gz")
    files = {"file": ("coregistered.nii.gz", (tmp_path / "coregistered.nii.gz").read_bytes()), "params": (None, "{}")}
    result = read(server.infer_with(PHANTOM, "output=image", files))
    for find in ("get_sform", "get_qform"):
        expected, expected_code = getattr(image, find)(coded=True)
        found, code = getattr(result, find)(coded=True)
        assert code == expected_code
        assert np.allclose(found, expected, atol=1e-4)


def test_real_hippocampi_are_found(server, hippocampi):
    for model in (HIPPOCAMPUS, f"{DEEPEDIT}_seg"):
        for case, (image, label) in hippocampi.items():
            result = server.segment(model, case)
            assert np.allclose(result.affine, nib.load(image).affine, atol=1e-5)
            assert dice(np.asarray(result.dataobj), array(label), (1, 2)) > 0.8, (model, case)


BAD_REQUESTS = {
    "unknown model": ("liver", "image=phantom_turned", {}, 400, "There is no model 'liver'; legal are: phantom_so3"),
    "unknown image": (PHANTOM, "image=nobody", {}, 404, "There is no image 'nobody' in "),
    "no image": (PHANTOM, "", {}, 500, "Neither Image nor File"),
    "no JSON": (PHANTOM, "image=phantom_turned", {"params": "{device"}, 400, "The parameters are no JSON"),
    "a list": (PHANTOM, "image=phantom_turned", {"params": "[1, 2]"}, 400, "options: Input should be a valid dict"),
    "no device": (PHANTOM, "image=phantom_turned", {"params": '{"device": "tpu"}'}, 400, "no device 'tpu'; legal are"),
    "unknown output": (PHANTOM, "image=phantom_turned&output=dvd", {}, 422, "Input should be 'image', 'json'"),
    "broken volume": (PHANTOM, "image=broken", {}, 400, "broken.nii.gz cannot be read"),
    "constant volume": (PHANTOM, "image=constant", {}, 400, "must not be constant"),
    "slice": (PHANTOM, "image=slice", {}, 400, "3-D volume"),
}


@pytest.fixture(scope="module")
def bad_volumes(server, phantoms):
    """Three images that no network takes, among the studies for the time of the tests of this file."""
    image, _ = next(iter(phantoms.values()))
    paths = [server.studies / f"{name}.nii.gz" for name in ("broken", "constant", "slice")]
    paths[0].write_bytes(image.read_bytes()[:500])
    nib.save(nib.Nifti1Image(np.full((12, 13, 14), 3.0), np.eye(4)), paths[1])
    nib.save(nib.Nifti1Image(np.arange(120.0).reshape(10, 12), np.eye(4)), paths[2])
    server.wait_for_images("broken", "constant", "slice")
    yield
    for path in paths:
        path.unlink()
    server.wait_for_images(absent=("broken", "constant", "slice"))


@pytest.mark.parametrize("kind", BAD_REQUESTS)
def test_a_bad_request_is_answered_with_what_is_wrong_and_the_server_lives_on(kind, server, bad_volumes):
    model, query, fields, status, message = BAD_REQUESTS[kind]
    answer = server.infer_with(model, query, fields or {"params": json.dumps({})})
    assert answer.status_code == status, answer.text
    assert message in str(answer.json()["detail"])
    assert server.get("/info/").status_code == 200


def test_after_all_errors_a_segmentation_is_as_before(server, bad_volumes, segmented_by_bundle):
    assert np.array_equal(
        np.asarray(server.segment(PHANTOM, "phantom_turned").dataobj), segmented_by_bundle["phantom_turned"]
    )
