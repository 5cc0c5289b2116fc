"""CircuitExplorer: write gates, and see what the kernel of their circuit sees.

:func:`read_gates` makes a PennyLane quantum function of a text, by a parser of its own: nothing in
the text is run as Python.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any

import ipywidgets as W
import torch
from torch import Tensor

from qrkd_lab.checks import whole
from qrkd_lab.kernels.diagnosis import diagnose
from qrkd_lab.kernels.encoders import BANDWIDTHS
from qrkd_lab.kernels.quantum import FidelityKernel
from qrkd_lab.teaching.plots.matrices import kernel_views
from qrkd_lab.teaching.widgets.explorer import Explorer, Picture, log_slider, menu, slider
from qrkd_lab.teaching.widgets.kernels import kernel_words, sentence, stretched

__all__ = ["CIRCUITS", "CircuitExplorer", "read_gates"]

CIRCUITS = {
    "angle": "RY(x) each",
    "zz": "repeat 2\nH each\nRZ(2*x) each\nRZZ(2*(pi-x)*(pi-y)) pairs",
    "iqp": "repeat 2\nH each\nRZ(x) each\nRZZ(x*y) pairs",
    "a ring": "repeat 2\nRY(x) each\nCNOT ring",
    "one qubit of two": "RY(x0) 0\nRX(3*x0) 0\nH 1",
}
# Name in the text to PennyLane's.
ONE = {"H": "Hadamard", "X": "PauliX", "Y": "PauliY", "Z": "PauliZ", "S": "S", "T": "T"}
ONE_ANGLE = {"RX": "RX", "RY": "RY", "RZ": "RZ"}
TWO = {"CNOT": "CNOT", "CZ": "CZ", "SWAP": "SWAP"}
TWO_ANGLE = {"CRX": "CRX", "CRY": "CRY", "CRZ": "CRZ",
             "RXX": "IsingXX", "RYY": "IsingYY", "RZZ": "IsingZZ"}  # fmt: skip
GATES = ONE | ONE_ANGLE | TWO | TWO_ANGLE
OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul,
             ast.Div: operator.truediv}  # fmt: skip
LONGEST, MOST = 2000, 500  # characters of a text, gates of a circuit
SAMPLES = 64  # standard normal, on which the RBFs are fitted


class CircuitExplorer(Explorer):
    """The fidelity kernel of your own gates: along a line, over the plane, and beside its best RBF.

    Args:
        gates: a text for :func:`read_gates`.
        qubits: 2 to 6; each sample has as many numbers.
        bandwidth: factor on every angle.
        x0, x1: the sample that all others are compared with; its further numbers are 0.

    Raises:
        ValueError: a number out of its range. What is wrong with the gates is said inside.
    """

    def __init__(
        self,
        gates: str = CIRCUITS["zz"],
        qubits: int = 2,
        bandwidth: float = 0.25,
        x0: float = 0.0,
        x1: float = 0.0,
    ) -> None:
        text = W.Textarea(gates, rows=8, description="Gates")
        controls = {
            "gates": text,
            "qubits": slider("Qubits", qubits, 2, 6),
            "bandwidth": log_slider("Bandwidth", bandwidth, BANDWIDTHS[0], BANDWIDTHS[-1]),
            "x0": slider("Seen from x0", x0, -3.0, 3.0, 0.1),
            "x1": slider("Seen from x1", x1, -3.0, 3.0, 0.1),
        }
        begin = menu("Begin with", gates, {"as given": gates} | CIRCUITS)
        begin.observe(lambda _: self.set_to(gates=begin.value), "index")
        super().__init__(controls, [begin, *controls], ("kernel", "circuit"), ("language",))
        text.style.description_width = "3.4em"
        self.show(language=_LANGUAGE)

    def see(self) -> None:
        kernel, state = self._kernel(), self.state
        angles = _normal(kernel.qubits)
        with torch.no_grad():
            diagnosis = diagnose(kernel(angles), x=angles)
        point = torch.zeros(kernel.qubits, dtype=torch.float64)
        point[0], point[1] = state["x0"], state["x1"]
        chart = kernel_views(kernel, diagnosis.fit.kernel, point)
        b, q = state["bandwidth"], state["qubits"]
        code = f"ql.FidelityKernel(read_gates(gates, {q}), qubits={q}, bandwidth={b:.4g})"
        self._told = (f"{sentence(diagnosis)}, on {SAMPLES} normal samples.", code)
        self.show(kernel_words(*self._told, math.nan), kernel=Picture.of(chart, quick=True))

    def see_more(self) -> None:
        """The circuit, and how well a stretched RBF fits."""
        kernel = self._kernel()
        _, fit = stretched(kernel, _normal(kernel.qubits))
        self.show(kernel_words(*self._told, fit), circuit=Picture.of_circuit(kernel))

    def _kernel(self) -> FidelityKernel:
        state = self.state
        circuit = read_gates(state["gates"], state["qubits"])
        return FidelityKernel(circuit, state["qubits"], bandwidth=state["bandwidth"])


def _normal(q: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(SAMPLES, q, dtype=torch.float64, generator=generator)


# ---- the language


_ANGLED = {size: ", ".join((*plain, *(f"{name}(angle)" for name in angled)))
           for size, plain, angled in ((1, ONE, ONE_ANGLE), (2, TWO, TWO_ANGLE))}  # fmt: skip
_LANGUAGE = f"""<p>A gate per line: its name, its angle, and where it acts, e.g.
<code>RY(x0) 0</code>, <code>RZZ(2*x0*x1) 0 1</code>.</p><table>
<tr><th>on one qubit</th><td>{_ANGLED[1]}</td></tr>
<tr><th>on two qubits</th><td>{_ANGLED[2]}</td></tr>
<tr><th>where</th><td>numbers of qubits, from 0; <code>each</code> qubit; all <code>pairs</code>;
a <code>ring</code> of neighbours</td></tr>
<tr><th>angle</th><td>numbers, <code>pi</code>, <code>+ - * /</code> and brackets; a sample's
numbers <code>x0</code>, <code>x1</code>, ...; <code>x</code> and <code>y</code>: those with the
number of the gate's first and second qubit</td></tr>
<tr><th>repeat 2</th><td>as the first line: everything below, twice</td></tr>
<tr><th># words</th><td>are for the reader</td></tr></table>"""

