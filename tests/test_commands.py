"""What MONAI's command line refuses before anything runs, and what it says last when something fails."""

import doctest
import importlib
import inspect
import json
import logging
import re
import shlex
import sys
import time
from multiprocessing.pool import ThreadPool
from pathlib import Path
from threading import Event

import pytest
import torch
from fire.parser import DefaultParseValue
from monai.bundle import ConfigParser
from monai.data import Dataset
from monai.transforms import Compose, Lambda
from monai.utils import optional_import
from torch._utils import ExceptionWrapper  # in which PyTorch's data loader passes errors on
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

import equivariant_nets.commands
from equivariant_nets.commands import check_command_line, end_with_the_cause, without_traceback
from equivariant_nets.data import retina_datalist
from equivariant_nets.errors import find_cause
from equivariant_nets.settings import is_on

ROOT = Path(__file__).resolve().parents[1]
BUNDLES = sorted(path.parent for path in (ROOT / "bundles").glob("*/configs"))
COMBINATIONS = (
    ["train.json"],
    ["train.json", "evaluate.json"],
    ["train.json", "multi_gpu_train.json"],
    ["inference.json"],
    ["inference.json", "multi_gpu_inference.json"],
)
WORKFLOWS = [
    pytest.param([str(bundle / "configs" / file) for file in files], id=f"{bundle.name}-{files[-1]}")
    for bundle in BUNDLES
    for files in COMBINATIONS
]
HIPPOCAMPUS = str(ROOT / "bundles" / "hippocampus_mri_so3_segmentation" / "configs" / "inference.json")
TRAIN = HIPPOCAMPUS.replace("inference", "train")


def check(*options, files=HIPPOCAMPUS, command="run"):
    check_command_line([command, "--config_file", str(files), *options])


def refusal(*options, **where):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        check(*options, **where)
    return str(caught.value)


@pytest.mark.parametrize("name", ["command_line", "overrides"])
def test_examples(name):
    result = doctest.testmod(importlib.import_module(f"equivariant_nets.commands.{name}"))
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("files", WORKFLOWS)
def test_every_key_of_a_config_is_legal_and_its_misspelling_is_not(files):
    parser = ConfigParser()
    parser.read_config(files)
    keys = [key for key in parser.get() if not key.startswith("_")]
    check(*[text for key in keys for text in (f"--{key}", "'$1'")], files=files)
    message = refusal(*[text for key in keys for text in (f"--{key}x", "1")], files=files).splitlines()
    for key, line in zip(keys, message, strict=True):
        assert line.startswith(f"--{key}x: ")
        assert re.search(rf"--{key}\b", line.split("Did you mean")[1])


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda bundle: bundle.name)
def test_a_component_takes_the_arguments_of_its_class_alone(bundle):
    files = str(bundle / "configs" / "train.json")
    parser = ConfigParser()
    parser.read_config(files)
    parts = [f"network_def#{key}" for key, value in parser["network_def"].items() if isinstance(value, dict)]
    networks = [id for id in parts if isinstance(parser.get_parsed_content(id), torch.nn.Module)]
    for id in networks or ["network_def"]:
        target = parser[id]["_target_"].rpartition(".")[2]
        arguments = [*inspect.signature(getattr(equivariant_nets, target)).parameters]
        check(*[text for name in [*arguments, "_disabled_"] for text in (f"--{id}#{name}", "1")], files=files)
        message = refusal(f"--{id}#dept", "3", f"--{id}#residuall=True", files=files).splitlines()
        takes_no = f"{id}, equivariant_nets.{target}, takes no"
        assert message == [
            f'--{id}#dept: {takes_no} "dept". Did you mean --{id}#depth?',
            f'--{id}#residuall: {takes_no} "residuall". Did you mean --{id}#residual?',
        ]


