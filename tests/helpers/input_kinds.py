"""Kinds of files that users have, each written to a folder, with what the package gives for it.

As a script it prints docs/inputs.md.
"""
# ruff: noqa: E501 -- a kind is a line of a table

from collections.abc import Callable
from pathlib import Path
from shutil import copyfile
from typing import NamedTuple

import nibabel as nib
import numpy as np
from dicom_series import write_series
from PIL import Image
from scipy.io import netcdf_file

SIZE = (12, 14, 13)
AFFINE = np.array([[-1.0, 0, 0, 30], [0, 1, 0, -40], [0, 0, 1.2, 5], [0, 0, 0, 1]])
VALUES = np.random.RandomState(0).randint(1, 200, SIZE).astype(np.int16)
LABELS = np.random.RandomState(1).randint(0, 3, SIZE).astype(np.uint8)
LONG = np.arange(700 * 4).reshape(700, 2, 2).astype(np.int16)
COLOURS = np.random.RandomState(2).randint(0, 256, (40, 30, 3)).astype(np.uint8)

ALIKE = "read"  # the very voxels, at the very place, of the plain file
OTHER = "read otherwise"


class Kind(NamedTuple):
    """A kind of file, and what it gets."""

    name: str
    write: Callable  # to a folder; returns the file
    gets: str = ALIKE  # or the words of a refusal
    warning: str = ""  # words of it
    note: str = ""  # for the table
    needs: str = ""  # a module without which it is refused


def nifti(values=VALUES, affine=AFFINE, name="file.nii.gz", change=None, image_class=nib.Nifti1Image):
    def write(folder):
        image = image_class(values, affine)
        image.header.set_xyzt_units("mm")
        if change:
            change(image)
        nib.save(image, folder / name)
        return folder / name

    return write


def forms(sform=None, qform=None, codes=(1, 1)):
    """Set the forms and codes of a header, bypassing what nibabel would put right."""

    def change(image):
        image.set_sform(AFFINE if sform is None else sform, 1)
        image.set_qform(AFFINE if qform is None else qform, 1)
        image.header["sform_code"], image.header["qform_code"] = codes

    return change


def raw_header(**fields):
    """Overwrite bytes of a written header, as programs do that nibabel would correct."""

    def write(folder):
        path = nifti(name="file.nii", change=forms())(folder)
        content = bytearray(path.read_bytes())
        header = nib.Nifti1Header(bytes(content[:348]), check=False)
        for name, value in fields.items():
            header[name] = value
        content[:348] = header.binaryblock
        path.write_bytes(content)
        return path

    return write


def scaled_unit(unit, per_mm):
    scale = np.diag([per_mm, per_mm, per_mm, 1.0])
    return nifti(affine=scale @ AFFINE, change=lambda image: image.header.set_xyzt_units(unit))


def spaced(*sizes):
    return nifti(affine=np.diag([*sizes, 1.0]))


def with_voxel(value):
    values = VALUES.astype(np.float32)
    values[2, 3, 4] = value
    return values


def slope(values, factor):
    """A file of integers with a slope (scl_slope)."""

    def write(folder):
        image = nib.Nifti1Image(values, AFFINE)
        image.header.set_slope_inter(factor, 0)
        nib.save(image, folder / "file.nii")
        return folder / "file.nii"

    return write


def raw(content, name="file.nii.gz"):
    def write(folder):
        (folder / name).write_bytes(content)
        return folder / name

    return write


def nrrd_file(space="left-posterior-superior", signs=(-1, -1, 1), values=VALUES):
    """The signs turn the axes of NIfTI, to the right, front and up, to those of the space."""

    def write(folder):
        import nrrd

        to_space = np.diag(np.array(signs, dtype=float))
        directions = (to_space @ AFFINE[:3, :3]).T
        extra = np.full((values.ndim - 3, 3), np.nan)  # axes that are none of space
        header = {
            "space": space,
            "space directions": np.concatenate([extra, directions]),
            "space origin": to_space @ AFFINE[:3, 3],
            "kinds": ["list"] * len(extra) + ["domain"] * 3,
        }
        nrrd.write(str(folder / "file.nrrd"), values, header if space else {"spacings": [1.0, 1.0, 1.2]})
        return folder / "file.nrrd"

    return write