Placed = tuple[str, ast.expr | None, tuple[int, ...]]  # PennyLane's name, angle, qubits


def read_gates(text: str, qubits: int) -> Callable[..., None]:
    """A quantum function ``f(angles, wires)`` of a text, for :class:`~qrkd_lab.FidelityKernel`.

    A line is a gate: ``H each``, ``RY(x0) 0``, ``RZZ(2*x*y) pairs``, ``CNOT ring``. An angle is
    made of numbers, ``pi``, a sample's ``x0``, ``x1``, ..., and ``+ - * /``; ``x`` and ``y`` are
    the numbers of the gate's own qubits. ``repeat 2`` as the first line doubles what follows.

    Args:
        text: at most 2,000 characters.
        qubits: q, how many there are; a sample has as many numbers.

    Raises:
        ValueError: a line that is not understood; it says which, and what was expected.

    Example:
        >>> kernel = FidelityKernel(read_gates("RY(x) each", 2), qubits=2)
        >>> kernel(torch.tensor([[0.0, 0.0], [torch.pi, 0.0]])).round(decimals=4)
        tensor([[1., 0.],
                [0., 1.]])
    """
    q = whole("qubits", qubits, 1)
    if len(text) > LONGEST:
        raise ValueError(f"gates: expected at most {LONGEST} characters, got {len(text)}")
    placed: list[Placed] = []
    times, sample = 1, torch.full((q,), 0.5)
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].strip()
        try:
            if repeat := re.fullmatch(r"repeat\s+(\d+)", words):
                if placed:
                    raise ValueError("repeat comes before the first gate")
                times = whole("repeat", int(repeat[1]), 1, 20)
            elif words:
                found = list(_read_line(words, q))
                for _, angle, wires in found:
                    _value(angle, sample, wires)
                placed += found
        except (ValueError, ArithmeticError, RecursionError, MemoryError) as error:
            raise ValueError(f"line {number}, {words[:60]!r}: {error or type(error)}") from error
    if not placed or times * len(placed) > MOST:
        raise ValueError(f"gates: expected 1 to {MOST} gates, got {times * len(placed)}")

    def gates(angles: Tensor, wires: Any = range(q)) -> None:  # noqa: ANN401
        import pennylane as qp

        for name, angle, where in times * placed:
            values = () if angle is None else (_value(angle, angles, where),)
            getattr(qp, name)(*values, wires=[wires[i] for i in where])

    return gates


def _read_line(words: str, q: int) -> Iterator[Placed]:
    """The gates of one line."""
    parts = re.fullmatch(r"(\w+)\s*(?:\((.*)\))?\s*([\w\s,]*)", words)
    name = parts[1].upper() if parts else ""
    if name not in GATES:
        raise ValueError(f"expected a gate such as RY(x0) 0, one of {', '.join(GATES)}")
    size = 1 if name in ONE | ONE_ANGLE else 2
    if (parts[2] is not None) != (name in ONE_ANGLE | TWO_ANGLE):
        raise ValueError(f"{name} takes {'no' if parts[2] is not None else 'an'} angle")
    try:
        angle = None if parts[2] is None else ast.parse(parts[2].strip(), mode="eval").body
    except SyntaxError:
        raise ValueError(f"the angle {parts[2]!r} is not a formula") from None
    said = parts[3].replace(",", " ").split()
    groups = {"each": [(i,) for i in range(q)]}
    if size == 2:
        ring = [(i, (i + 1) % q) for i in range(q if q > 2 else q - 1)]
        groups = {"pairs": list(combinations(range(q), 2)), "ring": ring}
    if len(said) == 1 and said[0] in groups:
        places = groups[said[0]]
    elif len(said) == size == len(set(said)) and all(one.isdecimal() for one in said):
        places = [tuple(map(int, said))]
    else:
        numbers = "a qubit's number" if size == 1 else "two different numbers of qubits"
        raise ValueError(f"{name} acts on {numbers}, or on: {', '.join(groups)}")
    if any(i >= q for place in places for i in place):
        raise ValueError(f"there are qubits 0 to {q - 1}")
    for place in places:
        yield GATES[name], angle, place


def _value(node: ast.expr | None, angles: Tensor, wires: tuple[int, ...]) -> Any:  # noqa: ANN401
    """An angle of one or more samples ``(..., q)``; any other formula is refused."""
    match node:
        case None:
            return None
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return float(number)
        case ast.Name(id="pi"):
            return math.pi
        case ast.Name(id="x"):
            return angles[..., wires[0]]
        case ast.Name(id="y") if len(wires) > 1:
            return angles[..., wires[1]]
        case ast.Name(id=name) if re.fullmatch(r"x\d{1,3}", name):
            if int(name[1:]) >= angles.shape[-1]:
                raise ValueError(f"{name}: a sample has the numbers x0 to x{angles.shape[-1] - 1}")
            return angles[..., int(name[1:])]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, angles, wires)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            return OPERATORS[type(op)](_value(left, angles, wires), _value(right, angles, wires))
    raise ValueError(
        f"an angle is made of numbers, pi, x0, x1, x, y and + - * /, not of {ast.unparse(node)!r}"
    )