@pytest.mark.parametrize(
    ("option", "advice"),
    [
        ("preprocesing#transforms#3#pixdim", "Did you mean --preprocessing#transforms#3#pixdim?"),
        ("preprocessing#transform#3#pixdim", "Did you mean --preprocessing#transforms#3#pixdim?"),
        ("preprocessing#transforms#3#pixdin", "Did you mean --preprocessing#transforms#3#pixdim "),
        ("preprocesing#transforms#9#pixdim", "Did you mean --preprocessing "),
        ("preprocessing#transforms#6#pixdim", "preprocessing#transforms is a list of 6 items"),
        ("preprocessing#transforms#one", "preprocessing#transforms is a list of 6 items"),
        ("inferer#overlp", 'SlidingWindowInferer, takes no "overlp". Did you mean --inferer#overlap?'),
        ("inferer#kwargs", 'SlidingWindowInferer, takes no "kwargs"'),
        ("inferer#self", 'SlidingWindowInferer, takes no "self"'),
        ("pattern#0", "pattern is '*', which has no parts."),
        ("zzz", "Legal are agreement, args_file, "),
        ("run_idd", "Did you mean --run_id"),
        ("experiment_name", 'there is no "experiment_name"'),  # without --tracking
    ],
)
def test_an_override_of_nothing_is_refused_with_what_is_legal(option, advice):
    for spelling in ([f"--{option}", "1"], [f"--{option}=1"], [f"--{option.replace('#', '::')}", "1"]):
        message = refusal(*spelling)
        assert message.startswith(spelling[0].removesuffix("=1") + ": ")
        assert advice in message


@pytest.mark.parametrize(
    ("bundle", "option", "advice"),
    [
        ("phantom_so3_segmentation", "fil", 'FileRotationSweep, takes no "fil". Did you mean --rotation_sweep#fill'),
        ("phantom_so3_segmentation", "num_case", "Did you mean --rotation_sweep#num_cases"),  # of what it is built on
    ],
)
def test_an_option_of_a_sweep_is_one_of_its_own_or_of_what_it_is_built_on(bundle, option, advice):
    configs = next(path for path in BUNDLES if path.name == bundle) / "configs"
    files = [str(configs / "train.json"), str(configs / "evaluate.json")]
    message = refusal(f"--rotation_sweep#{option}", "0", files=str(files))
    assert advice in message
    check("--rotation_sweep#num_cases", "2", "--rotation_sweep#seed", "1", files=str(files))
    arrays = ["--rotation_sweep#_target_", "equivariant_nets.evaluation.poses.RotationSweep"]  # as of pictures
    assert 'RotationSweep, takes no "fill"' in refusal(*arrays, "--rotation_sweep#fill", "0", files=str(files))


@pytest.mark.parametrize(
    "options",
    [
        ["--preprocessing#transforms#3#pixdim", "[2,2,2]"],
        ["--preprocessing::transforms::3::padding_mode=zeros"],
        ["--network_def", "{'_target_': 'monai.data.PILReader'}", "--network_def#anything", "2"],  # it passes them on
        ["--network_def", "{'_target_': 'torch.nn.Conv3d'}", "--network_def#out_channels", "2"],
        ["--output-dir", "results"],  # fire reads a dash as an underscore
        ["evaluate", "--evaluate", "$print(1)", "--finalize", "$print(2)"],
        ["--smoothing", "{'_target_': 'Lambda'}", "--smoothing#func", "1", "--postprocessing", "@smoothing"],
        ["--tracking", "mlflow", "--experiment_name", "spleen", "--tracking_uri", "sqlite:///a.db"],
        ["--_meta_#version", "2"],
        ["--workflow_type", "inference", "--logging_file", "False"],
    ],
)
def test_what_is_read_is_legal(options):
    check(*options)


def test_what_is_a_number_in_the_config_stays_one():
    for value in ("3", "0.5", "$1 + 1", "@seed"):
        check("--epochs", value, "--learning_rate", value, files=TRAIN)
    assert refusal("--epochs", "two", "--learning_rate=low", files=TRAIN).splitlines() == [
        f"--{option}: {text!r} is no number, which {default} in the config is. Give a number, or an expression ($ ...)."
        for option, text, default in (("epochs", "two", 24), ("learning_rate", "low", 0.04))
    ]


