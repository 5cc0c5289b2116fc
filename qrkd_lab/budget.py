r"""How many circuits, shots and years one training run would take on a quantum device.

A simulator holds states and needs n of them for a kernel matrix. A device has to run a circuit for
every *pair*, and, for a gradient, circuits for every gate that depends on the data:

.. math::

    C_{value} = \tfrac{n(n-1)}{2}, \qquad
    C_{gradient} = \tfrac{n(n-1)}{2} \cdot 2 s, \qquad
    C_{run} = \text{steps} \cdot (2\,C_{value} + C_{gradient})

in each step: the teacher's matrix, the student's, and the student's gradient by the parameter-shift
rule, with s shifted circuits for one sample's gates (two for a rotation), and two samples a pair.
A projected kernel measures each sample's qubits in three bases instead: n takes the place of the
pairs, 3 circuits that of 1, and s that of 2 s.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from qrkd_lab.kernels import FidelityKernel, ProjectedKernel
from qrkd_lab.kernels.base import positive, whole
from qrkd_lab.kernels.calibration import BANDWIDTHS
from qrkd_lab.kernels.quantum import QuantumKernel
from qrkd_lab.learner import CALIBRATE
from qrkd_lab.settings import Settings, build_kernel

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["SECONDS_A_YEAR", "Budget", "budget_table", "circuit_budget", "shifted_circuits"]

SECONDS_A_YEAR = 365.25 * 24 * 3600


def shifted_circuits(kernel: QuantumKernel) -> int:
    """Circuits of the parameter-shift rule for all gates of one sample's circuit.

    Two for each frequency of each gate parameter that depends on the data: 2 for a rotation.
    Fixed gates need none.

    Raises:
        ValueError: a gate that has no parameter-shift rule (the ``amplitude`` map's preparation).

    Example:
        >>> shifted_circuits(FidelityKernel("angle", qubits=3))
        6
    """
    import pennylane as qp

    example = torch.linspace(0.1, 1.0, kernel.features or kernel.qubits, requires_grad=True)
    count = 0
    for gate in kernel.gates(example):
        depends = [getattr(value, "requires_grad", False) for value in gate.parameters]
        if not any(depends):
            continue
        try:
            frequencies = gate.parameter_frequencies
        except qp.exceptions.ParameterFrequenciesUndefinedError:
            raise ValueError(
                f"{gate.name} of {kernel} has no parameter-shift rule; use a map made of rotations"
            ) from None
        count += sum(2 * len(f) for f, on in zip(frequencies, depends, strict=True) if on)
    return count


@dataclass(frozen=True)
class Budget:
    """What one student of the arm ``qrkd`` would need of a device.

    Attributes:
        benchmark: its name.
        batch: n, samples that a matrix compares.
        steps: batches of the whole training.
        values: circuits of the teacher's and the student's matrices.
        gradient: circuits of the student's gradient, by the parameter-shift rule.
        calibration: circuits of the bandwidth rule, once before training.
        shots: a circuit.
    """

    benchmark: str
    batch: int
    steps: int
    values: int
    gradient: int
    calibration: int
    shots: int

    @property
    def circuits(self) -> int:
        """All of them."""
        return self.values + self.gradient + self.calibration

    def years(self, shots_a_second: float) -> float:
        """Time on one device that does nothing else, at a fixed repetition rate."""
        positive("shots_a_second", shots_a_second)
        return self.circuits * self.shots / shots_a_second / SECONDS_A_YEAR

    def price(self, shot: float, circuit: float = 0.0) -> float:
        """Money, in the unit of the two prices: for each shot, and for each circuit."""
        return self.circuits * (self.shots * shot + circuit)


def circuit_budget(settings: Settings, samples: int, shots: int = 1000) -> Budget:
    """The budget of one student at these settings.

    Args:
        settings: of a benchmark and scale; the kernel must be quantum.
        samples: of the training part (``benchmark.samples``); an ``epoch_size`` or ``train_size``
            in the settings that is smaller counts instead.
        shots: a circuit.

    Raises:
        ValueError: a classical kernel; samples or shots < 1; see also :func:`shifted_circuits`.

    Example:
        >>> from qrkd_lab.benchmarks import benchmark_settings
        >>> circuit_budget(benchmark_settings("digits", "laptop"), samples=1100).steps
        540
    """
    kernel = build_kernel(dataclasses.replace(settings, arm="qrkd"))
    if not isinstance(kernel, (FidelityKernel, ProjectedKernel)):
        raise ValueError(f"{kernel} is classical: it needs no circuit; use a quantum kernel")
    limits = (settings.epoch_size, settings.train_size)
    samples = min(whole("samples", samples, 1), *(n for n in limits if n is not None), 2**62)
    whole("shots", shots, 1)
    steps = settings.epochs * -(-samples // settings.batch_size)
    n = settings.tap_tokens if settings.tap == "tokens" else settings.batch_size
    shifted = shifted_circuits(kernel)
    if isinstance(kernel, ProjectedKernel):
        matrix, gradient, few = 3 * n, 3 * n * shifted, 3 * CALIBRATE
    else:
        pairs = n * (n - 1) // 2
        matrix, gradient, few = pairs, 2 * pairs * shifted, CALIBRATE * (CALIBRATE - 1) // 2
    rule = len(BANDWIDTHS) * few if settings.bandwidth is None else 0
    return Budget(settings.benchmark, n, steps, 2 * matrix * steps, gradient * steps, rule, shots)


def budget_table(
    budgets: Mapping[str, Budget],
    shots_a_second: float,
    shot_price: float = 0.0,
    circuit_price: float = 0.0,
) -> DataFrame:
    """Budgets side by side: a row each, with years and price at the rate and prices assumed.

    Columns ``batch``, ``steps``, ``values``, ``gradient``, ``calibration``, ``circuits``,
    ``shots`` (all of them), ``years``, ``price``.
    """
    from pandas import DataFrame

    rows = {
        name: {
            "batch": b.batch, "steps": b.steps, "values": b.values, "gradient": b.gradient,
            "calibration": b.calibration, "circuits": b.circuits,
            "shots": float(b.circuits) * b.shots, "years": b.years(shots_a_second),
            "price": b.price(shot_price, circuit_price),
        }
        for name, b in budgets.items()
    }  # fmt: skip
    return DataFrame.from_dict(rows, orient="index")
