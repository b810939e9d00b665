"""What a user of ``python -m monai.bundle`` reads last when something is wrong."""

import subprocess

from bundle_files import BUNDLES
from fresh import python

HIPPOCAMPUS = BUNDLES / "hippocampus_mri_so3_segmentation"


def test_options_that_nothing_reads_are_refused_before_anything_is_written(get_bundle, run_command, tmp_path):
    bundle = get_bundle(HIPPOCAMPUS.name)
    before = sorted(tmp_path.rglob("*"))
    options = {"dataset_dir": "2024_01", "network_def#dept": 3, "ouput_dir": "x", "tracking": "mlflow"}
    result = run_command(bundle.root, ["train.json"], cwd=tmp_path, **options)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    name, depth, folder = result.stderr.splitlines()[-3:]
    assert name == "--dataset_dir 2024_01 is read as 202401 (int). Write --dataset_dir ./2024_01."
    assert depth.startswith("--network_def#dept: ")
    assert depth.endswith("Did you mean --network_def#depth?")
    assert folder.startswith("--ouput_dir: ")
    assert "--output_dir" in folder
    assert sorted(tmp_path.rglob("*")) == before


def test_a_cohort_with_a_damaged_image_ends_with_what_failed_and_why(cases, run_command, tmp_path):
    damaged = cases / "imagesTr" / "case_1.nii.gz"
    damaged.write_bytes(damaged.read_bytes()[:300])
    options = {"dataset_dir": cases / "imagesTr", "pattern": "*[12].nii.gz", "output_dir": tmp_path / "results"}
    result = run_command(HIPPOCAMPUS, ["inference.json"], cwd=tmp_path, **options)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr + result.stdout
    summary, problem = result.stderr.splitlines()[-2:]
    assert summary == f"1 of 2 cases failed, the others are segmented. See {tmp_path}/results/cases.csv."
    assert problem.startswith(f"  {damaged}: ")
    assert problem.endswith("Copy or export it again, for example as .nii.gz.")
    assert (tmp_path / "results" / "case_2_seg.nii.gz").exists()


def test_an_export_without_its_packages_says_how_to_install_them(tmp_path):
    code = "import runpy, sys; sys.modules['onnx'] = None; "
    code += "runpy.run_module('monai.bundle', run_name='__main__', alter_sys=True)"
    options = ["onnx_export", "network_def", "--config_file", str(HIPPOCAMPUS / "configs" / "inference.json")]
    options += ["--ckpt_file", str(HIPPOCAMPUS / "models" / "model.pt"), "--filepath", "model.onnx"]
    command = [python(), "-c", code, *options, "--input_shape", "[1,1,16,16,16]"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].endswith("pip install onnx onnxscript onnxruntime")
    assert not any(tmp_path.iterdir())


def test_the_summary_of_torchrun_shows_the_cause(cases, run_command, tmp_path):
    launcher = ("torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m")
    options = {"dataset_dir": tmp_path / "nowhere", "output_dir": tmp_path / "results"}
    result = run_command(HIPPOCAMPUS, ["train.json", "multi_gpu_train.json"], tmp_path, launcher, **options)
    assert result.returncode == 1
    words = f"The data set folder {tmp_path / 'nowhere'} does not exist."
    assert words in "\n".join(result.stderr.splitlines()[-4:])
    assert "monai/bundle/config_parser.py" not in result.stderr  # no traceback of a process
