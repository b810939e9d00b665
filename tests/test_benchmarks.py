"""The benchmarks run, write what they print, and count what they claim to count."""

import json
import runpy
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from photographs import write_chase, write_drive

from equivariant_nets import ConventionalUNet, SteerableUNet
from equivariant_nets.data import brain_structures_datalist, write_brain_phantoms

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
FEATURES = "1x0e+1x1e"
ENVIRONMENT = {"device", "threads", "python", "torch", "monai", "equivariant_nets"}


@pytest.fixture
def benchmark(monkeypatch):
    """Load a benchmark as its command line would; one thread, because others may be busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield lambda name: runpy.run_path(str(BENCHMARKS / f"{name}.py"))
    sys.modules.pop("common", None)
    torch.set_num_threads(threads)


@pytest.fixture
def equivariance(benchmark):
    """The benchmark of equivariance, of small networks."""
    script = benchmark("equivariance")
    script["NETWORKS"].clear()
    script["NETWORKS"]["SteerableUNet"] = lambda: SteerableUNet(features=FEATURES, depth=1)
    script["NETWORKS"]["ConventionalUNet"] = lambda: ConventionalUNet(features=2, depth=1)
    return script


def test_equivariance_tells_the_networks_apart(equivariance, tmp_path, capsys):
    output = tmp_path / "new" / "equivariance.json"
    equivariance["main"](sizes=[(9, 8, 7)], free_size=17, angles=[45, 90], output=str(output))
    record = json.loads(output.read_text())
    assert record.keys() >= ENVIRONMENT | {"sizes", "free_size", "angles", "smoothness_voxels", "seed"}
    steerable, conventional = record["networks"]
    assert steerable["grid rotations, float32"] < 1e-5
    assert steerable["grid rotations, float64"] < 1e-10
    assert steerable["grid errors by size"]["float64"].keys() == {"(9, 8, 7)"}
    assert conventional["grid rotations, float64"] > 0.1
    assert 0 < record["interpolation"]["mean"] <= record["interpolation"]["worst"] < 0.1
    assert "SteerableUNet" in capsys.readouterr().out


def test_multiples_of_90_degrees_do_not_flatter_the_free_rotations(equivariance):
    row = equivariance["main"](sizes=[(7, 7, 7)], free_size=17, angles=[45, 90], networks=["SteerableUNet"])[0]
    curves = row["errors by plane and angle"].values()
    assert all(at_90 < 1e-5 < at_45 for at_45, at_90 in curves)
    assert row["free rotations, mean"] == pytest.approx(sum(at_45 for at_45, _ in curves) / 3)


def test_equivariance_refuses_what_it_cannot_measure(equivariance):
    with pytest.raises(ValueError, match=r"\['UNet'\] are not known; choose from"):
        equivariance["main"](networks=["UNet"])
    with pytest.raises(ValueError, match="no multiple of 90 degrees"):
        equivariance["main"](angles=[90, 180])


def test_speed_reports_every_quantity_as_a_ratio(benchmark, tmp_path):
    output = tmp_path / "speed.json"
    benchmark("speed")["main"](sizes=[9], features=FEATURES, repeats=3, device="cpu", threads=1, output=str(output))
    record = json.loads(output.read_text())
    assert record.keys() >= ENVIRONMENT | {"features", "sizes", "repeats", "seed", "amp", "first_construction_s"}
    rows = {row["quantity"]: row for row in record["rows"]}
    assert rows.keys() == {
        "training step",
        "bare convolutions, forward and backward",
        "forward in training mode",
        "inference",
        "inference, materialized",
        "bare convolutions, forward",
        "construction",
        "kernel assembly, forward and backward",
        "saved activations",
        "assembled kernels",
        "parameters, gradients, Adam",
        "training footprint",
    }
    for row in rows.values():
        assert row["steerable"] > 0
        if row["conventional"]:
            assert row["ratio"] == pytest.approx(row["steerable"] / row["conventional"])
        for seconds in row["turns"].values():
            assert len(seconds) == 3


def test_speed_times_the_parts_that_are_asked_for(benchmark):
    speed = benchmark("speed")
    options = {"features": FEATURES, "repeats": 1, "device": "cpu", "threads": 1, "sizes": [9]}
    parts = ["kernel assembly, forward and backward", "training step"]
    rows = speed["main"](parts=parts, **options)
    assert [row["quantity"] for row in rows if row["unit"] == "s"] == parts
    with pytest.raises(ValueError, match=r"parts \['training'\] are not legal; choose from \['training step', "):
        speed["main"](parts=["training"], **options)


def test_speed_compares_any_two_networks(benchmark):
    speed = benchmark("speed")
    options = {"features": "8x0e+2x1e+2x2e", "repeats": 1, "device": "cpu", "threads": 1, "sizes": [9]}
    rows = speed["main"](network="regular", reference="steerable", **options)
    assembly = next(row for row in rows if row["quantity"].startswith("kernel assembly"))
    assert assembly["ratio"] == pytest.approx(assembly["regular"] / assembly["steerable"])
    with pytest.raises(ValueError, match="are 30 channels; choose a multiple of 24"):
        speed["main"](network="regular", **{**options, "features": "8x0e+4x1e+2x2e"})
    with pytest.raises(ValueError, match="must be two of"):
        speed["main"](network="steerable", reference="steerable")


def test_floor_convolves_what_the_network_convolves(benchmark):
    workload = benchmark("speed")["Workload"]("steerable", FEATURES, "scalars", 9, torch.device("cpu"), 0)
    workload.parts()
    inputs, kernels = zip(*workload.layers, strict=True)
    assert len(kernels) == 15  # two for each of seven blocks, and the head
    assert torch.equal(inputs[0], workload.image)
    assert [x.requires_grad for x in inputs] == [False] + [True] * 14
    # At the first level, the convolution of the image alone: one scalar and one vector, whose gate costs nothing.
    assert kernels[0].shape == (4, 1, 5, 5, 5)


def test_gates_by_convolution_are_convolved(benchmark):
    workload = benchmark("speed")["Workload"]("steerable", FEATURES, "convolution", 9, torch.device("cpu"), 0)
    workload.parts()
    assert workload.layers[0][1].shape == (5, 1, 5, 5, 5)


def test_saved_activations_grow_with_the_image_and_kernels_do_not(benchmark):
    workload = benchmark("speed")["Workload"]
    for name in ("steerable", "conventional"):
        small, large = (workload(name, FEATURES, "scalars", size, torch.device("cpu"), 0) for size in (9, 18))
        kernels = sum(p.nbytes for p in small.net.parameters() if p.dim() == 5) / 2**20
        small, large = small.memory(), large.memory()
        assert large["assembled kernels"] == small["assembled kernels"]
        assert (small["assembled kernels"] > 0) == (kernels == 0)  # those of the plain network are parameters
        assert 6 < large["saved activations"] / small["saved activations"] < 10


def test_saved_bytes_are_those_that_autograd_keeps(benchmark):
    """Of y = sum((w x)^2), it keeps x, w and w x: one weight, which does not count, and two tensors of 4 kB."""
    workload = benchmark("speed")["Workload"]("conventional", FEATURES, "scalars", 9, torch.device("cpu"), 0)
    workload.net = torch.nn.Linear(1, 1, bias=False)
    x = torch.randn(1000)
    saved = workload._saved(lambda: (workload.net.weight * x).square().sum())
    assert sorted(tensor.nbytes for tensor in saved) == [4000, 4000]


@pytest.fixture
def vessels(benchmark):
    """The benchmark of vessels, of small networks."""
    script = benchmark("vessels")
    for name, (bundle, options) in list(script["NETWORKS"].items()):
        small = {"features": [1, 1, 1, 1], "field_of_view_pixels": 40}
        script["NETWORKS"][name] = bundle, {**options, **small}
    return script


@pytest.fixture
def photographs(tmp_path):
    """A folder of small photographs in the layouts of DRIVE and CHASE_DB1."""
    write_drive(tmp_path / "data" / "drive")
    write_chase(tmp_path / "data" / "chase_db1")
    return str(tmp_path / "data")


def test_few_samples_scores_every_network_on_both_tests(vessels, photographs, tmp_path, capsys):
    options = {"steps": 1, "batch_size": 2, "patch_size": 16, "test_patches": 4}
    outputs = [str(tmp_path / f"few_{seed}.json") for seed in (0, 1)]
    for seed, output in enumerate(outputs):
        counts = [2] if seed == 0 else [2, 3]
        rows = vessels["few_samples"](photographs, seeds=[seed], output=output, counts=counts, **options)
    assert len(rows) == 3 * 2 * 2
    assert all(0 <= row[key] <= 1 for row in rows for key in ("Dice, shifted", "Dice, not shifted"))
    record = json.loads(Path(outputs[1]).read_text())
    assert record.keys() >= ENVIRONMENT | {"steps", "batch_size", "patch_size", "test_patches", "bfloat16"}
    assert record["rows"] == rows
    summary = vessels["table"](str(tmp_path / "few_*.json"))
    assert len(summary) == 3 * 2
    values = [json.loads(Path(output).read_text())["rows"][0]["Dice, shifted"] for output in outputs]
    assert summary[0]["Dice, shifted, 2 patches"].startswith(f"{sum(values) / 2:.3f}")
    assert "2 seeds" in capsys.readouterr().out


def test_the_same_seed_gives_the_same_score(vessels, photographs):
    options = {"steps": 2, "batch_size": 2, "patch_size": 16, "test_patches": 4, "counts": [2]}
    options |= {"networks": ["C4"], "augmentations": ["full"]}
    first, again = (vessels["few_samples"](photographs, seeds=[3], **options)[0] for _ in range(2))
    assert first["Dice, shifted"] == again["Dice, shifted"]


def test_errors_of_scale_are_those_of_layers_and_networks(benchmark, tmp_path, capsys):
    output = tmp_path / "scale.json"
    script = benchmark("scale")
    options = {"size": 24, "seeds": [0], "networks": ["ScaleUNet", "published"], "output": str(output)}
    rows = script["errors"](**options)
    record = json.loads(output.read_text())
    assert record.keys() >= ENVIRONMENT | {"size", "smoothness_voxels", "seeds", "layers", "networks"}
    assert record["networks"] == rows
    assert [row["network"] for row in rows] == options["networks"]
    assert all(value > 0 for row in rows for key, value in row.items() if key != "network")
    layer = {row["part"]: row["0.9"] for row in record["layers"]}
    assert layer["first layer, ScaleUNet, max_order=1"] < layer["first layer, ScaleUNet, max_order=4"]
    assert layer["first layer, ScaleUNet, max_order=2"] < layer["first layer, ConventionalUNet"]
    assert "| published |" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"\['UNet'\] are not known; choose from"):
        script["errors"](networks=["UNet"])
    with pytest.raises(ValueError, match="size=20 is no multiple of 8"):
        script["errors"](size=20)


def test_the_published_network_keeps_scales_apart_with_sampled_filters(benchmark):
    script = benchmark("scale")
    assert script["published_filters"]().shape == (4, 27, 5, 5, 5)
    net = script["Published"]()
    kernels = [m.weight for m in net.modules() if isinstance(m, torch.nn.Conv3d) and m.weight.shape[1] % 4 == 0]
    assert kernels
    for weight in kernels:
        apart = weight.unflatten(0, (-1, 4)).unflatten(2, (-1, 4))
        for s in range(4):
            assert not apart[:, s, :, [t for t in range(4) if t != s]].any()
    assert net(torch.zeros(1, 1, 16, 16, 16)).shape == (1, 1, 16, 16, 16)


def test_dice_by_size_is_the_mean_over_the_runs(benchmark, tmp_path, capsys):
    header = "case,factor,class,dice,interpolation_dice"
    for run, value in enumerate((0.8, 0.9)):
        (tmp_path / f"net_{run}").mkdir()
        rows = [f"{case},{factor},x,{value * factor},1.0" for case in "ab" for factor in (1.0, 0.5)]
        (tmp_path / f"net_{run}" / "scale_dice.csv").write_text("\n".join([header, *rows]))
    script = benchmark("scale")
    pattern = str(tmp_path / "net_*" / "scale_dice.csv")
    rows = script["dice"](picture=str(tmp_path / "curve.png"), net=pattern)
    assert rows == [{"network": "net", "runs": "2", "1": "0.850 ± 0.050", "0.5": "0.425 ± 0.025"}]
    assert (tmp_path / "curve.png").stat().st_size > 1000
    told = capsys.readouterr().out
    assert "| net | 2 | 0.425 ± 0.025 | 0.850 ± 0.050 |" in told
    assert "| net | 0.425 ± 0.000 | 0.850 ± 0.000 |" in told  # each case has 0.85 in the mean of the runs
    with pytest.raises(ValueError, match=r"No table for \['other'\]"):
        script["dice"](other=str(tmp_path / "nowhere*"))


def test_backgrounds_are_written_and_found(benchmark, tmp_path, capsys):
    """With all but one of the backgrounds left out, on a synthetic brain."""
    write_brain_phantoms(tmp_path, num_cases=7, size=(48, 52, 48))
    script = benchmark("backgrounds")
    brain = nib.load(next((tmp_path / "images").glob("*.nii.gz"))).get_fdata(dtype="float32")
    files = {name: write(brain) for name, write in script["FILES"].items()}
    assert (files["turned, B-splines"] < -1).any()
    assert files["turned, B-splines, from 0, int16"].min() == 0
    assert files["standardised"][brain > 0].mean() == pytest.approx(0, abs=1e-4)
    assert (files["background of 0 to 0.001"][brain == 0] > 0).all()
    script["FILES"].clear()
    script["FILES"]["standardised"] = lambda array: files["standardised"]
    bundle = BENCHMARKS.parent / "bundles" / "brain_structures_mri_so3_segmentation"
    script["backgrounds"](str(bundle), dataset_dir=str(tmp_path), num_cases=1)
    table = capsys.readouterr().out.strip().splitlines()[-3:]
    assert table[0] == "| file | Dice |"
    assert 0 <= float(table[2].split("|")[2]) <= 1


def test_sides_that_are_exchanged_are_seen(benchmark):
    script = benchmark("sides_of_brains")
    scores, exchanged = script["_scores"], script["OTHER_SIDE"]
    label = np.random.RandomState(0).randint(0, 14, (9, 8, 7))
    assert scores(label, label) == ([1] * 13, [1] * 7, 0)
    assert scores(exchanged[label], label) == ([0] * 12 + [1], [1] * 7, 1)
    half = np.where(np.arange(9)[:, None, None] < 4, exchanged[label], label)
    sided, united, mixed = scores(half, label)
    paired = (label > 0) & (label < 13)
    assert mixed == pytest.approx(paired[:4].sum() / paired.sum())
    assert united == [1] * 7
    assert 0.1 < max(sided[:12]) < 0.9
    sided, united, mixed = scores(np.where(label == 1, 0, label), label)
    assert (sided, mixed) == ([0] + [1] * 12, 0)
    assert 0 < united[0] < 1
    assert united[1:] == [1] * 6
    assert np.isnan(scores(label, np.where(label == 5, 0, label)).sided[4])


@pytest.mark.parametrize("codes", ["RAS", "PIL"])
def test_a_mirrored_brain_has_its_sides_exchanged(benchmark, codes, tmp_path):
    write = benchmark("sides_of_brains")["_write_mirrored"]
    brain = nib.Nifti1Image(np.random.RandomState(0).normal(size=(6, 5, 4)), np.diag([1.0, 2, 3, 1]))
    label = nib.Nifti1Image((np.arange(120).reshape(6, 5, 4) % 14).astype(np.int16), brain.affine)
    to = nib.orientations.ornt_transform(nib.io_orientation(brain.affine), nib.orientations.axcodes2ornt(codes))
    brain, label = brain.as_reoriented(to), label.as_reoriented(to)
    mirrored = write(brain.get_fdata()[None], label.get_fdata().astype(int), brain.affine, tmp_path / "mirrored.nii.gz")
    canonical = nib.as_closest_canonical(nib.load(tmp_path / "mirrored.nii.gz"))
    assert np.allclose(canonical.affine, nib.as_closest_canonical(brain).affine)
    assert np.allclose(canonical.get_fdata(), nib.as_closest_canonical(brain).get_fdata()[::-1])
    own = nib.as_closest_canonical(nib.Nifti1Image(mirrored.astype(np.int16), label.affine)).get_fdata()[::-1]
    known = nib.as_closest_canonical(label).get_fdata()
    pairs = {0: 0, 13: 13} | {k: k + 1 for k in range(1, 13, 2)} | {k: k - 1 for k in range(2, 14, 2)}
    assert np.array_equal(own, np.vectorize(pairs.get)(known))


def test_sides_of_brains_are_measured_in_every_pose(benchmark, tmp_path):
    write_brain_phantoms(tmp_path, num_cases=7, size=(48, 52, 48))
    bundle = BENCHMARKS.parent / "bundles" / "brain_structures_mri_so3_segmentation"  # whose classes have no sides
    output = tmp_path / "sides.json"
    options = {"dataset_dir": str(tmp_path), "poses": "axial:45", "num_cases": 1, "output": str(output)}
    rows = benchmark("sides_of_brains")["sides"](str(bundle), **options)
    assert [row["pose"] for row in rows] == ["upright", "axial 45", "mirrored"]
    assert {len(own) for own in json.loads(output.read_text())["scores"].values()} == {1}


def test_crops_of_hippocampi_lie_where_they_were_and_are_whole(benchmark, tmp_path):
    write_brain_phantoms(tmp_path, num_cases=7, size=(48, 52, 48))
    item = brain_structures_datalist(str(tmp_path), "test")[0]
    images = tmp_path / "crops"
    images.mkdir()
    crops = benchmark("sides_of_hippocampi")["_write_crops"](item, images, 3.0)
    brain, label = (nib.load(item[key]) for key in ("image", "label"))
    for side, code in (("left", 48), ("right", 47)):
        there, own = np.asarray(label.dataobj) == code, crops[item["case"], side]
        crop = nib.load(images / f"{item['case']}_{side}.nii.gz")
        assert crop.shape == own.shape
        assert own.sum() == there.sum() > 0
        voxels = [np.argwhere(mask) for mask in (there, own)]
        places = [nib.affines.apply_affine(f.affine, v) for f, v in zip((brain, crop), voxels, strict=True)]
        assert np.allclose(*places)
        assert np.allclose(brain.get_fdata()[there], crop.get_fdata()[own])
    bundle = BENCHMARKS.parent / "bundles" / "hippocampus_mri_o3_segmentation"
    output = tmp_path / "sides.json"
    rows = benchmark("sides_of_hippocampi")["sides"](
        str(bundle), dataset_dir=str(tmp_path), num_cases=1, output=str(output)
    )
    assert [row["side"] for row in rows] == ["left", "right"]
    assert {len(own) for own in json.loads(output.read_text())["scores"].values()} == {1}


def test_agreement_is_set_beside_the_dice_of_sound_and_spoiled_volumes(benchmark, real_hippocampus):
    bundle = str(BENCHMARKS.parent / "bundles" / "hippocampus_mri_so3_segmentation")
    options = {"dataset_dir": str(real_hippocampus), "num_cases": 1, "num_spoiled": 1, "num_turns": 1}
    rows = benchmark("agreement")["agreement"](bundle, **options)
    assert [row["number"] for row in rows] == [6, 1, 1, 1, 1, 1, 1]
    assert all(0 < row["Dice"] < 1 and 0 < row["agreement"] <= 1 for row in rows)


def test_inference_of_a_large_volume_is_measured_beside_its_estimate(benchmark, tmp_path):
    output = tmp_path / "inference.json"
    options = {"size": [24, 20, 16], "roi_size": [16, 16, 16], "threads": 1, "output": str(output)}
    (row,) = benchmark("inference")["main"](bundles=["hippocampus_mri_so3_segmentation"], **options)
    assert row["window"] == "16x16x16"
    assert row["parameters"] == 32747
    assert row["seconds"] > 0
    assert 0 < row["estimate, GB"] < 0.1
    assert row["peak of the process, GB"] >= row["before, GB"] > row["estimate, GB"]
    assert json.loads(output.read_text())["networks"] == [row]
    with pytest.raises(ValueError, match=r"bundles \['nothing'\] are not in"):
        benchmark("inference")["main"](bundles=["nothing"])


def test_memory_over_volumes_is_measured_in_the_order_of_the_volumes(benchmark, tmp_path):
    output = tmp_path / "memory.json"
    rows = benchmark("memory_over_volumes")["main"](volumes=4, every=2, smallest=16, largest=18, output=str(output))
    assert [row["volumes"] for row in rows] == [2, 4]
    assert all(row["memory, MB"] > 100 for row in rows)
    assert json.loads(output.read_text())["rows"] == rows


@pytest.fixture
def compare(benchmark, tmp_path):
    """Compare a record of two ratios with a reference, both in files."""
    script = benchmark("compare")
    run = {"network": "steerable", "reference": "conventional", "features": FEATURES, "gates": "scalars", "amp": False}

    def compare(step, memory, **options):
        rows = [{"size": "8^3", "quantity": "training step", "ratio": step}]
        rows += [{"size": "8^3", "quantity": name, "ratio": ratio} for name, ratio in (("saved", memory), ("no", None))]
        path = tmp_path / "now.json"
        path.write_text(json.dumps({**run, "rows": rows}))
        return script["main"](path, reference=tmp_path / "reference.csv", **options)

    return compare


def test_a_ratio_that_got_worse_is_flagged_and_no_other(compare):
    with pytest.raises(SystemExit, match="holds no ratio of what was measured"):
        compare(1.0, 0.5)
    compare(1.0, 0.5, write=True)
    assert compare(1.09, 0.2) == []
    with pytest.raises(SystemExit, match=r"1 of 2 ratios are worse by more than 10%: saved at 8\^3: 0.5 to 0.56"):
        compare(1.0, 0.56)
    assert compare(1.0, 0.56, tolerance=0.2) == []
    compare(1.0, 0.56, write=True)
    assert compare(1.0, 0.56) == []


def test_what_is_no_record_of_a_benchmark_is_refused(benchmark, tmp_path):
    (tmp_path / "now.json").write_text("{}")
    with pytest.raises(SystemExit, match=r"now\.json is no record of speed\.py"):
        benchmark("compare")["main"](tmp_path / "now.json")


def test_the_picture_of_exact_and_approximate_is_drawn(benchmark, tmp_path):
    picture = tmp_path / "curve.png"
    assert benchmark("curve")["curve"](output=str(picture), step_degrees=90, size=17) == f"The picture is {picture}."
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_comparison_with_nnunet_refuses_what_it_does_not_know(benchmark, tmp_path):
    compare = benchmark("nnunet")["compare"]
    with pytest.raises(ValueError, match=r"networks \['UNet'\] are not legal; choose from \['PlainConvUNet, SGD'"):
        compare(str(tmp_path), dataset_dir="none", networks=["UNet"])
    with pytest.raises(ValueError, match="steps is 75; legal is a multiple of 50"):
        compare(str(tmp_path), dataset_dir="none", steps=75)
    assert not list(tmp_path.iterdir())
    (tmp_path / "settings.json").write_text('{"steps": 500, "batch_size": 2}')
    with pytest.raises(ValueError, match=r"was made with {'steps': 500, 'batch_size': 2}\. Give the same, or another"):
        compare(str(tmp_path), dataset_dir="none", steps=1000)


def test_the_comparison_with_nnunet_averages_classes_then_cases(benchmark, tmp_path):
    rows = ["pose,case,class,dice", "upright,a,1,0.5", "upright,a,2,0.7", "upright,b,1,1.0", "axial 45,a,1,0.25"]
    (tmp_path / "poses_dice.csv").write_text("\n".join(rows) + "\n")
    assert benchmark("nnunet")["_means"](tmp_path / "poses_dice.csv") == {
        "upright": "0.800 (0.200)", "axial 45": "0.250 (0.000)",
    }  # fmt: skip


def test_layers_add_up_to_the_error_of_the_network(benchmark, tmp_path):
    layers = benchmark("layers")
    options = {"features": "2x0e+1x1e", "depth": 1, "kernel_size": 3, "seeds": 1, "size": 17}
    rows = layers["layers"](angles=(45.0,), output=str(tmp_path / "layers.json"), **options)
    kinds = [row["kind"] for row in rows]
    assert kinds.count("Convolution") == 7  # two in each of three blocks, and the head
    assert kinds.count("Downsample") == kinds.count("Upsample") == 1
    assert rows[0]["so far"] == pytest.approx(rows[0]["own"])  # nothing is before the first layer
    assert rows[-1]["own"] < 1e-5  # the head is pointwise
    assert json.loads((tmp_path / "layers.json").read_text())["rows"] == rows
    exact = layers["layers"](angles=(90.0,), **options)
    assert max(row["so far"] for row in exact) < 1e-4
