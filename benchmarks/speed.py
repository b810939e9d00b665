"""Time and memory of one U-Net as ratios to another one of equal width, measured in one run.

    python benchmarks/speed.py [--network steerable] [--reference conventional] [--device cuda] [--output speed.json]

The networks take turns, and each time is the median over the turns. The floor of a network is the time of its bare
convolutions: the same inputs and kernels, and nothing else. Saved activations are the tensors that autograd keeps for
the backward pass, each storage counted once, without parameters and without assembled kernels.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import cached_property
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from common import environment, print_table, write_json
from e3nn import o3
from torch import Tensor, nn
from tqdm import tqdm

from equivariant_nets import ConventionalUNet, RegularUNet, ScaleUNet, SteerableUNet, materialize
from equivariant_nets.cli import command_line
from equivariant_nets.networks.kernels import AssembledConvolution

MIB = 2**20
NETWORKS: dict[str, Callable[[str, str], nn.Module]] = {
    "steerable": lambda features, gates: SteerableUNet(features=features, gates=gates),
    "regular": lambda features, gates: RegularUNet(3, 1, 3, "O", fields(features, CUBE_ROTATIONS), kernel_size=5),
    "scale": lambda features, gates: ScaleUNet(3, 1, 3, fields(features, SCALES)),
    "conventional": lambda features, gates: ConventionalUNet(features=o3.Irreps(features).dim),
}
CUBE_ROTATIONS = 24
SCALES = 4


def fields(features: str, order: int) -> int:
    """How many fields of a group of an order have as many channels as these irreps."""
    width = o3.Irreps(features).dim
    if width % order:
        raise ValueError(f"features={features} are {width} channels; choose a multiple of {order} for fields.")
    return width // order


def convolutions(net: nn.Module) -> list[nn.Module]:
    """The convolutions of a network, in the order of its modules."""
    return [module for module in net.modules() if isinstance(module, AssembledConvolution | nn.Conv3d)]


def dense_kernel(convolution: nn.Module) -> Tensor:
    """The kernel that a convolution applies; assembled, for an equivariant one."""
    return convolution.kernel() if isinstance(convolution, AssembledConvolution) else convolution.weight


class Workload:
    """A network with an image to train on, and the parts of its cost that are timed."""

    def __init__(self, name: str, features: str, gates: str, size: int, device: torch.device, seed: int) -> None:
        self.build = lambda: NETWORKS[name](features, gates)
        self.device = device
        self.amp = device.type == "cuda"
        torch.manual_seed(seed)
        self.image = torch.randn(1, 1, size, size, size).to(device)
        self.net = self.build().to(device)
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=1e-4)
        self.plain: nn.Module | None = None

    def parts(self) -> dict[str, Callable[[], object]]:
        """What is timed, by name."""
        parts: dict[str, Callable[[], object]] = {
            "training step": self.step,
            "bare convolutions, forward and backward": self.bare_step,
            "forward in training mode": self.forward,
            "inference": self.inference,
            "inference, materialized": self.materialized_inference,
            "bare convolutions, forward": self.bare_inference,
            "construction": self.build,
        }
        if any(isinstance(module, AssembledConvolution) for module in convolutions(self.net)):
            parts["kernel assembly, forward and backward"] = self.kernel_assembly
        return parts

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, enabled=self.amp)

    @cached_property  # large, and of use to the floor alone
    def layers(self) -> list[tuple[Tensor, Tensor]]:
        """Input and dense kernel of each convolution, for the floor."""
        layers: list[tuple[Tensor, Tensor]] = []

        def record(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            needs_gradient = bool(layers)  # all but the image
            kernel = dense_kernel(module).detach().clone().requires_grad_(True)
            layers.append((inputs[0].detach().clone().requires_grad_(needs_gradient), kernel))

        hooks = [module.register_forward_pre_hook(record) for module in convolutions(self.net)]
        with torch.no_grad(), self._autocast():
            self.net(self.image)
        for hook in hooks:
            hook.remove()
        return layers

    def step(self) -> None:
        self.net.train()
        self.optimizer.zero_grad()
        with self._autocast():
            loss = self.net(self.image).float().square().mean()
        loss.backward()
        self.optimizer.step()

    def forward(self) -> None:
        self.net.train()
        with self._autocast():
            self.net(self.image)

    @torch.no_grad()
    def inference(self) -> None:
        self.net.eval()
        with self._autocast():
            self.net(self.image)

    @torch.no_grad()
    def materialized_inference(self) -> None:
        if self.plain is None:
            self.plain = materialize(self.net)
        with self._autocast():
            self.plain(self.image)

    def bare_step(self) -> None:
        for x, kernel in self.layers:
            with self._autocast():
                y = F.conv3d(x, kernel, padding=kernel.shape[-1] // 2)
            y.backward(torch.ones_like(y))
            x.grad = kernel.grad = None

    @torch.no_grad()
    def bare_inference(self) -> None:
        with self._autocast():
            for x, kernel in self.layers:
                F.conv3d(x, kernel, padding=kernel.shape[-1] // 2)

    def kernel_assembly(self) -> None:
        for module in convolutions(self.net):
            kernel = dense_kernel(module)
            kernel.backward(torch.ones_like(kernel))
        self.optimizer.zero_grad()

    def memory(self) -> dict[str, float]:
        """MiB of a training step; its peak on a GPU alone."""
        self.net.train()
        layers = convolutions(self.net)
        saved = _bytes(self._saved(self.forward))
        kernels = _bytes(self._saved(lambda: [dense_kernel(module) for module in layers]))
        # And each dense kernel itself, unless it is a parameter; mixed precision saves a copy of those too.
        dtype = torch.get_autocast_dtype(self.device.type) if self.amp else torch.float32
        dense = [dense_kernel(module) for module in layers if self.amp or isinstance(module, AssembledConvolution)]
        kernels += sum(kernel.numel() * dtype.itemsize for kernel in dense)
        result = {
            "saved activations": (saved - kernels) / MIB,
            "assembled kernels": kernels / MIB,
            "parameters, gradients, Adam": 4 * _bytes(list(self.net.parameters())) / MIB,
        }
        result["training footprint"] = sum(result.values())
        if self.device.type == "cuda":
            result["peak of a training step"] = self._peak() / MIB
        return result

    def _saved(self, function: Callable[[], object]) -> list[Tensor]:
        """What autograd keeps for the backward pass of a function: a tensor of each storage, without parameters."""
        parameters = {p.untyped_storage().data_ptr() for p in self.net.parameters()}
        saved: dict[int, Tensor] = {}  # held, so that no address is used twice

        def pack(tensor: Tensor) -> Tensor:
            pointer = tensor.untyped_storage().data_ptr()
            if pointer not in parameters:
                saved[pointer] = tensor.detach()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            function()
        return list(saved.values())

    def _peak(self) -> int:
        """Most bytes that a training step allocates beside what is there without this network."""
        self.step()  # Adam's states
        own = 3 * _bytes(list(self.net.parameters()))  # parameters and Adam's states; step frees the gradients first
        self.optimizer.zero_grad()
        before = torch.cuda.memory_allocated(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        self.step()
        return torch.cuda.max_memory_allocated(self.device) - before + own


def _bytes(tensors: Sequence[Tensor]) -> int:
    return sum(tensor.untyped_storage().nbytes() for tensor in tensors)


def timed(function: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def measure_times(
    workloads: dict[str, Workload], repeats: int, label: str, only: Sequence[str] | None
) -> dict[str, dict[str, list[float]]]:
    """Seconds of each turn, by part and network; the networks take turns, and a turn before the first warms up."""
    parts = {name: workload.parts() for name, workload in workloads.items()}
    if only is not None:
        legal = max(parts.values(), key=len)
        if unknown := [part for part in only if part not in legal]:
            raise ValueError(f"parts {unknown} are not legal; choose from {list(legal)}.")
        parts = {name: {part: own[part] for part in only if part in own} for name, own in parts.items()}
    times: dict[str, dict[str, list[float]]] = {}
    for part in tqdm(max(parts.values(), key=len), desc=label, unit="part"):
        turns = [
            {name: timed(own[part], workloads[name].device) for name, own in parts.items() if part in own}
            for _ in range(repeats + 1)
        ]
        times[part] = {name: [turn[name] for turn in turns[1:]] for name in turns[0]}
    return times


def measure(
    pair: tuple[str, str],
    size: int,
    features: str,
    gates: str,
    repeats: int,
    device: torch.device,
    seed: int,
    only: Sequence[str] | None,
) -> list[dict[str, Any]]:
    """A row for each quantity of a network and its reference, at one size."""
    workloads = {name: Workload(name, features, gates, size, device, seed) for name in pair}
    memory = {name: workload.memory() for name, workload in workloads.items()}
    rows = []
    for part, turns in measure_times(workloads, repeats, f"{size}^3", only).items():
        row = _row(pair, size, part, "s", {name: median(seconds) for name, seconds in turns.items()})
        ratios = [s / c for s, c in zip(turns.get(pair[0], []), turns.get(pair[1], []), strict=False)]
        row["ratio by turn"] = f"{min(ratios):.2f}-{max(ratios):.2f}" if ratios else None
        rows.append({**row, "turns": turns})
    for quantity in memory[pair[0]]:
        rows.append(_row(pair, size, quantity, "MiB", {name: amounts[quantity] for name, amounts in memory.items()}))
    return rows


def _row(pair: tuple[str, str], size: int, quantity: str, unit: str, values: dict[str, float]) -> dict[str, Any]:
    own, reference = (values.get(name) for name in pair)
    return {
        "size": f"{size}^3",
        "quantity": quantity,
        "unit": unit,
        pair[0]: own,
        pair[1]: reference,
        "ratio": own / reference if own and reference else None,
        "ratio by turn": None,
        "turns": {},
    }


def main(
    *,
    network: str = "steerable",
    reference: str = "conventional",
    sizes: Sequence[int] | None = None,
    features: str = "8x0e+4x1e+2x2e",
    gates: str = "scalars",
    repeats: int = 7,
    parts: Sequence[str] | None = None,
    device: str | None = None,
    threads: int | None = None,
    seed: int = 0,
    output: str | None = None,
) -> list[dict[str, Any]]:
    """Measure, print a table, and return its rows.

    Args:
        network: ``steerable``, ``regular`` (of the group O) or ``conventional``.
        reference: another one of these.
        sizes: sides of the cubes; 32 and 48 on a CPU, 128 on a GPU if None.
        features: irreps of the steerable network; the others get as many channels. For ``regular``, a multiple of 24.
        gates: of the steerable network: ``scalars``, or ``convolution`` as in the paper.
        repeats: turns of each network.
        parts: what to time, of the rows in seconds, such as ``"training step"``; all if None.
        device: ``cpu`` or ``cuda``; the GPU where there is one if None. On a GPU with mixed precision.
        threads: of the CPU; as torch chooses if None.
        seed: of weights and images.
        output: JSON file to write.
    """
    pair = network, reference
    if network == reference or not set(pair) <= set(NETWORKS):
        raise ValueError(f"network={network!r} and reference={reference!r} must be two of {list(NETWORKS)}.")
    if threads is not None:
        torch.set_num_threads(threads)
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    sizes = list(sizes or ([128] if place.type == "cuda" else [32, 48]))
    first_construction = {name: timed(lambda build=NETWORKS[name]: build(features, gates), place) for name in pair}
    rows = [row for size in sizes for row in measure(pair, size, features, gates, repeats, place, seed, parts)]
    print_table(rows)
    seconds = ", ".join(f"{name} {value:.2f} s" for name, value in first_construction.items())
    print(f"\nThe first construction in a process: {seconds}")
    record = {
        "network": network,
        "reference": reference,
        "features": features,
        "gates": gates,
        "sizes": sizes,
        "repeats": repeats,
        "seed": seed,
        "amp": place.type == "cuda",
    }
    write_json(output, {**environment(place), **record, "first_construction_s": first_construction, "rows": rows})
    return rows


cli = command_line(main)

if __name__ == "__main__":
    cli()
