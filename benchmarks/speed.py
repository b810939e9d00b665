"""Time and memory of the steerable U-Net as ratios to a conventional one of equal width, measured in one run.

    python benchmarks/speed.py [--device cuda] [--sizes 32,48] [--output speed.json]

The networks take turns, and each time is the median over the turns. The floor of a network is the time of its bare
convolutions: the same inputs and kernels, and nothing else. Saved activations are the tensors that autograd keeps for
the backward pass, each storage counted once, without parameters and without assembled kernels.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import fire
import torch
import torch.nn.functional as F
from common import environment, print_table, write_json
from torch import Tensor, nn
from tqdm import tqdm

from equivariant_nets import ConventionalUNet, SteerableUNet
from equivariant_nets.steerable import Convolution

MIB = 2**20
NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "steerable": lambda features: SteerableUNet(features=features),
    "conventional": lambda features: ConventionalUNet(
        features=SteerableUNet(features=features).encoders[0][2].irreps.dim
    ),
}


def convolutions(net: nn.Module) -> list[nn.Module]:
    """The convolutions of a network, in the order of its modules."""
    return [module for module in net.modules() if isinstance(module, Convolution | nn.Conv3d)]


def dense_kernel(convolution: nn.Module) -> Tensor:
    """The kernel that a convolution applies; assembled, for a steerable one."""
    return convolution.kernel() if isinstance(convolution, Convolution) else convolution.weight


class Workload:
    """One network at one size, and the parts of its cost."""

    def __init__(self, net: nn.Module, size: int, amp: bool) -> None:
        self.net = net
        self.device = next(net.parameters()).device
        self.image = torch.randn(1, 1, *[size] * 3, device=self.device)
        self.amp = amp
        self.optimizer = torch.optim.Adam(net.parameters(), lr=1e-4)
        self.layers = self._record_layers()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, enabled=self.amp)

    def _record_layers(self) -> list[tuple[Tensor, Tensor]]:
        """Input and dense kernel of each convolution, for the floor."""
        layers: list[tuple[Tensor, Tensor]] = []

        def record(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            first = not layers  # the image needs no gradient
            layers.append((inputs[0].detach().clone().requires_grad_(not first), dense_kernel(module).detach()))

        hooks = [module.register_forward_pre_hook(record) for module in convolutions(self.net)]
        with torch.no_grad(), self._autocast():
            self.net(self.image)
        for hook in hooks:
            hook.remove()
        return [(x, kernel.clone().requires_grad_(True)) for x, kernel in layers]

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

    def floor_of_step(self) -> None:
        for x, kernel in self.layers:
            with self._autocast():
                y = F.conv3d(x, kernel, padding=kernel.shape[-1] // 2)
            y.backward(torch.ones_like(y))
            x.grad = kernel.grad = None

    def kernel_assembly(self) -> None:
        for module in convolutions(self.net):
            kernel = dense_kernel(module)
            kernel.backward(torch.ones_like(kernel))
        self.optimizer.zero_grad()

    def memory(self) -> dict[str, float]:
        """MiB of a training step."""
        self.net.train()
        parameters = list(self.net.parameters())
        kernels = self._saved_bytes(lambda: [dense_kernel(module) for module in convolutions(self.net)])
        kernels += sum(k.nbytes for m in convolutions(self.net) if (k := dense_kernel(m)) is not m.weight)
        result = {
            "saved activations": (self._saved_bytes(self.forward) - kernels) / MIB,
            "assembled kernels": kernels / MIB,
            "parameters, gradients, Adam": 4 * sum(p.nbytes for p in parameters) / MIB,
        }
        return {**result, "training footprint": sum(result.values())}

    def _saved_bytes(self, function: Callable[[], object]) -> int:
        """Bytes that autograd keeps for the backward pass of a function, without parameters."""
        parameters = {p.untyped_storage().data_ptr() for p in self.net.parameters()}
        storages: dict[int, torch.UntypedStorage] = {}  # held, so that no address is used twice

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in parameters:
                storages[storage.data_ptr()] = storage
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            function()
        return sum(storage.nbytes() for storage in storages.values())


def timed(function: Callable[[], None], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def measure(size: int, features: str, repeats: int, device: torch.device, seed: int) -> dict[str, dict[str, float]]:
    """Median seconds and MiB of each network, by quantity."""
    workloads = {}
    for name, build in NETWORKS.items():
        torch.manual_seed(seed)
        workloads[name] = Workload(build(features).to(device), size, amp=device.type == "cuda")
    times: dict[str, dict[str, list[float]]] = {name: {} for name in workloads}
    for repeat in tqdm(range(repeats + 1), desc=f"{size}^3", unit="turn"):
        for name, workload in workloads.items():
            quantities = {
                "training step": workload.step,
                "forward in training": workload.forward,
                "inference": workload.inference,
                "step of the bare convolutions": workload.floor_of_step,
            }
            if name == "steerable":
                quantities["kernel assembly, forward and backward"] = workload.kernel_assembly
            for quantity, function in quantities.items():
                seconds = timed(function, device)
                if repeat > 0:  # the first turn warms up
                    times[name].setdefault(quantity, []).append(seconds)
    results = {name: {q: median(values) for q, values in by_quantity.items()} for name, by_quantity in times.items()}
    return {name: {**results[name], **workload.memory()} for name, workload in workloads.items()}


def main(
    sizes: Sequence[int] | int | None = None,
    features: str = "8x0e+4x1e+2x2e",
    repeats: int = 5,
    device: str | None = None,
    seed: int = 0,
    output: str | None = None,
) -> list[dict[str, Any]]:
    """Measure, print a table, and return its rows.

    Args:
        sizes: sides of the cubes; 32 and 48 on a CPU, 128 on a GPU if None.
        features: irreps of the steerable network; the conventional one gets as many channels.
        repeats: turns of each network.
        device: ``cpu`` or ``cuda``; the GPU where there is one if None. On a GPU with mixed precision.
        seed: of weights.
        output: JSON file to write.
    """
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    sizes = sizes or ([128] if place.type == "cuda" else [32, 48])
    start = time.perf_counter()
    NETWORKS["steerable"](features)
    construction = time.perf_counter() - start
    rows = []
    for size in [sizes] if isinstance(sizes, int) else sizes:
        results = measure(size, features, repeats, place, seed)
        for quantity, steerable in results["steerable"].items():
            conventional = results["conventional"].get(quantity)
            ratio = steerable / conventional if conventional else "-"
            names = {"size": f"{size}^3", "quantity": quantity}
            rows.append({**names, "steerable": steerable, "conventional": conventional or 0.0, "ratio": ratio})
    print_table(rows)
    print(f"\nTimes in seconds, memory in MiB. Construction of the steerable network: {construction:.2f} s")
    write_json(output, {**environment(place), "features": features, "construction_s": construction, "rows": rows})
    return rows


if __name__ == "__main__":
    fire.Fire(main, serialize=lambda rows: None)