def test_a_text_that_counts_as_true_is_no_false():
    for value in ("True", "False", "true", "$not True"):
        check("--include_background", value, "--loss#softmax", value, files=TRAIN)
    check("--bfloat16", "false", "--resume", "false", files=TRAIN)  # which are read as they are typed
    texts = (("include_background", "false"), ("loss#softmax", "no"), ("train#trainer#compile", "false"))
    given = [word for option, text in texts for word in (f"--{option}", text)]
    assert refusal(*given, files=TRAIN).splitlines() == [
        f"--{option}: {text!r} is read as a text, which counts as true. Write True or False, with a capital."
        for option, text in texts
    ]


def test_a_new_key_of_a_plain_dictionary_is_legal():
    check("--train#key_metric#another", "1", files=TRAIN)


def test_parameters_of_each_command_are_legal_for_it_alone():
    options = ["network_def", "--filepath", "model.onnx", "--input_shape", "[1,1,8,8,8]", "--ckpt_file=model.pt"]
    check(*options, command="onnx_export")
    check("network_def", "-n", "4", "--p", "2", command="verify_net_in_out")
    assert '"input_shape"' in refusal("--input_shape", "[1]")
    assert "--ckpt_file" in refusal("--ckpt_fil", "model.pt", command="ckpt_export")


def test_an_args_file_is_checked_like_a_command_line(tmp_path):
    file = tmp_path / "args.json"
    file.write_text(json.dumps({"config_file": HIPPOCAMPUS, "ouput_dir": "x", "dataset_dir": 1001, "pattern": "1"}))
    with pytest.raises(ValueError, match=r"dataset_dir is 1001 in the args_file.*\n--ouput_dir: .*--output_dir"):
        check_command_line(["run", "--args_file", str(file)])
    file.write_text(json.dumps({"config_file": HIPPOCAMPUS, "output_dir": "x", "train#dataset#data": []}))
    with pytest.raises(ValueError, match=r'^--train#dataset#data: there is no "train" at the top'):
        check_command_line(["run", "--args_file", str(file)])
    check_command_line(["run", "--args_file", str(file), "--config_file", TRAIN])


def test_commands_without_a_config_pass():
    for arguments in ([], ["--help"], ["download", "--name", "x"], ["no_command", "--x", "1"], ["run", "--x", "1"]):
        check_command_line(arguments)


NAMES = ["1001", "2024_01", "1e5", "True", "None", "[a]", "{a}", "a,b", "run#2", "(a)", "0x10", "b'a'"]


@pytest.mark.parametrize("text", NAMES)
@pytest.mark.parametrize("option", ["dataset_dir", "output_dir", "ckpt_dir", "ckpt_path", "bundle_root", "pattern"])
def test_a_name_that_would_not_arrive_is_refused_with_one_that_does(option, text):
    if (option, text) == ("ckpt_dir", "None"):
        check("--ckpt_dir", "None")  # its default, for which no folder can be meant
        return
    message = refusal(f"--{option}", text)
    assert message.startswith(f"--{option} {text} is read as {DefaultParseValue(text)!r}")
    remedy = shlex.split(message.partition("Write ")[2].removesuffix("."))
    check(*remedy)
    arrived = DefaultParseValue(remedy[1])
    assert arrived == text if option == "pattern" else Path(arrived) == Path(text)


@pytest.mark.parametrize(
    "text", ["a-b", "sub-01", "001", "1-2", "a b", "./1001", "/data/1001", "'1001'", '"a,b"', "~/a"]
)
def test_a_name_that_arrives_passes(text):
    check("--dataset_dir", text, f"--pattern={text}")


def test_an_option_without_a_value_is_refused():
    assert "an option without a value" in refusal("--dataset_dir", "--output_dir", "x")


