"""Public names: all there, lazy, and clear about numbers and truth values of other kinds."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

import qrkd_lab as ql
from qrkd_lab.studies.records import PUBLISHED


def test_every_public_name_can_be_had():
    for name in ql.__all__:
        assert getattr(ql, name) is not None
        assert name in dir(ql)
    with pytest.raises(AttributeError, match="FidelityKernel"):
        ql.FidelityKernal  # noqa: B018


VERSIONS = "from qrkd_lab.studies.records import versions; versions()"


@pytest.mark.parametrize("command", ["main(['tune', '-h'])", VERSIONS])
def test_neither_the_command_line_s_help_nor_versions_import_anything_heavy(command):
    heavy = (
        "torch", "torchvision", "pennylane", "transformers", "ipywidgets", "matplotlib", "pandas",
    )  # fmt: skip
    code = (
        "import atexit, sys; from qrkd_lab.cli import main;"
        f"atexit.register(lambda: print([m for m in {heavy} if m in sys.modules])); {command}"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.splitlines()[-1] == "[]"


def test_losses_and_relations_need_no_pennylane():
    code = (
        "import sys; sys.modules['pennylane'] = None; import torch, qrkd_lab as ql;"
        "x = torch.randn(4, 3); print(float(ql.angle_loss(x, x) + ql.distance_loss(x, x)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(out.stdout) == pytest.approx(0, abs=1e-6)


X = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
SIDES = (ql.RBFKernel(), ql.Encoder(2, 2, 2))
# Public arguments that are numbers: a call with each, and a value of NumPy's that it takes.
NUMBERS = {
    "RBFKernel.bandwidth": (lambda v: ql.RBFKernel(v)(X), np.float32(0.5)),
    "RBFKernel.chunk": (lambda v: ql.RBFKernel(chunk=v)(X), np.int64(2)),
    "PolynomialKernel.degree": (lambda v: ql.PolynomialKernel(v)(X), np.int32(3)),
    "FidelityKernel.qubits": (lambda v: ql.FidelityKernel("zz", v)(X), np.int64(2)),
    "FidelityKernel.layers": (lambda v: ql.FidelityKernel("zz", 2, v)(X), np.uint8(3)),
    "FidelityKernel.seed": (lambda v: ql.FidelityKernel("reuploading", 2, seed=v)(X), np.int64(3)),
    "ProjectedKernel.gamma": (lambda v: ql.ProjectedKernel("zz", 2, gamma=v)(X), np.float32(2)),
    "Encoder.qubits": (lambda v: ql.Encoder(2, 2, v).teacher(X), np.int64(2)),
    "Encoder.seed": (lambda v: ql.Encoder(2, 2, 2, seed=v).teacher(X), np.int64(2)),
    "DistillationLoss.angle": (lambda v: loss_of(angle=v), np.int64(2)),
    "DistillationLoss.temperature": (lambda v: loss_of(kd=1.0, temperature=v), np.float32(2)),
    "geometric_difference.regularisation": (
        lambda v: ql.geometric_difference(SIDES[0](X), SIDES[0](X), v).value, np.float32(0.25),
    ),
}  # fmt: skip


def loss_of(**options):
    torch.manual_seed(0)
    outputs = [ql.Outputs(torch.randn(5, 3), torch.randn(5, 2)) for _ in range(2)]
    return ql.DistillationLoss(**options)(*outputs, torch.arange(5) % 3).total


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_of_numpy_are_numbers_and_text_is_none(name):
    call, number = NUMBERS[name]
    torch.testing.assert_close(call(number), call(number.item()), rtol=0, atol=0)
    for wrong in (str(number), True, "", [number]):
        with pytest.raises((TypeError, ValueError), match="expected a (finite|whole)? ?number"):
            call(wrong)


TRUTHS = {
    "FidelityKernel.entangle": lambda v: ql.FidelityKernel("zz", 2, entangle=v),
    "compare.published": lambda v: ql.compare("digits", published=v),
    "compare.progress": lambda v: ql.compare("digits", progress=v),
    "read_runs.weights": lambda v: ql.read_runs(PUBLISHED, "ptb", "laptop", v),
}


@pytest.mark.parametrize("name", TRUTHS)
def test_text_and_numbers_are_no_truth_values(name):
    for wrong in ("true", "", 1, None):
        with pytest.raises(TypeError, match="expected True or False, got"):
            TRUTHS[name](wrong)


def test_a_truth_value_of_numpy_is_one():
    kernel = ql.FidelityKernel("zz", 2, entangle=np.False_)
    assert kernel == ql.FidelityKernel("zz", 2, entangle=False) and kernel.entangle is False


@pytest.mark.parametrize(
    "wrong",
    [
        {"jobs": "2"}, {"jobs": True}, {"seeds": "3"}, {"seeds": True}, {"seeds": ["0"]},
        {"seeds": np.array(3)}, {"seeds": None}, {"arms": None}, {"arms": [3]},
    ],
    ids=str,
)  # fmt: skip
def test_a_study_s_arguments_of_another_kind_are_refused_by_name(wrong, tmp_path):
    with pytest.raises((TypeError, ValueError), match=f"{next(iter(wrong))}:|unknown arm 3"):
        ql.compare("digits", **{"runs_dir": tmp_path} | wrong)
    for weights in ("13", ["0.1"], [True], 3, [], None, [0.0]):
        with pytest.raises(ValueError, match="weights: expected"):
            ql.tune("digits", weights=weights, runs_dir=tmp_path)
    assert not any(tmp_path.iterdir())
