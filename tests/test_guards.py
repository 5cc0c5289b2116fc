"""Numbers that must not move: what a training ends in, and every kernel's values.

`python -m tests.test_guards` writes `tests/guards.json` anew, with weights as this processor rounds
them. Do so on a new kind of processor; elsewhere only where numbers were meant to change (then
without the weights of other processors), and say why in the commit.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

import qrkd_lab as ql

GUARDS = Path(__file__).with_name("guards.json")
REAL = ("mnist", "ptb")
# Rounding differs with the processor's vector instructions; all x86-64 processors of the last ten
# years have these.
AVX2 = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
}


# What a few of torch's own functions give in these instructions: processors that agree here are
# taken to round alike. Two with AVX2 need not agree.
ROUNDING = """
import hashlib, torch, torch.nn.functional as F
torch.manual_seed(0); torch.set_num_threads(1)
x = torch.rand(64, 1, 28, 28)
layers = [torch.nn.Conv2d(1, 8, 5), torch.nn.Conv2d(8, 12, 5), torch.nn.Linear(192, 64)]
y = F.max_pool2d(F.relu(layers[1](F.max_pool2d(F.relu(layers[0](x)), 2))), 2)
y = F.gelu(layers[2](y.flatten(1)))
(F.log_softmax(y, 1).sum() + (y @ y.T).sin().sum() + torch.cdist(y, y).sum()).backward()
found = b"".join(p.grad.numpy().tobytes() for layer in layers for p in layer.parameters())
print(hashlib.sha256(found).hexdigest())
"""


@functools.cache
def rounding() -> str:
    """A name for how this processor rounds."""
    return subprocess.run(
        [sys.executable, "-c", ROUNDING], env=os.environ | AVX2, capture_output=True, text=True,
        check=True,
    ).stdout.strip()  # fmt: skip


def trained(arms: Mapping[str, Sequence[str]], folder: Path) -> dict[str, dict[str, str]]:
    """Per benchmark: sha256 of the weights of the teacher and each arm at smoke scale, seed 0."""
    options = ["--scale", "smoke", "--seed", "0", "--runs-dir", str(folder), "--arms"]
    calls = [["compare", name, *options, *chosen] for name, chosen in arms.items()]
    code = f"from qrkd_lab.cli import main; raise SystemExit(any(map(main, {calls})))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | AVX2, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, str]] = {name: {} for name in arms}
    for run in ql.read_runs(folder):
        (path,) = run.path.glob("*.safetensors")
        digest = hashlib.sha256()
        for name, values in sorted(load_file(path).items()):
            digest.update(name.encode() + values.tobytes())
        found[run.settings["benchmark"]][run.settings["arm"]] = digest.hexdigest()
    return found


def kernels() -> dict[str, ql.kernels.Kernel]:
    """Every kernel that the package has, by a name."""
    sizes = [(2, {"layers": 1}), (4, {"layers": 2}), (4, {"layers": 2, "entangle": False})]
    made = {
        f"{kind.__name__}({name}, {qubits}, {options})": kind(
            name, qubits, bandwidth=0.7, **options
        )
        for kind in (ql.FidelityKernel, ql.ProjectedKernel)
        for name in ("angle", "zz", "iqp", "reuploading")
        for qubits, options in sizes
    }
    for kind in (ql.RBFKernel, ql.LaplacianKernel, ql.PolynomialKernel):
        made[kind.__name__] = kind(bandwidth=0.7)
    return made | {
        "amplitude": ql.FidelityKernel("amplitude", 3, bandwidth=0.7),
        "amplitude, projected": ql.ProjectedKernel("amplitude", 3, bandwidth=0.7),
        "cosine": ql.CosineKernel(),
    }


def values(kernel: ql.kernels.Kernel) -> list[float]:
    """The kernel above the diagonal, on six samples, to ten digits."""
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(6, kernel.features or 4, generator=generator, dtype=torch.float64)
    upper = kernel(x)[*torch.triu_indices(6, 6, 1)]
    return [float(f"{value:.10g}") for value in upper]


def weights_here(only: Sequence[str]) -> dict[str, dict[str, str]]:
    arms = {"digits": tuple(ql.ARMS)} | dict.fromkeys(REAL, ("kd", "rkd", "qrkd"))
    with tempfile.TemporaryDirectory() as folder:
        return trained({name: arms[name] for name in only}, Path(folder))


@pytest.fixture(scope="module")
def guarded() -> dict[str, dict[str, dict[str, str]]]:
    return json.loads(GUARDS.read_text())


@pytest.fixture(scope="module")
def weights(guarded) -> dict[str, dict[str, str]]:
    """All benchmarks whose data are here, trained in one process, as imports take half its time."""
    if torch.__version__ != guarded["versions"]["torch"]:
        pytest.skip("another torch rounds otherwise")
    return weights_here(("digits", *REAL) if os.environ.get("QRKD_DATA_DIR") else ("digits",))


@pytest.mark.parametrize("name", kernels())
def test_a_kernel_gives_the_values_that_it_gave(name, guarded):
    np.testing.assert_allclose(values(kernels()[name]), guarded["kernels"][name], 1e-8, 1e-12)


@pytest.mark.parametrize("benchmark", ["digits", *REAL])
def test_a_training_ends_in_the_weights_that_it_ended_in(benchmark, guarded, weights):
    if benchmark not in weights:
        pytest.skip("needs the real data: set QRKD_DATA_DIR")
    sets = {name: found[benchmark] for name, found in guarded["weights"].items()}
    wrong = {
        name: [arm for arm, digest in found.items() if weights[benchmark][arm] != digest]
        for name, found in sets.items()
    }
    if (here := rounding()) not in sets and all(wrong.values()):
        pytest.skip("this processor rounds unlike those of guards.json")
    assert not wrong.get(here)


if __name__ == "__main__":
    found = json.loads(GUARDS.read_text())
    found["versions"] = {"torch": torch.__version__}
    found["kernels"] = {name: values(kernel) for name, kernel in kernels().items()}
    found["weights"] |= {rounding(): weights_here(("digits", *REAL))}
    GUARDS.write_text(json.dumps(found, indent=1) + "\n")
