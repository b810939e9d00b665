"""Archives: what goes in, the same bytes anywhere, and bundles that run where the package is not installed."""

import ast
import importlib.util
import json
import os
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import monai
import nibabel as nib
import numpy as np
import pytest
import torch
from bundle_files import BUNDLES, NAMES, RETINA, SCHEMA
from fresh import python
from photographs import photograph
from PIL import Image

import equivariant_nets
from equivariant_nets.zoo import check_bundle, pack_bundle
from equivariant_nets.zoo.__main__ import pack

VERSION = equivariant_nets.__version__
SMALL = "phantom_so3_segmentation"
SCALE = "brain_tumor_mri_scale_segmentation"
PACKAGE = Path(equivariant_nets.__file__).parent
CLICKS = "hippocampus_mri_so3_deepedit"
PHOTOGRAPHS = "retina_vessels_fundus_conventional_segmentation"


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """The archives of all bundles with weights, by name."""
    folder = tmp_path_factory.mktemp("archives")
    return {name: pack_bundle(BUNDLES / name, folder, quick=True) for name in NAMES}


@pytest.fixture(scope="module")
def unpacked(archives, tmp_path_factory):
    """A folder with these archives unpacked."""
    folder = tmp_path_factory.mktemp("unpacked")
    for archive in archives.values():
        zipfile.ZipFile(archive).extractall(folder)
    return folder


def start(*arguments, cwd):
    """Python in a folder, where all installed packages are found but this one, which is installed in place."""
    packages = dict.fromkeys(str(Path(module.__file__).parents[1]) for module in (monai, torch))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(packages)}
    command = [python(), "-S", *arguments]  # without site, which would read the link to this package
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def test_an_archive_holds_the_bundle_and_the_package_in_one_folder(archives):
    names = zipfile.ZipFile(archives[SMALL]).namelist()
    configs = sorted(path.relative_to(BUNDLES / SMALL).as_posix() for path in (BUNDLES / SMALL / "configs").iterdir())
    own = ["LICENSE", *configs, "docs/README.md", "docs/data_license.txt", "models/model.pt"]
    assert archives[SMALL].name == f"{SMALL}_v{VERSION}.zip"
    modules = [name for name in names if name.startswith(f"{SMALL}/equivariant_nets/")]
    assert names == sorted([*(f"{SMALL}/{name}" for name in own), *modules])
    assert all(name.endswith((".py", ".jinja")) for name in modules)


def test_an_archive_holds_no_module_that_its_configs_do_not_reach(archives):
    def modules(name):
        """The modules below the package, such as evaluation/vessels."""
        names = zipfile.ZipFile(archives[name]).namelist()
        return {path.split("/", 2)[2].removesuffix(".py") for path in names if f"{name}/equivariant_nets/" in path}

    only_of = {
        "interaction/guidance": {CLICKS},
        "evaluation/vessels": {*RETINA},
        "evaluation/poses": {*NAMES} - {*RETINA},
    }
    for name in archives:
        for module, bundles in only_of.items():
            assert (module in modules(name)) == (name in bundles)
        assert ("webpage" in modules(name)) == ("report.html.jinja" in modules(name))
    parts = {module.split("/")[0] for name in archives for module in modules(name)}
    folders = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert folders - parts == {"authoring", "experiments", "nnunet", "zoo"}


def test_files_are_copied_and_metadata_no_longer_requires_the_package(archives):
    archive = zipfile.ZipFile(archives[SMALL])
    for info in archive.infolist():
        name = info.filename.removeprefix(f"{SMALL}/")
        source = PACKAGE.parent / name if name.startswith("equivariant_nets/") else BUNDLES / SMALL / name
        if not name.endswith("metadata.json"):
            assert archive.read(info) == source.read_bytes()
    own = json.loads((BUNDLES / SMALL / "configs" / "metadata.json").read_text(encoding="utf-8"))
    assert own["required_packages_version"].pop("equivariant_nets") == VERSION
    assert json.loads(archive.read(f"{SMALL}/configs/metadata.json")) == own


