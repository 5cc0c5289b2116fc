"""Numbers that must not move: what a training ends in, and every kernel's values.

`python -m tests.test_guards` writes `tests/guards.json` anew. Do so only where numbers were meant
to change, and say why in the commit.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
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


def trained(benchmark: str, arms: tuple[str, ...], folder: Path) -> dict[str, str]:
    """sha256 of the weights of the teacher and of each arm, trained at smoke scale, seed 0."""
    command = [sys.executable, "-m", "qrkd_lab", "compare", benchmark, "--scale", "smoke"]
    options = ["--seed", "0", "--runs-dir", str(folder), "--arms", *arms]
    done = subprocess.run(
        [*command, *options], env=os.environ | AVX2, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = {}
    for run in ql.read_runs(folder):
        (path,) = run.path.glob("*.safetensors")
        digest = hashlib.sha256()
        for name, values in sorted(load_file(path).items()):
            digest.update(name.encode() + values.tobytes())
        found[run.settings["arm"]] = digest.hexdigest()
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


def guards() -> dict[str, dict[str, str] | dict[str, list[float]]]:
    """Everything that the file holds."""
    found = {"versions": {"torch": torch.__version__}}
    found["kernels"] = {name: values(kernel) for name, kernel in kernels().items()}
    for benchmark in ("digits", *REAL):
        arms = tuple(ql.ARMS) if benchmark == "digits" else ("kd", "rkd", "qrkd")
        with tempfile.TemporaryDirectory() as folder:
            found[benchmark] = trained(benchmark, arms, Path(folder))
    return found


@pytest.fixture(scope="module")
def guarded() -> dict[str, dict[str, str]]:
    return json.loads(GUARDS.read_text())


@pytest.mark.parametrize("name", kernels())
def test_a_kernel_gives_the_values_that_it_gave(name, guarded):
    np.testing.assert_allclose(values(kernels()[name]), guarded["kernels"][name], 1e-8, 1e-12)


@pytest.mark.parametrize("benchmark", ["digits", *REAL])
def test_a_training_ends_in_the_weights_that_it_ended_in(benchmark, guarded, tmp_path):
    if torch.__version__ != guarded["versions"]["torch"] or platform.machine() != "x86_64":
        pytest.skip("another torch or processor rounds otherwise")
    if benchmark in REAL and not os.environ.get("QRKD_DATA_DIR"):
        pytest.skip("needs the real data: set QRKD_DATA_DIR")
    expected = guarded[benchmark]
    arms = tuple(arm for arm in expected if arm != "teacher")
    assert trained(benchmark, arms, tmp_path) == expected


if __name__ == "__main__":
    GUARDS.write_text(json.dumps(guards(), indent=1) + "\n")
