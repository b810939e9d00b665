"""Train bundles one after another in the processes of one torchrun, and write what each process saw and found."""

import copy
import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from ignite.engine import Events
from monai.bundle import ConfigWorkflow
from monai.networks.utils import one_hot
from monai.transforms import CenterSpatialCrop

from equivariant_nets.training.losses import SoftDiceCELoss


def create(spec, output_dir):
    """The workflow of a training over processes, with an output folder for each of them."""
    configs = [str(Path(spec["root"]) / "configs" / name) for name in ("train.json", "multi_gpu_train.json")]
    return ConfigWorkflow(
        config_file=configs, workflow_type="train", logging_file=False, bundle_root=spec["root"],
        **spec["overrides"], output_dir=str(output_dir), ckpt_dir=str(output_dir),
    )  # fmt: skip


def gradient(network, loss, image, label):
    network.zero_grad()
    loss(network(image), label).backward()
    return torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])


def mean_gradient(network, loss, image, label):
    """The mean of the gradients of both samples, each on its own."""
    return sum(gradient(network, loss, image[own], label[own]) for own in (slice(0, 1), slice(1, 2))) / 2


def gradient_errors(workflow):
    """How far the gradient of two processes is from the mean of their samples', and this from that of one batch."""
    network, loss, dataset = map(workflow.parser.get_parsed_content, ("network", "loss", "validate#dataset"))
    network.train()
    for module in network.modules():
        if "Dropout" in type(module).__name__:
            module.eval()
    items = [dataset[index] for index in range(2)]
    config = workflow.parser["network_def"]
    side = 18 if config.get("structures", config).get("depth") == 4 else 16  # the least that can be halved so often
    crop = CenterSpatialCrop([side] * (items[0]["image"].ndim - 1))
    image, label = (torch.stack([crop(item[key]).as_tensor() for item in items]) for key in ("image", "label"))
    if isinstance(loss, SoftDiceCELoss):  # the label of the validation is whole numbers
        label = one_hot(label, workflow.parser.get_parsed_content("out_channels"))
    alone, own = copy.deepcopy(network.module), slice(dist.get_rank(), dist.get_rank() + 1)
    processes, apart = gradient(network, loss, image[own], label[own]), mean_gradient(alone, loss, image, label)
    network.zero_grad()
    alone.double()
    samples = copy.deepcopy(loss).double(), image.double(), label.double()
    return {
        "processes": relative_error(processes, apart),
        "batch": relative_error(gradient(alone, *samples), mean_gradient(alone, *samples)),
    }


def relative_error(value, expected):
    return float((value - expected).norm() / expected.norm())


def train(spec):
    output_dir = Path(spec["output_dir"]) / f"rank_{dist.get_rank()}"
    workflow = create(spec, output_dir)
    workflow.initialize()
    errors, seen = gradient_errors(workflow), []
    trainer, evaluator = map(workflow.parser.get_parsed_content, ("train#trainer", "validate#evaluator"))
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED,
        lambda engine: seen.extend(str(item["image"].meta["filename_or_obj"]) for item in engine.state.batch),
    )
    workflow.run()
    return {
        "seen": seen,
        "handlers": {section: handlers(workflow, section) for section in ("train", "validate")},
        "gradient_errors": errors,
        "metrics": {name: float(value) for name, value in evaluator.state.metrics.items()},
        "files": sorted(path.name.split(".")[0] for path in output_dir.glob("*")),
    }


def handlers(workflow, section):
    return [type(handler).__name__ for handler in workflow.parser.get_parsed_content(f"{section}#handlers")]


def error_of(spec):
    """What starting a training says."""
    try:
        create(spec, "nowhere").initialize()
    except Exception as error:
        while error.__cause__ is not None:
            error = error.__cause__
        return str(error)


if __name__ == "__main__":
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    plan = json.loads(Path(sys.argv[1]).read_text())
    results = {name: train(spec) for name, spec in plan["train"].items()}
    results["too many processes"] = error_of(plan["too many processes"])
    Path(sys.argv[1]).with_name(f"results_{dist.get_rank()}.json").write_text(json.dumps(results))
    dist.destroy_process_group()
