"""Small data sets of one's own, in the layouts that people have, written by nibabel and Pillow."""

import json

import nibabel as nib
import numpy as np
from PIL import Image

SIZE = (22, 24, 20)


def volume(seed, size=SIZE, values=(1, 2), spacing=(1.0, 1.0, 1.0)):
    """An image and a label map of two blobs on one grid, as arrays, and their affine."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*map(np.arange, size), indexing="ij"), -1)
    label = np.zeros(size, np.uint8)
    for value, share in zip(values, (0.35, 0.65), strict=False):
        centre = np.array(size) * share + rng.uniform(-1, 1, 3)
        label[((grid - centre) ** 2).sum(-1) < 16] = value
    image = rng.normal(100, 5, size) + 40 * (label > 0) + 20 * (label == max(values))
    return image.astype(np.float32), label, np.diag([*spacing, 1.0])


def save(path, array, affine, axes="RAS"):
    """Write a volume with its voxels in another order, at the same place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(array, affine)
    ornt = nib.orientations.axcodes2ornt(axes)
    image.as_reoriented(nib.orientations.ornt_transform(nib.orientations.io_orientation(affine), ornt)).to_filename(
        path
    )


def decathlon(folder, number=5, **options):
    names = [f"case_{k:03d}" for k in range(number)]
    for k, name in enumerate(names):
        image, label, affine = volume(k, **options)
        save(folder / "imagesTr" / f"{name}.nii.gz", image, affine)
        save(folder / "labelsTr" / f"{name}.nii.gz", label, affine)
    entries = [{"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"} for name in names]
    content = {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "inner", "2": "outer"}, "training": entries}
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def two_folders(folder, number=5, images="images", labels="labels", image_end="_t1", label_end="_mask", **options):
    for k in range(number):
        image, label, affine = volume(k, **options)
        save(folder / images / f"case_{k:03d}{image_end}.nii.gz", image, affine)
        save(folder / labels / f"case_{k:03d}{label_end}.nii.gz", label, affine)
    return folder


def nnunet(folder, number=5, channels=2, **options):
    for k in range(number):
        image, label, affine = volume(k, **options)
        for channel in range(channels):
            save(folder / "imagesTr" / f"case_{k:03d}_{channel:04d}.nii.gz", image * (channel + 1), affine)
        save(folder / "labelsTr" / f"case_{k:03d}.nii.gz", label, affine)
    names = {str(channel): ["T1", "T2"][channel] for channel in range(channels)}
    content = {"channel_names": names, "labels": {"background": 0, "inner": 1, "outer": 2}, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def case_folders(folder, number=5, contrasts=("t1", "t2"), in_names=True, **options):
    for k in range(number):
        image, label, affine = volume(k, **options)
        start = f"case_{k:03d}_" if in_names else ""
        for factor, contrast in enumerate(contrasts, start=1):
            save(folder / f"case_{k:03d}" / f"{start}{contrast}.nii.gz", image * factor, affine)
        save(folder / f"case_{k:03d}" / f"{start}seg.nii.gz", label, affine)
    return folder


def one_folder(folder, number=5, **options):
    for k in range(number):
        image, label, affine = volume(k, **options)
        save(folder / f"case_{k:03d}_t1.nii.gz", image, affine)
        save(folder / f"case_{k:03d}_label.nii.gz", label, affine)
    return folder


def pictures(folder, number=5, size=(48, 40), value=255):
    """Colour pictures of a disc, and masks of 0 and a value."""
    for k in range(number):
        rng = np.random.default_rng(k)
        x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
        mask = (x - size[0] / 2 - k) ** 2 + (y - size[1] / 2) ** 2 < 100
        colours = rng.normal(90, 8, (size[1], size[0], 3)) + 70 * mask[..., None]
        for name, array in {"photos": colours.clip(0, 255), "masks": mask * value}.items():
            (folder / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array.astype(np.uint8)).save(folder / name / f"{k + 21}_{name}.png")
    return folder
