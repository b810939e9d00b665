"""What the tests of every family of regular representations ask of a network."""

import subprocess
import textwrap

import onnxruntime
import torch
from fresh import python

from equivariant_nets import materialize


def trained(net, x):
    """After three steps, in evaluation mode."""
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        y = net(x)
        sum((part - 1).square().mean() for part in (y if isinstance(y, list) else [y])).backward()
        optimizer.step()
    return net.eval()


def assert_exports(net, example, images, folder):
    """TorchScript without this package, torch.export and ONNX Runtime give the outputs of a float32 network."""
    pairs = []
    for x in images:
        with torch.no_grad():
            pairs.append((x, net(x)))
    torch.jit.save(torch.jit.script(net), folder / "net.ts")
    torch.save(pairs, folder / "pairs.pt")
    code = f"""
        import sys
        sys.modules["equivariant_nets"] = None
        import torch
        net = torch.jit.load({str(folder / "net.ts")!r})
        print(max(float((net(x) - y).norm() / y.norm()) for x, y in torch.load({str(folder / "pairs.pt")!r})))
    """
    result = subprocess.run([python(), "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert float(result.stdout or "nan") < 1e-5, result.stderr

    sizes = {"x": dict.fromkeys(range(2, example.dim()), torch.export.Dim.DYNAMIC)}
    program = torch.export.export(materialize(net), (example,), dynamic_shapes=sizes)
    torch.onnx.export(program, f=folder / "net.onnx", input_names=["x"], verbose=False)
    exported = program.module()
    session = onnxruntime.InferenceSession(folder / "net.onnx", providers=["CPUExecutionProvider"])
    for x, y in pairs:
        with torch.no_grad():
            assert (exported(x) - y).norm() / y.norm() < 1e-5
        assert (torch.from_numpy(session.run(None, {"x": x.numpy()})[0]) - y).norm() / y.norm() < 1e-4
