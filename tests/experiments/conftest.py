"""A bundle that trains in no time, for tests of what carries experiments out."""

import json

import pytest

TRAIN = {
    "imports": ["$import os", "$import torch"],
    "dataset_dir": "",
    "output_dir": "",
    "ckpt_dir": "",
    "resume": False,
    "seed": 0,
    "epochs": 1,
    "width": 2,
    "sweep_angles": [0],
    "network_def": {"_target_": "torch.nn.Linear", "in_features": "@width", "out_features": 1},
    "cases": {"_target_": "equivariant_nets.data.image_datalist", "dataset_dir": "@dataset_dir", "pattern": "*.nii"},
    "run": [
        "$print(len(@cases))",
        "$torch.manual_seed(@seed)",
        "$torch.save(@network_def.state_dict(), os.path.join(@ckpt_dir, 'model.pt'))",
        "$print('trained')",
        "$1 / @epochs",
    ],
}
EVALUATE = {"run": ["$open(os.path.join(@output_dir, 'angles.txt'), 'a').write(str(@sweep_angles))"]}


@pytest.fixture
def experiment_file(tmp_path):
    """Write an experiment on bundles ``fast`` and ``other``, with changes; get its path."""
    for name in ("fast", "other"):
        configs = tmp_path / "bundles" / name / "configs"
        configs.mkdir(parents=True)
        own = {**TRAIN, "fold": None, "run": ["$print(@fold)", *TRAIN["run"]]} if name == "fast" else TRAIN
        for config, content in (("train", own), ("evaluate", EVALUATE), ("metadata", {"version": "0.1.0"})):
            (configs / f"{config}.json").write_text(json.dumps(content))
    (tmp_path / "experiments").mkdir()
    (tmp_path / "case.nii").write_text("a case")

    def write(name="widths", without=(), **changes):
        content = {
            "title": "Widths",
            "question": "Which width?",
            "plot": "curve",
            "networks": {"fast": {"bundle": "fast"}, "other": {"bundle": "other", "overrides": {"epochs": 2}}},
            "vary": {"width": [2, 4]},
            "seeds": [0, 1],
            "evaluation": {"sweep_angles": [0, 90]},
            "quick": {"seeds": [0], "vary": {"width": [3]}},
            **changes,
        }
        path = tmp_path / "experiments" / f"{name}.json"
        path.write_text(json.dumps({key: value for key, value in content.items() if key not in without}))
        return path

    return write