def test_clicks_may_be_none_or_the_content_of_a_file():
    files = HIPPOCAMPUS.replace("so3_segmentation", "so3_deepedit")
    check("--clicks", "None", files=files)
    check("--clicks", "{a.nii.gz: {anterior: [[1,2,3]]}}".replace("a.nii.gz", "'a.nii.gz'"), files=files)
    assert "--clicks 12 is read as 12" in refusal("--clicks", "12", files=files)


def documented_commands():
    """All that README, docs and cards tell a user to type, with the names of its shell variables filled in; but for the
    guide to one's own data, whose commands run, for they make the bundle that they speak of."""
    documents = [
        ROOT / "README.md",
        ROOT / "benchmarks" / "README.md",
        *sorted({*ROOT.glob("docs/**/*.md")} - {ROOT / "docs" / "own_data.md"}),
        *sorted(ROOT.glob("bundles/*/docs/*.md")),
    ]
    for file in documents:
        text = file.read_text(encoding="utf-8").replace("\\\n", " ")
        variables = re.findall(r"^ *([A-Z]+)=(\S+)$", text, re.MULTILINE)
        for line in re.findall(r"^.*-m monai\.bundle \w+ .*$", text, re.MULTILINE):
            for name, value in variables:
                line = re.sub(rf"\${name}\b", value, line)
            yield pytest.param(line.split("-m monai.bundle ")[1], id=f"{file.relative_to(ROOT)}: {line.strip()[:50]}")


@pytest.mark.parametrize("line", [*documented_commands()])
def test_every_documented_command_passes(line, monkeypatch):
    bundles = ROOT / "bundles"
    own = re.search(r"--config_file (configs|\w+_segmentation)/", line)  # in the folder of a bundle, or of several
    monkeypatch.chdir((bundles / "phantom_so3_segmentation" if own[1] == "configs" else bundles) if own else ROOT)
    check_command_line(shlex.split(line, comments=True))


# The last words.


def raised(call, *arguments):
    with pytest.raises(Exception) as caught:  # noqa: PT011
        call(*arguments)
    return caught.value


def instantiated(target, **arguments):
    return ConfigParser({"part": {"_target_": target, **arguments}, "run": "$@part"}).get_parsed_content("run")


TOLD = "resume='no' is not legal: give true or false."


def test_the_cause_is_found_below_what_monai_wraps_it_in():
    error = raised(lambda: instantiated("equivariant_nets.settings.is_on", name="resume", value="no"))
    assert "resume" not in str(error)
    assert find_cause(error) == (TOLD, True)


def loaded(value, transform, in_another_process):
    """An item of a data set, or the error that MONAI and PyTorch make of that of its transform."""
    try:
        return Dataset([value], Compose([Lambda(transform)]))[0]
    except Exception:
        if in_another_process:
            ExceptionWrapper(where="in DataLoader worker process 0").reraise()
        raise


@pytest.mark.parametrize("in_another_process", [False, True])
def test_the_cause_is_found_below_transforms(in_another_process):
    error = raised(loaded, "no", lambda value: is_on("resume", value), in_another_process)
    assert find_cause(error) == (TOLD, True)


def test_a_list_of_problems_comes_whole_from_another_process(tmp_path):
    (tmp_path / "drive").mkdir()
    here, there = (
        find_cause(raised(loaded, tmp_path, lambda folder: retina_datalist(folder, "training", ["drive"]), elsewhere))
        for elsewhere in (False, True)
    )
    assert here.text.count("\n  ") > 1
    assert here.is_told
    assert there == here


def divide(value):
    return 1 / value


@pytest.mark.parametrize("in_another_process", [False, True])
def test_what_the_package_does_not_say_is_no_word_for_the_user(in_another_process):
    error = raised(loaded, 0, divide, in_another_process)
    assert find_cause(error) == ("ZeroDivisionError: division by zero", False)


def test_a_fault_of_the_package_is_no_word_for_the_user():
    cause = find_cause(raised(without_traceback(None)))  # calls None
    assert cause == ("TypeError: 'NoneType' object is not callable", False)