def metaimage(folder):
    """As ITK writes it, in axes to the left, back and up."""
    fields = {
        "ObjectType": "Image", "NDims": 3, "BinaryData": True, "BinaryDataByteOrderMSB": False,
        "TransformMatrix": "1 0 0 0 -1 0 0 0 1", "Offset": "-30 40 5", "AnatomicalOrientation": "RPI",
        "ElementSpacing": "1 1 1.2", "DimSize": " ".join(map(str, SIZE)), "ElementType": "MET_SHORT",
        "ElementDataFile": "LOCAL",
    }  # fmt: skip
    header = "".join(f"{name} = {value}\n" for name, value in fields.items())
    (folder / "file.mha").write_bytes(header.encode() + VALUES.tobytes("F"))
    return folder / "file.mha"


def of_nibabel(name, *endings):
    """A file of nibabel's own tests, and those beside it; the first ending is given."""

    def write(folder):
        for ending in endings:
            copyfile(Path(nib.__file__).parent / "tests" / "data" / f"{name}{ending}", folder / f"file{ending}")
        return folder / f"file{endings[0]}"

    return write


def minc(folder):
    """MINC 1 is a NetCDF file, whose axes are named."""
    with netcdf_file(folder / "file.mnc", "w") as file:
        for name, size, step, start in zip("zyx", SIZE[::-1], (1.2, 1, -1), (5, -40, 30), strict=True):
            file.createDimension(f"{name}space", size)
            axis = file.createVariable(f"{name}space", "f8", ())
            axis.step, axis.start, axis.spacing = float(step), float(start), b"regular__"
        image = file.createVariable("image", "i2", ("zspace", "yspace", "xspace"))
        image[:] = VALUES.T
        image.signtype, image.valid_range = b"signed__", np.array([0, 200], dtype=np.float64)
        for name, value in (("image-min", 0.0), ("image-max", 200.0)):
            file.createVariable(name, "f8", ()).data[...] = value
    return folder / "file.mnc"


def renamed(write, name, change=bytes):
    """A file under another name, with its content changed."""

    def write_again(folder):
        path = write(folder)
        content = change(path.read_bytes())
        path.unlink()
        return raw(content, name)(folder)

    return write_again


def series(slices=VALUES, change=None, text=False, **options):
    """A folder with a series of DICOM; ``change`` takes its files, and ``text`` puts another file among them."""

    def write(folder):
        files = write_series(folder / "file.dicom", slices, AFFINE, **options)
        if change:
            change(files)
        if text:
            (folder / "file.dicom" / "README.txt").write_text("no image")
        return folder / "file.dicom"

    return write


def picture(image, name="file.png", **options):
    def write(folder):
        image().save(folder / name, **options)
        return folder / name

    return write


def colours(mode="RGB"):
    return lambda: Image.fromarray(COLOURS).convert(mode)


def exif(orientation):
    """The photograph stored turned, so that its EXIF orientation turns it back."""
    turns = {
        2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_90", 7: "TRANSVERSE",
        8: "ROTATE_270",
    }  # fmt: skip
    tags = Image.Exif()
    tags[0x0112] = orientation
    stored = Image.fromarray(COLOURS).transpose(Image.Transpose[turns[orientation]])
    return picture(lambda: stored, exif=tags)


def grey():
    return Image.fromarray(COLOURS[..., 1])


def moved(millimetres):
    affine = AFFINE.copy()
    affine[0, 3] += millimetres
    return affine