def test_the_same_files_give_the_same_bytes(archives, copy_of, tmp_path):
    bundle = copy_of()
    litter = ["models/training_state.pt", "models/model.ts", "eval/case_seg.nii.gz", "data/dataset.json", ".notes.swp",
              "configs/train.json~", "docs/README.md.orig", "docs/__pycache__/x.pyc"]  # fmt: skip
    for name in litter:
        (bundle.root / name).parent.mkdir(exist_ok=True)
        (bundle.root / name).write_text("litter")
    (bundle.root / "configs" / "train.json~").unlink()  # which the check refuses
    for number, path in enumerate(sorted(bundle.root.rglob("*"))):
        os.utime(path, (10**9 + number, 10**9 + number))
        path.chmod(0o700)
    mask = os.umask(0o077)
    try:
        again = pack_bundle(bundle.root, tmp_path / "archives", quick=True)
    finally:
        os.umask(mask)
    assert again.read_bytes() == archives[SMALL].read_bytes()


def test_in_the_style_of_the_zoo_its_formatters_change_nothing_and_the_code_is_the_same(tmp_path):
    isort, black = pytest.importorskip("isort"), pytest.importorskip("black")
    clone = tmp_path / "model-zoo"
    (clone / "models").mkdir(parents=True)
    # The options of the Model Zoo's formatters, as its clones have them.
    (clone / "setup.cfg").write_text(
        "[isort]\nknown_first_party = models\nprofile = black\nline_length = 120\n"
        "skip = .git, .eggs, venv, .venv, versioneer.py, _version.py, conf.py\nskip_glob = *.pyi\n"
    )
    (clone / "pyproject.toml").write_text(
        "[tool.black]\nline-length = 120\ntarget-version = ['py37', 'py38', 'py39']\n"
    )
    archive = pack_bundle(BUNDLES / SMALL, tmp_path, quick=True, in_zoo_style=True)
    zipfile.ZipFile(archive).extractall(clone / "models")
    for formatter in (isort, black):
        options = ["--skip-magic-trailing-comma"] if formatter is black else []
        command = [sys.executable, "-m", formatter.__name__, *options, "--check", "."]
        result = subprocess.run(command, cwd=clone, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout + result.stderr
    root = clone / "models" / SMALL
    modules = sorted((root / "equivariant_nets").rglob("*.py"))
    assert modules
    changed = 0
    for module in modules:
        source = (PACKAGE / module.relative_to(root / "equivariant_nets")).read_text(encoding="utf-8")
        formatted = module.read_text(encoding="utf-8")
        changed += source != formatted
        assert statements(source) == statements(formatted)
    assert changed  # or the formatters had nothing to do, and this test neither
    assert check_bundle(root, SCHEMA, quick=True) == []


def statements(source):
    """A module's statements, but for the order of its imports, which mean the same in any."""
    body = ast.parse(source).body
    imports = [ast.dump(node) for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
    return sorted(imports), [ast.dump(node) for node in body if not isinstance(node, ast.Import | ast.ImportFrom)]


def test_the_style_of_the_zoo_needs_its_formatters(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "isort", None)
    with pytest.raises(SystemExit, match=r"isort is not installed: pip install 'equivariant-nets\[zoo\]'"):
        pack(str(BUNDLES / SMALL), output_dir=str(tmp_path / "archives"), quick=True, zoo_style=True)
    assert not (tmp_path / "archives").exists()


def test_every_archive_unpacks_to_a_sound_bundle(unpacked):
    assert sorted(path.name for path in unpacked.iterdir()) == NAMES
    assert [finding for name in NAMES for finding in check_bundle(unpacked / name, SCHEMA, quick=True)] == []


def test_an_unpacked_bundle_runs_from_any_folder_without_the_package_installed(unpacked, tmp_path):
    (tmp_path / "images").mkdir()
    image = np.random.RandomState(0).normal(size=(18, 16, 20)).astype(np.float32)
    nib.save(nib.Nifti1Image(image, np.eye(4)), tmp_path / "images" / "case.nii.gz")
    root = unpacked / SMALL
    where = "$print(__import__('equivariant_nets').__file__)"
    result = start(
        "-m", "monai.bundle", "run", "--bundle_root", str(root), "--config_file", f"{root}/configs/inference.json",
        "--dataset_dir", "images", "--output_dir", "results", "--finalize", where, cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == str(root / "equivariant_nets" / "__init__.py")
    assert nib.load(tmp_path / "results" / "case_seg.nii.gz").shape == image.shape


def test_archives_download_and_load_without_the_package_installed(archives, tmp_path):
    code = """
        import json, sys
        import monai.bundle
        for name, archive in json.loads(sys.argv[1]).items():
            monai.bundle.download(name=name, url="file://" + archive, bundle_dir=".", progress=False)
            sys.path.insert(0, name)
            network = monai.bundle.load(name, bundle_dir=".", workflow_type="inference", device="cpu")
            source = sys.modules[type(network).__module__].__file__
            print("loaded", name, sum(p.numel() for p in network.parameters()), source)
            sys.path.remove(name)
            for module in [m for m in sys.modules if m.partition(".")[0] == "equivariant_nets"]:
                del sys.modules[module]
    """
    paths = json.dumps({name: str(archive) for name, archive in archives.items()})
    result = start("-c", textwrap.dedent(code), paths, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    loaded = [line.split()[1:] for line in result.stdout.splitlines() if line.startswith("loaded")]
    assert [name for name, _, _ in loaded] == NAMES
    for name, _, source in loaded:
        assert (tmp_path / source).resolve().is_relative_to(tmp_path / name / "equivariant_nets")


def test_archives_hold_all_that_their_modules_import_and_their_configs_name(tmp_path):
    names = [SMALL, CLICKS, PHOTOGRAPHS, SCALE, "brain_structures_mri_octahedral_segmentation"]
    has_formatters = all(importlib.util.find_spec(name) for name in ("black", "isort"))
    for name in names:  # of which one has its imports in the order of the Model Zoo
        in_zoo_style = has_formatters and name == PHOTOGRAPHS
        archive = pack_bundle(BUNDLES / name, tmp_path / "archives", quick=True, in_zoo_style=in_zoo_style)
        zipfile.ZipFile(archive).extractall(tmp_path)
    code = """
        import importlib, json, pathlib, pydoc, sys
        import monai.bundle

        def named(node):
            if isinstance(node, dict):
                yield from [node["_target_"]] if "_target_" in node else []
            if isinstance(node, dict | list):
                for child in node.values() if isinstance(node, dict) else node:
                    yield from named(child)
            elif isinstance(node, str) and node.startswith("$import "):
                yield node.removeprefix("$import ")

        for name in sys.argv[1:]:
            sys.path.insert(0, name)
            for path in sorted(pathlib.Path(name, "equivariant_nets").rglob("*.py")):
                module = ".".join(path.relative_to(name).with_suffix("").parts)
                importlib.import_module(module.removesuffix(".__init__"))
            configs = [json.loads(path.read_text()) for path in pathlib.Path(name, "configs").glob("*.json")]
            for one in sorted(one for one in named(configs) if one.startswith("equivariant_nets")):
                assert pydoc.locate(one) is not None, one
            own = [m for m in sys.modules if m.partition(".")[0] == "equivariant_nets"]
            files = {pathlib.Path(sys.modules[module].__file__).resolve() for module in own}
            assert all(pathlib.Path(name).resolve() in file.parents for file in files)
            print("found", name)
            sys.path.remove(name)
            for module in own:
                del sys.modules[module]
    """
    result = start("-c", textwrap.dedent(code), *names, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert [line.split()[1] for line in result.stdout.splitlines() if line.startswith("found")] == names


def test_unpacked_bundles_of_each_kind_run_without_the_package_installed(unpacked, tmp_path):
    random = np.random.RandomState(0)
    for kind in ("volumes", "photographs"):
        (tmp_path / kind).mkdir()
    volume = nib.Nifti1Image(random.normal(size=(18, 16, 20)).astype(np.float32), np.eye(4))
    nib.save(volume, tmp_path / "volumes" / "case.nii.gz")
    Image.fromarray(photograph(random)[0]).save(tmp_path / "photographs" / "eye.png")
    phantoms = {"dataset_dir": "phantoms", "phantom_size": [20, 20, 20], "num_training": 2, "num_validation": 1,
                "num_test": 1, "features": "2x0e+1x1e", "epochs": 1, "output_dir": "trained"}  # fmt: skip
    sweeps = {"sweep_cases": 1, "sweep_angles": [0, 90], "sweep_random_poses": 0, "sweep_scales": [1.0, 0.9]}
    eyes = {"dataset_dir": "photographs", "field_of_view_pixels": 40, "output_dir": "vessels"}
    plan = [
        (SMALL, "train", ["train"], phantoms),
        (SMALL, "train", ["train", "evaluate"], {**phantoms, **sweeps}),
        (CLICKS, "inference", ["inference"], {"dataset_dir": "volumes", "output_dir": "clicks"}),
        (PHOTOGRAPHS, "inference", ["inference"], eyes),
    ]
    code = """
        import json, sys
        from monai.bundle import create_workflow
        for name, kind, files, overrides in json.loads(sys.argv[2]):
            root = f"{sys.argv[1]}/{name}"
            sys.path.insert(0, root)
            configs = [f"{root}/configs/{file}.json" for file in files]
            create_workflow(
                config_file=configs, workflow_type=kind, bundle_root=root, logging_file=False, device="cpu", **overrides
            ).run()
            sys.path.remove(root)
            for module in [m for m in sys.modules if m.partition(".")[0] == "equivariant_nets"]:
                del sys.modules[module]
    """
    result = start("-c", textwrap.dedent(code), str(unpacked), json.dumps(plan), cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    for file in ("trained/model.pt", "trained/mean_dice_raw.csv", "clicks/case_seg.nii.gz", "vessels/eye_vessels.png"):
        assert (tmp_path / file).is_file()


def test_a_bundle_with_findings_is_not_packed(copy_of, tmp_path):
    bundle = copy_of()
    bundle.metadata(monai_version="1.0.0")
    (bundle.root / "LICENSE").unlink()
    with pytest.raises(ValueError, match=r"LICENSE: missing; [^\n]*\n.*monai_version is '1.0.0'"):
        pack_bundle(bundle.root, tmp_path / "archives", quick=True)
    with pytest.raises(ValueError, match="nothing is no folder; legal is a bundle"):
        pack_bundle(tmp_path / "nothing", tmp_path / "archives", without_weights=True)
    assert not (tmp_path / "archives").exists()


def test_weights_are_left_out_only_where_that_is_asked_for(copy_of, tmp_path, capsys):
    bundle, archives = copy_of(), tmp_path / "archives"
    bundle.take_weights_out()
    with pytest.raises(SystemExit, match=r"(?s)ships without weights. Train it: .*error: 1 of 1 bundles were not"):
        pack(str(bundle.root), output_dir=str(archives), quick=True)
    pack(str(bundle.root), output_dir=str(archives), without_weights=True, quick=True)
    (archive,) = archives.iterdir()
    assert not any(name.endswith(".pt") for name in zipfile.ZipFile(archive).namelist())
    assert f"{archive}: has no models/model.pt; whoever unpacks it trains first" in capsys.readouterr().out


def test_files_that_are_downloaded_are_left_out(copy_of, tmp_path):
    bundle = copy_of()
    entry = {"path": "models/model.pt", "url": "https://example.org/x", "hash_type": "md5", "hash_val": "0" * 32}
    (bundle.root / "large_files.json").write_text(json.dumps({"large_files": [entry]}))
    names = zipfile.ZipFile(pack_bundle(bundle.root, tmp_path / "archives", quick=True)).namelist()
    assert f"{SMALL}/large_files.json" in names
    assert f"{SMALL}/models/model.pt" not in names


def test_a_file_in_place_of_the_folder_is_told(tmp_path):
    (tmp_path / "archives").touch()
    with pytest.raises(SystemExit, match="archives is a file; legal is a folder"):
        pack(str(BUNDLES / SMALL), output_dir=str(tmp_path / "archives"), quick=True)


def test_an_archive_is_replaced_as_a_whole_or_not_at_all(tmp_path, monkeypatch):
    archive = tmp_path / f"{SMALL}_v{VERSION}.zip"
    archive.write_text("of before")

    def fail(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", fail)
    with pytest.raises(OSError, match="No space left"):
        pack_bundle(BUNDLES / SMALL, tmp_path, quick=True)
    assert [path.name for path in tmp_path.iterdir()] == [archive.name]
    assert archive.read_text() == "of before"
    monkeypatch.undo()
    pack_bundle(BUNDLES / SMALL, tmp_path, quick=True)
    assert zipfile.is_zipfile(archive)


def test_the_command_packs_what_it_can_and_names_the_rest(copy_of, tmp_path, capsys):
    bundle = copy_of(called="Phantom")
    with pytest.raises(SystemExit, match=r"(?s)the folder is called 'Phantom'.*error: 1 of 2 bundles were not packed"):
        pack(str(bundle.root), str(BUNDLES / SMALL), output_dir=str(tmp_path / "archives"), quick=True)
    assert f"{SMALL}_v{VERSION}.zip: " in capsys.readouterr().out
    with pytest.raises(SystemExit, match="No bundle was given"):
        pack(output_dir=str(tmp_path))