def test_words_of_the_package_about_an_error_of_the_system_are_told():
    def call():
        try:
            open("/nowhere")  # noqa: SIM115
        except OSError as error:
            is_on("resume", "no")
            raise RuntimeError from error

    assert find_cause(raised(call)) == (TOLD, True)


def test_a_key_error_is_told_without_quotes():
    assert find_cause(raised(lambda: {}["a 'b'"])).text == "KeyError: a 'b'"


def test_a_long_cause_is_shortened():
    net, other = torch.nn.Sequential(*[torch.nn.Linear(2, 2)] * 50), torch.nn.Linear(3, 3)
    cause = find_cause(raised(other.load_state_dict, net.state_dict()))
    assert len(cause.text) < 2000
    assert cause.text.startswith("RuntimeError: Error(s) in loading state_dict for Linear:")
    assert cause.text.endswith("give the options that it was trained with, or other weights.")


def test_missing_weights_and_packages_come_with_a_remedy(tmp_path):
    assert "--ckpt_path" in find_cause(raised(torch.load, tmp_path / "model.pt")).text
    onnx = find_cause(ModuleNotFoundError("No module named 'onnxscript'", name="onnxscript"))
    assert onnx.text.endswith("pip install onnx onnxscript onnxruntime")
    missing, _ = optional_import("no_such_module.part")
    cause = find_cause(raised(lambda: missing.x))
    assert cause.text.startswith("OptionalImportError: import no_such_module.part")
    assert cause.text.endswith("pip install no_such_module")
    assert "Traceback" not in cause.text


def end(call, capsys):
    error = raised(call)
    end_with_the_cause(type(error), error, error.__traceback__)
    return capsys.readouterr().err


def test_a_told_cause_comes_without_a_traceback_and_any_other_behind_one(capsys):
    assert end(lambda: is_on("resume", "no"), capsys) == f"\n{TOLD}\n"
    words = end(lambda: divide(0), capsys)
    assert words.startswith("Traceback")
    assert words.endswith("\n\nZeroDivisionError: division by zero\n")


def test_threads_that_still_load_an_image_end_before_the_last_words(capsys):
    started, ended = Event(), Event()

    def load():
        started.set()
        time.sleep(0.2)
        ended.set()

    with ThreadPool(1) as pool:
        pool.apply_async(load)
        started.wait()
    end(lambda: is_on("resume", "no"), capsys)
    assert ended.is_set()


def test_an_interrupt_is_left_to_python(capsys):
    end_with_the_cause(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert capsys.readouterr().err.strip() == "KeyboardInterrupt"


def test_torchrun_gets_the_cause_for_its_summary(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "error.json"))
    end(lambda: is_on("resume", "no"), capsys)
    failure = ProcessFailure(local_rank=0, pid=1, exitcode=1, error_file=str(tmp_path / "error.json"))
    assert f"traceback : {TOLD}\n" in ChildFailedError("monai.bundle", {0: failure}).format_msg()


def test_an_error_that_is_passed_on_is_logged_in_one_line():
    make = without_traceback(logging.LogRecord)
    error = raised(divide, 0)
    arguments = (logging.ERROR, "", 1, "Exception", (), (type(error), error, error.__traceback__))
    passed_on = make("", arguments[0], "monai/handlers/stats_handler.py", *arguments[2:])
    assert passed_on.exc_info is None
    assert make("", arguments[0], "elsewhere.py", *arguments[2:]).exc_info is not None


def test_other_programs_are_left_alone(monkeypatch):
    before = sys.excepthook, logging.getLogRecordFactory()
    monkeypatch.setattr(sys, "argv", ["server", "run", "--config_file", HIPPOCAMPUS, "--ouput_dir", "x"])
    importlib.reload(equivariant_nets.commands)
    assert (sys.excepthook, logging.getLogRecordFactory()) == before


@pytest.mark.parametrize("file", ["train.json", "inference.json"])
@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda bundle: bundle.name)
def test_every_bundle_imports_the_checks(bundle, file):
    config = json.loads((bundle / "configs" / file).read_text(encoding="utf-8"))
    assert "$import equivariant_nets.commands" in config["imports"]