COREGISTERED = AFFINE.copy()
COREGISTERED[:3, 3] += 60
TO_TEMPLATE = np.diag([1.3, 1.2, 1.1, 1.0]) @ AFFINE
SHEAR = np.array([[1, 0.2, 0, 0], [0, 1, 0.1, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]) @ AFFINE
SHEARED = "degrees from perpendicular"
APART = "sform (code"
NO_PATIENT = "the file does not say how its patient lies"


def _with_its_type(values, affine):
    return nib.Nifti1Image(values, affine, dtype=values.dtype)


def _linked(file):
    link = file.with_name("link.to.file.nii.gz")
    link.symlink_to(file)
    return link


VOLUMES = [
    Kind("NIfTI, .nii.gz", nifti()),
    Kind("NIfTI, .nii", nifti(name="file.nii")),
    Kind("NIfTI-2", nifti(image_class=nib.Nifti2Image)),
    Kind("NIfTI pair, .img named", nifti(name="file.img", image_class=nib.Nifti1Pair)),
    Kind("NIfTI pair, .hdr named", nifti(name="file.hdr", image_class=nib.Nifti1Pair)),
    Kind("file name in capitals, .NII", nifti(name="FILE.NII")),
    Kind("FreeSurfer, .mgz", lambda folder: _saved(nib.MGHImage(VALUES, AFFINE), folder / "file.mgz")),
    Kind("FreeSurfer, .mgh", lambda folder: _saved(nib.MGHImage(VALUES, AFFINE), folder / "file.mgh")),
    Kind("NIfTI, .nii.bz2", nifti(name="file.nii.bz2")),
    Kind("MINC 1, .mnc", minc),
    Kind("MINC 2, .mnc, without its package", of_nibabel("minc2_1_scale", ".mnc"), "pip install h5py", needs="!h5py"),
    Kind("AFNI, .BRIK and .HEAD, three volumes", of_nibabel("example4d+orig", ".BRIK.gz", ".HEAD"), "the number of channels is 3", "slices 3 mm thick"),
    Kind("Philips, .PAR and .REC, three volumes", of_nibabel("phantom_EPI_asc_CLEAR_2_1", ".REC", ".PAR"), "the number of channels is 3", "slices 8 mm thick"),
    Kind("NRRD", nrrd_file(), needs="nrrd", note="with `pip install pynrrd`"),
    Kind("NRRD in the space right-anterior-superior", nrrd_file("right-anterior-superior", (1, 1, 1)), needs="nrrd"),
    Kind("NRRD in the space LAS", nrrd_file("LAS", (-1, 1, 1)), needs="nrrd"),
    Kind("NRRD in a space of the scanner", nrrd_file("scanner-xyz"), "the space 'scanner-xyz'", needs="nrrd"),
    Kind("NRRD without a place", nrrd_file(""), "its header has no field 'space'", needs="nrrd"),
    Kind("NRRD of three volumes", nrrd_file(values=np.stack([VALUES] * 3)), "it has 4 axes of the kinds list, domain, domain, domain", needs="nrrd"),
    Kind("MetaImage, .mha", metaimage, needs="itk", note="with `pip install itk`"),
    Kind("MetaImage, .mha, without its package", raw(b"ObjectType = Image", "file.mha"), "pip install itk", needs="!itk"),
    Kind("DICOM series: its folder, or a file of it", series(name="{}", order=range(12, -1, -1), text=True), needs="highdicom", note="with `pip install pydicom highdicom`; see dicom.md"),
    Kind("DICOM series, RLE", series(syntax="1.2.840.10008.1.2.5"), needs="highdicom"),
    Kind("DICOM series with a rescale slope", series(2 * VALUES, RescaleSlope=0.5, RescaleIntercept=0), needs="highdicom"),
    Kind("DICOM series, a slice missing", series(change=lambda files: files[4].unlink()), "about 1 slices are missing", needs="highdicom"),
    Kind("DICOM series, a slice twice", series(change=lambda files: copyfile(files[4], files[4].with_name("copy"))), "1 places have more than one slice", needs="highdicom"),
    Kind("DICOM series, a localizer", series(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), "it is a localizer", needs="highdicom"),
    Kind("DICOM series, two in a folder", series(change=lambda files: series(name="b{}", SeriesNumber=4)(files[0].parents[1])), "the folder holds 2 series", needs="highdicom", note="inference segments both"),
    Kind("DICOM, without its packages", raw(bytes(128) + b"DICM", "file.dcm"), "pip install pydicom highdicom", needs="!highdicom"),
    Kind("Analyze", lambda folder: _saved(nib.AnalyzeImage(VALUES, None), folder / "file.img"), OTHER, NO_PATIENT),
    Kind("sform and qform codes 0", raw_header(sform_code=0, qform_code=0), OTHER, NO_PATIENT),
    Kind("qform alone", nifti(change=forms(codes=(0, 1)))),
    Kind("sform alone", nifti(change=forms(codes=(2, 0)))),
    Kind("coregistered: sform 2, qform 1, 60 mm apart", nifti(change=forms(qform=COREGISTERED, codes=(2, 1))), ALIKE, APART),
    Kind("coregistered: sform 4, qform 1, 60 mm apart", nifti(change=forms(qform=COREGISTERED, codes=(4, 1))), ALIKE, APART),
    Kind(
        "sform scales to a template, qform does not", nifti(change=forms(sform=TO_TEMPLATE, codes=(4, 1))), ALIKE, APART,
        "the qform, which has the true sizes, is used",
    ),
    Kind("sform and qform 0.001 mm apart", nifti(change=forms(qform=moved(0.001)))),
    Kind("sform of zeros, code 1; qform sound", raw_header(srow_x=0, srow_y=0, srow_z=0), ALIKE, "the sform of code 1 is"),
    Kind("sform of zeros, code 1; no qform", raw_header(srow_x=0, srow_y=0, srow_z=0, qform_code=0), "the header has a sform"),
    Kind("sform of NaN; no qform", raw_header(srow_x=np.nan, qform_code=0), "the header has a sform"),
    Kind("sform sheared, no qform", nifti(change=forms(sform=SHEAR, codes=(1, 0))), OTHER, SHEARED, "at its place"),
    Kind("FreeSurfer, .mgz, sheared", lambda folder: _saved(nib.MGHImage(VALUES, SHEAR), folder / "file.mgz"), OTHER, SHEARED, "at its place"),
    Kind("unit metre", scaled_unit("meter", 1e-3)),
    Kind("unit micron", scaled_unit("micron", 1e3)),
    Kind("unit unknown", nifti(change=lambda image: image.header.set_xyzt_units("unknown"))),
    Kind("metres called mm", spaced(0.001, 0.001, 0.001), "The true sizes are likely 1 x 1 x 1 mm, as if the header were in metres"),
    Kind("micron called mm", spaced(1000, 1000, 1000), "as if the header were in micrometres"),
    Kind("0.05 mm voxels", spaced(0.05, 0.05, 0.05), "the voxel spacing is 0.05 x 0.05 x 0.05 mm, which no MRI"),
    Kind("8 mm voxels", spaced(8, 8, 8), "the voxel spacing is 8 x 8 x 8 mm, too coarse along all axes"),
    Kind("a volume of more than 600 mm", nifti(LONG, np.eye(4)), "so that the volume is 700 mm long"),
    Kind("thick slices, 1 x 1 x 6 mm", spaced(1, 1, 6), OTHER, "slices 6 mm thick are interpolated"),
    Kind("(x, y, z, 1)", nifti(VALUES[..., None])),
    Kind("(x, y, z, 1, 1)", nifti(VALUES[..., None, None])),
    Kind("time series (x, y, z, 3)", nifti(np.stack([VALUES] * 3, -1)), "the number of channels is 3"),
    Kind("vectors (x, y, z, 1, 3)", nifti(np.stack([VALUES] * 3, -1)[..., None, :]), "the number of channels is 3"),
    Kind("one slice (x, y)", nifti(VALUES[..., 0]), "the shape is"),
    Kind("one slice (x, y, 1)", nifti(VALUES[..., :1]), "the shape is"),
    Kind("complex numbers", nifti(VALUES.astype(np.complex64)), "the voxels are complex numbers"),
    Kind("colours (RGB)", nifti(np.zeros(SIZE, [("R", "u1"), ("G", "u1"), ("B", "u1")])), "the voxels are colours"),
    Kind("float64", nifti(VALUES.astype(np.float64))),
    Kind("uint8", nifti(VALUES.astype(np.uint8))),
    Kind("big-endian", lambda folder: _saved(_big_endian(), folder / "file.nii")),
    Kind("a slope of 0.5 (scl_slope)", slope(2 * VALUES, 0.5)),
    Kind("a NaN", nifti(with_voxel(np.nan)), "1 of 2184 voxels are NaN or infinite"),
    Kind("an infinite voxel", nifti(with_voxel(np.inf)), "1 of 2184 voxels are NaN or infinite"),
    Kind("all voxels alike", nifti(np.full(SIZE, 7, np.int16)), "all voxels of channel 0 are 7"),
    Kind("uint64", nifti(VALUES.astype(np.uint64), image_class=_with_its_type)),
    Kind("the slope 0, which means none", raw_header(scl_slope=0)),
    Kind("a slope of NaN, which means none", raw_header(scl_slope=np.nan)),
    Kind("negative voxel sizes in pixdim", raw_header(pixdim=[-1, -1, 1, 1.2, 0, 0, 0, 0])),
    Kind("qfac 0 in pixdim; no sform", raw_header(pixdim=[0, 1, 1, 1.2, 0, 0, 0, 0], sform_code=0), OTHER, note="qfac is 1"),
    Kind("no voxels: a size of 0", raw_header(dim=[3, 0, 14, 13, 1, 1, 1, 1]), "the shape is"),
    Kind("more bytes than the header says", renamed(nifti(name="file.nii"), "file.long.nii", lambda content: content + b"more")),
    Kind("fewer bytes than the header says", renamed(nifti(name="file.nii"), "file.short.nii", lambda content: content[:-9]), "cannot be read"),
    Kind(".nii.gz cut off", renamed(nifti(), "file.short.nii.gz", lambda content: content[:-99]), "cannot be read"),
    Kind(".nii called .nii.gz", renamed(nifti(name="file.nii"), "file.plain.nii.gz"), "it is not compressed by gzip, as its name says"),
    Kind(".nii.gz called .nii", renamed(nifti(), "file.packed.nii"), "Rename it to end with .nii.gz"),
    Kind(".nii.gz called .1", renamed(nifti(), "file.1"), "its name has the ending .1, by which no image is known"),
    Kind("arrays of numpy, .npy", raw(b"\x93NUMPY", "file.npy"), "its name has the ending .npy, by which no image is known"),
    Kind("a name in Japanese, with spaces and dots", nifti(name="海馬 左 v1.2 (1).nii.gz")),
    Kind("a symbolic link", lambda folder: _linked(nifti()(folder))),
    Kind("a link to nothing", lambda folder: _linked(folder / "no.file.nii.gz"), "does not exist"),
    Kind("an empty file", raw(b""), "cannot be read"),
    Kind("text called .nii.gz", raw(b"not an image"), "cannot be read"),
]  # fmt: skip

PHOTOGRAPHS = [
    Kind("PNG, 8 bits, RGB", picture(colours())),
    Kind("TIFF, RGB", picture(colours(), "file.tif")),
    Kind("PPM", picture(colours(), "file.ppm")),
    Kind("BMP", picture(colours(), "file.bmp")),
    Kind("WebP, lossless", picture(colours(), "file.webp", lossless=True)),
    Kind("RGBA, opaque", picture(colours("RGBA"))),
    Kind("RGBA, transparent around the eye", picture(lambda: _transparent()), OTHER, note="what is transparent is black"),
    Kind("palette", picture(lambda: Image.fromarray(COLOURS).quantize(64)), OTHER, note="by its colours"),
    Kind("CMYK", picture(colours("CMYK"), "file.tif")),
    Kind("grey", picture(grey), OTHER, note="as three equal channels"),
    Kind("grey with transparency", picture(colours("LA")), OTHER, note="as three equal channels"),
    Kind("grey, 16 bits", picture(lambda: Image.fromarray(COLOURS[..., 1].astype(np.uint16) * 257)), OTHER, note="in its own steps"),
    Kind("black and white", picture(lambda: grey().convert("1")), OTHER, note="as three equal channels"),
    *(Kind(f"EXIF orientation {number}", exif(number), note="turned as viewers show it; so is its mask") for number in range(2, 9)),
    Kind("TIFF of two pages", picture(colours(), "file.tif", save_all=True, append_images=[Image.fromarray(COLOURS)]), "it has 2 pages"),
    Kind("GIF of two pictures", picture(colours("P"), "file.gif", save_all=True, append_images=[grey()]), "it has 2 pages"),
    Kind("JPEG cut off", lambda folder: _cut(picture(colours(), "file.jpg")(folder)), "cannot be read"),
    Kind("text called .png", raw(b"not a photograph", "file.png"), "cannot be read"),
]  # fmt: skip

LABEL_MAPS = [
    Kind("uint8", nifti(LABELS)),
    Kind("float64", nifti(LABELS.astype(np.float64))),
    Kind("0.9999999 instead of 1", nifti(LABELS * np.float32(0.9999999))),
    Kind("1.0000153, by a slope", slope(LABELS, 1.0000153)),
    Kind("uint64", nifti(LABELS.astype(np.uint64), image_class=_with_its_type)),
    Kind("int64", nifti(LABELS.astype(np.int64), image_class=_with_its_type)),
    Kind("(x, y, z, 1)", nifti(LABELS[..., None])),
    Kind("a NaN", nifti(np.where(LABELS == 2, np.float32(np.nan), LABELS)), "voxels are NaN or infinite"),
    Kind("0.002 mm beside the image", nifti(LABELS, moved(0.002))),
    Kind("0.05 mm beside the image", nifti(LABELS, moved(0.05)), note="takes the image's place"),
    Kind("2 mm beside the image", nifti(LABELS, moved(2)), "the affine differs from that of"),
    Kind("1.002 instead of 1", nifti(LABELS * np.float32(1.002)), "the label values 1.002, 2.004 are not legal"),
    Kind("a value that is no class", nifti(LABELS + np.uint8(1)), "the label values 3 are not legal"),
    Kind("negative values", nifti(LABELS.astype(np.int16) - 1), "the label values -1 are not legal"),
    Kind("another shape", nifti(LABELS[1:]), "the spatial shape is"),
]  # fmt: skip


def _saved(image, path):
    nib.save(image, path)
    return path


def _big_endian():
    image = nib.Nifti1Image(VALUES, AFFINE, nib.Nifti1Header(endianness=">"))
    image.header.set_xyzt_units("mm")
    return image


def _transparent():
    image = Image.fromarray(COLOURS).convert("RGBA")
    image.putalpha(Image.fromarray(np.where(np.arange(30) < 5, 0, 255).astype(np.uint8)[None].repeat(40, 0)))
    return image


def _cut(path):
    path.write_bytes(path.read_bytes()[:300])
    return path


def table():
    """docs/inputs.md."""
    lines = [
        "# Files that users have, and what they get",
        "",
        "Each row is a test: `tests/data/test_input_kinds.py` writes such a file and reads it as the bundles do. This file",
        "is made by `python tests/helpers/input_kinds.py > docs/inputs.md`. *Read* means: the same values, at the same",
        "place in millimetres, as the plain file in the first row of its table. A segmentation has sform, qform, codes and",
        "units of its image, whichever of them was used. What the software understands by a file of yours, it says with",
        "",
        "    python -m equivariant_nets.data inspect FILES...",
        "",
        "which is the first thing to look at, and to send along with a question.",
    ]
    titles = {"Volumes": VOLUMES, "Photographs": PHOTOGRAPHS, "Label maps of the classes 0 to 2": LABEL_MAPS}
    for title, kinds in titles.items():
        lines += ["", f"## {title}", "", "| kind of file | gets |", "|---|---|"]
        lines += [f"| {kind.name} | {_gets(kind)} |" for kind in kinds]
    return "\n".join(lines) + "\n"


def _gets(kind):
    if kind.gets not in (ALIKE, OTHER):
        return f'refused: "... {kind.gets} ..."'
    warning = f', with the warning "... {kind.warning} ..."' if kind.warning else ""
    return f"read{warning}{f'; {kind.note}' if kind.note else ''}"


if __name__ == "__main__":
    print(table(), end="")
