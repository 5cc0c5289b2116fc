r"""All states of a batch at once: a PennyLane circuit replayed as a few torch operations.

The states are exact and differentiable. It is fast as gates are not applied one by one:

- runs of diagonal gates become one phase :math:`e^{i \Theta E}`, with the angles
  :math:`\Theta` ``(n, r)`` times a constant table of eigenvalues E ``(r, 2^q)``;
- layers of one-qubit gates become Kronecker products over groups of neighbouring qubits, applied
  as matrix products;
- permutations of basis states (X, CNOT, SWAP, Toffoli) become one index;
- everything before the first angle is computed when the circuit is read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qrkd_lab.checks import no_second_derivative
from qrkd_lab.kernels.circuits import (
    COMPLEX,
    CircuitError,
    Gate,
    Numbers,
    Reading,
    evaluate,
    trace,
)

__all__ = [
    "Rotate",
    "StateVector",
    "compiled",
    "kron",
    "matmul",
    "merged",
    "on_neighbours",
    "on_wires",
]

GROUP = 4  # constant one-qubit gates multiplied out together: 16 x 16 matrices
EACH = 3  # the same where each sample has its own
WHOLE = 6  # constant layers on up to this many qubits are one matrix
TABLE = 10  # phases of up to this many qubits come from one table
MOST = 2**19  # amplitudes per pass: larger arrays cost page faults in every call


class StateVector:
    """The states that a PennyLane quantum function prepares, for a whole batch of angles.

    Args:
        circuit: a PennyLane quantum function ``f(angles, wires)`` of gates that have a matrix or a
            decomposition. It is called in every call, with the angles of one sample, ``(d,)``.
        qubits: q, the number of wires.
        fixed: the function never changes, takes batches, computes in torch, and gives each gate a
            column ``[..., k]`` of a tensor: it is called once for each shape of angles, and
            replayed from then on.

    Example:
        >>> import pennylane as qp
        >>> bell = StateVector(lambda x, wires: (qp.RY(x[..., 0], wires=0), qp.CNOT([0, 1])), 2)
        >>> bell(torch.tensor([[torch.pi / 2]])).real
        tensor([[0.7071, 0.0000, 0.0000, 0.7071]])
    """

    def __init__(self, circuit: Callable[..., object], qubits: int, fixed: bool = False) -> None:
        self.circuit, self.qubits, self.fixed = circuit, qubits, fixed
        self._plans: dict[object, tuple[Any, ...]] = {}
        self._checked: set[object] = set()  # shapes

    def __call__(self, angles: Tensor) -> Tensor:
        """States ``(n, 2^q)``, complex of the precision of ``angles`` ``(n, d)``, wire 0 first."""
        if angles.dtype not in COMPLEX:
            raise TypeError(f"angles: expected float32 or float64, got {angles.dtype}")
        if len(angles) > (rows := MOST >> self.qubits):
            return torch.cat([self(part) for part in angles.split(rows)])
        shape = (angles.shape, angles.dtype, angles.device)
        if self.fixed:
            numbers_of, *plan = self._kept(shape, 64, lambda: self._traced(angles))
            return self._run(numbers_of(angles), *plan, len(angles))
        read = evaluate(self.circuit, self.qubits, angles, shape not in self._checked)
        self._checked.add(shape)
        numbers = read.numbers(angles)
        key = (*read.keys, numbers.state is None, angles.dtype, angles.device)
        plan = self._kept(key, 8, lambda: self._compiled(read, angles))
        return _normalised(self._run(numbers, *plan, len(angles)))

    def _kept(self, key: object, most: int, make: Callable[[], tuple[Any, ...]]) -> tuple[Any, ...]:
        if (plan := self._plans.get(key)) is None:
            if len(self._plans) >= most:
                self._plans.clear()
            plan = self._plans[key] = make()
        return plan

    def _traced(self, angles: Tensor) -> tuple[Any, ...]:
        read, numbers_of = trace(self.circuit, self.qubits, angles)
        return numbers_of, *self._compiled(read, angles)

    def _compiled(self, read: Reading, angles: Tensor) -> tuple[Tensor, list[Step]]:
        """The state before the first gate that moves, and the steps from there on."""
        with torch.inference_mode(False), torch.no_grad():
            start = torch.zeros(
                1, 2**self.qubits, dtype=COMPLEX[angles.dtype], device=angles.device
            )
            start[0, 0] = 1
            groups = merged(read.gates)
            while groups and not read.states and all(g.kind == "constant" for g in groups[0][1]):
                start = compiled(*groups.pop(0), self.qubits, start)(start, Numbers())
            return start, [compiled(*group, self.qubits, start) for group in groups]

    @staticmethod
    def _run(numbers: Numbers, start: Tensor, steps: list[Step], n: int) -> Tensor:
        state = start if numbers.state is None else numbers.state.to(start.dtype)
        for step in steps:
            state = step(state, numbers)
        return state.repeat(n, 1) if len(state) < n or state is start else state


def _normalised(states: Tensor) -> Tensor:
    """The states, or an error that names a sample whose amplitudes are none."""
    lengths = states.detach().abs().square().sum(1)
    wrong = ~((lengths - 1).abs() < 1e-3)  # NaN too
    if wrong.any():
        i = wrong.nonzero()[0].item()
        length = lengths[i].item()
        raise CircuitError(
            f"the feature map makes no quantum state of sample {i}: "
            + (
                f"its amplitudes have the squared length {length:.4g} instead of 1; normalise "
                "them (normalize=True), and use unitary matrices only"
                if math.isfinite(length)
                else "an angle of a gate is NaN or infinite; keep the angles where the function is "
                "defined (arccos: -1 to 1, log: above 0)"
            )
        )
    return states


Step = Callable[[Tensor, Numbers], Tensor]  # a state (n or 1, 2^q) to the next


def merged(gates: Sequence[Gate]) -> list[tuple[str, list[Gate]]]:
    """Gates in groups that are one step each, with the kind of step.

    A gate joins the earliest group of its kind that it can be moved to.
    """
    groups: list[tuple[str, list[Gate]]] = []
    for gate in gates:
        kind, home = _step_kind(gate), None
        for other, members in reversed(groups):
            if other == kind != "single":
                home = members
            disjoint = all(set(one.wires).isdisjoint(gate.wires) for one in members)
            if not disjoint and not kind == other == "phase":
                break
        if home is None:
            home = []
            groups.append((kind, home))
        home.append(gate)
    return groups


def _step_kind(gate: Gate) -> str:
    """The fastest kind of step that takes a gate."""
    if gate.diagonal:
        return "phase"
    if len(gate.wires) == 1:
        return "layer"
    if gate.kind == "constant":
        ones = np.isclose(gate.matrix, 1)
        if np.allclose(gate.matrix, ones) and (ones.sum(0) == 1).all():
            return "permutation"
    return "single"


def compiled(kind: str, gates: Sequence[Gate], qubits: int, like: Tensor) -> Step:
    """The step of a group of gates, with constants on the device and in the precision of states."""
    makers = {"phase": _phase, "layer": _layer, "permutation": _permutation, "single": _single}
    return makers[kind](gates, qubits, like)


def _tensor(array: np.ndarray, like: Tensor) -> Tensor:
    """A constant; real where it is real."""
    dtype = like.dtype
    if not np.iscomplexobj(array) or not array.imag.any():
        array, dtype = array.real, like.real.dtype
    return torch.as_tensor(array.copy(), dtype=dtype, device=like.device)


def _phase(gates: Sequence[Gate], qubits: int, like: Tensor) -> Step:
    """Diagonal gates: ``state * exp(i Theta E)``, E ``(r, 2^q)`` the diagonals of generators."""
    product = np.ones(2**qubits, complex)
    turning = []
    for gate in gates:
        if gate.kind == "constant":
            product = product * np.diagonal(gate.matrix)[_bits(gate.wires, qubits)]
        else:
            turning.append(gate)
    fixed = None if np.allclose(product, 1) else _tensor(product, like)
    if not turning:
        return lambda state, numbers: state if fixed is None else state * fixed
    columns = sorted({gate.column for gate in turning})
    phases, content = (_tabled if qubits <= TABLE else _factored)(turning, columns, qubits, like)
    key = (tuple(columns), content)

    def step(state: Tensor, numbers: Numbers) -> Tensor:
        if key not in numbers.phases:
            phase = phases(_pick(numbers.thetas, columns))
            with torch.no_grad():
                numbers.phases[key] = phase, torch.complex(phase.cos(), phase.sin())
        state = Rotate.apply(state, *numbers.phases[key])
        return state if fixed is None else state * fixed

    return step


Phases = tuple[Callable[[Tensor], Tensor], bytes]  # (n, r) -> (n, 2^q), and what tells it apart


def _tabled(gates: Sequence[Gate], columns: list[int], qubits: int, like: Tensor) -> Phases:
    """Phases by one table of eigenvalues ``(r, 2^q)``."""
    table = np.zeros((len(columns), 2**qubits))
    for gate in gates:
        energies = np.diagonal(gate.matrix).real
        table[columns.index(gate.column)] += energies[_bits(gate.wires, qubits)]
    constant = _tensor(table, like)
    return lambda thetas: thetas @ constant, table.tobytes()


def _factored(gates: Sequence[Gate], columns: list[int], qubits: int, like: Tensor) -> Phases:
    r"""The same in a small part of the time and memory, with basis states (a, b) of two halves.

    .. math:: \Phi_{ab} = A_a + \sum_u L_{au} B_{ub}

    A is the phase of the gates on the left half alone. The other gates are split by the bits u of
    their left wires: L is 1 where a has these bits, and B is their phase on b.
    """
    half = qubits // 2
    alone = np.zeros((len(columns), 2**half))
    lefts = {((), 0): np.ones(2**half)}
    rights = {((), 0): np.zeros((len(columns), 2 ** (qubits - half)))}
    for gate in gates:
        row, wires = columns.index(gate.column), gate.wires
        order = sorted(range(len(wires)), key=lambda place: wires[place] >= half)
        left = tuple(wire for wire in wires if wire < half)
        cube = np.diagonal(gate.matrix).real.reshape([2] * len(wires)).transpose(order)
        bits = _bits([wire - half for wire in wires if wire >= half], qubits - half)
        on_left = _bits(left, half)
        if len(left) == len(wires):
            alone[row] += cube.ravel()[on_left]
            continue
        for value, energies in enumerate(cube.reshape(2 ** len(left), -1)):
            lefts[left, value] = on_left == value
            rights.setdefault((left, value), np.zeros_like(rights[(), 0]))[row] += energies[bits]
    tables = alone, np.stack([*lefts.values()], 1), np.stack([*rights.values()], 1)
    of_left, to_left, of_right = (_tensor(table, like) for table in tables)

    def phases(thetas: Tensor) -> Tensor:
        n = len(thetas)
        b = (thetas @ of_right.flatten(1)).reshape(n, -1, 2 ** (qubits - half))
        a = (thetas @ of_left)[:, :, None]
        return torch.baddbmm(a, to_left.expand(n, -1, -1), b).flatten(1)

    return phases, b"".join(table.tobytes() for table in tables)


def _layer(gates: Sequence[Gate], qubits: int, like: Tensor) -> Step:
    """One-qubit gates on any wires, multiplied out over groups of neighbouring qubits."""
    if all(gate.kind == "constant" for gate in gates):
        return _constant_layer(gates, qubits, like)
    chains: list[list[int]] = [[] for _ in range(qubits)]  # of each wire: places in what follows
    kept, parts, sizes = list[Gate](), list[Any](), list[float]()
    for gate in gates:
        chain, part = chains[gate.wires[0]], gate.matrix
        if gate.kind == "constant" and chain and kept[chain[-1]].kind == "rotation":
            parts[chain[-1]] = part @ parts[chain[-1]]
            continue
        if gate.kind == "rotation":  # G^2 = g^2: e^{i t G} = cos(g t) + sin(g t) (i G / g)
            sizes.append(abs((part @ part)[0, 0]) ** 0.5)
            part = np.stack([np.eye(2), 1j * part / (sizes[-1] or 1)])
        chain.append(len(kept))
        kept.append(gate)
        parts.append(part)
    own = [
        _tensor(part, like) if one.kind == "constant" else None
        for one, part in zip(kept, parts, strict=True)
    ]
    given = [place for place, gate in enumerate(kept) if gate.kind == "matrix"]
    if turning := [place for place, gate in enumerate(kept) if gate.kind == "rotation"]:
        rotating = np.stack([parts[place] for place in turning], 1)  # (2, r, 2, 2)
        g, cosines, sines = (_tensor(array, like) for array in (np.array(sizes), *rotating))
        columns = [kept[place].column for place in turning]
    identity = _tensor(np.eye(2), like)
    blocks = [range(first, min(first + EACH, qubits)) for first in range(0, qubits, EACH)]
    basis = like[0].nonzero().flatten().tolist()
    bits = [basis[0] >> wire & 1 for wire in reversed(range(qubits))] if len(basis) == 1 else None

    def step(state: Tensor, numbers: Numbers) -> Tensor:
        now = list(own)
        if turning:
            angle = (_pick(numbers.thetas, columns) * g)[..., None, None]  # (n, r, 1, 1)
            rotations = angle.cos() * cosines + angle.sin() * sines  # (n, r, 2, 2)
            for place, matrix in zip(turning, rotations.unbind(1), strict=True):
                now[place] = matrix
        for place in given:
            now[place] = numbers.matrices[kept[place].column]
        of_wire = [
            reduce(lambda a, b: matmul(b, a), (now[p] for p in chain)) if chain else identity
            for chain in chains
        ]
        if state is like and bits is not None:  # a layer on a basis state gives a product state
            column = [matrix[..., bit : bit + 1] for matrix, bit in zip(of_wire, bits, strict=True)]
            halves = column[: qubits // 2], column[qubits // 2 :]
            left, right = (reduce(kron, half, identity[:1, :1]) for half in halves)
            return matmul(like[0, basis] * left, right.mT).reshape(-1, 2**qubits)
        for block in blocks:  # each moves to the end, so after the last all are in order again
            state = state.reshape(len(state), 2 ** len(block), -1).mT
            if any(chains[wire] for wire in block):
                state = matmul(state, reduce(kron, (of_wire[wire] for wire in block)).mT)
            state = state.reshape(-1, 2**qubits)
        return state

    return step


def _constant_layer(gates: Sequence[Gate], qubits: int, like: Tensor) -> Step:
    """The same of gates without angles: one matrix, or real products where all are real."""
    size = qubits if qubits <= WHOLE else GROUP
    real = qubits > WHOLE and not any(gate.matrix.imag.any() for gate in gates)
    wires = [np.eye(2)] * qubits
    for gate in gates:
        wires[gate.wires[0]] = gate.matrix @ wires[gate.wires[0]]
    touched = {gate.wires[0] for gate in gates}
    blocks = [range(first, min(first + size, qubits)) for first in range(0, qubits, size)]
    blocks = [block for block in blocks if touched.intersection(block)]
    one_each = [_tensor(matrix, like) for matrix in wires]
    ready = [reduce(kron, one_each[block.start : block.stop]) for block in blocks]
    if not real:
        ready = [matrix.to(like.dtype).mT.contiguous().mT for matrix in ready]
    elif blocks[-1].stop == qubits:  # there the two columns are multiplied along
        ready[-1] = kron(ready[-1], _tensor(np.eye(2), like))

    def step(state: Tensor, numbers: Numbers) -> Tensor:
        for block, matrix in zip(blocks, ready, strict=True):
            state = (real_on_neighbours if real else on_neighbours)(matrix, state, block, qubits)
        return state

    return step


def _permutation(gates: Sequence[Gate], qubits: int, like: Tensor) -> Step:
    """Gates that permute basis states (CNOT, SWAP, Toffoli): one index into the state."""
    index = torch.arange(2.0**qubits, dtype=torch.float64)[None]
    for gate in gates:
        matrix = torch.as_tensor(gate.matrix.real.round())
        index = on_wires(matrix, index, gate.wires, qubits)
    index = index[0].long().to(like.device)
    return lambda state, numbers: state.index_select(1, index)


def _single(gates: Sequence[Gate], qubits: int, like: Tensor) -> Step:
    """Any other gate on k wires, applied alone: ``(2^k, 2^k)`` or ``(n, 2^k, 2^k)``."""
    (gate,) = gates
    if gate.kind == "matrix":
        return lambda state, numbers: on_wires(
            numbers.matrices[gate.column], state, gate.wires, qubits
        )
    if gate.kind == "constant":
        matrix = _tensor(gate.matrix, like)
        return lambda state, numbers: on_wires(matrix, state, gate.wires, qubits)
    values, vectors = np.linalg.eigh(gate.matrix)
    values, vectors = _tensor(values, like), _tensor(vectors, like).to(like.dtype)

    def step(state: Tensor, numbers: Numbers) -> Tensor:
        phases = numbers.thetas[:, gate.column, None] * values  # (n, 2^k)
        turned = torch.complex(phases.cos(), phases.sin())
        matrix = (vectors * turned[:, None]) @ vectors.mH
        return on_wires(matrix, state, gate.wires, qubits)

    return step


def _pick(thetas: Tensor, columns: list[int]) -> Tensor:
    return thetas if columns == list(range(thetas.shape[1])) else thetas[:, columns]


def _bits(wires: Sequence[int], qubits: int) -> np.ndarray:
    """For every basis state, the number that its bits on ``wires`` make; wire 0 is leftmost."""
    bits = np.indices((2,) * qubits).reshape(qubits, -1)[list(wires)]
    return 2 ** np.arange(len(wires))[::-1] @ bits


class Rotate(torch.autograd.Function):
    """``state * factor``, factor = exp(i phase): ``(n or 1, 2^q), (n, 2^q) -> (n, 2^q)``."""

    @staticmethod
    def forward(ctx: Any, state: Tensor, phase: Tensor, factor: Tensor) -> Tensor:  # noqa: ANN401
        rotated = state * factor
        ctx.one = len(state) == 1
        ctx.save_for_backward(factor, rotated)
        return rotated

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:  # noqa: ANN401
        no_second_derivative()
        factor, rotated = ctx.saved_tensors
        to_state = to_phase = None
        if ctx.needs_input_grad[0]:
            to_state = factor.conj_physical()
            to_state = torch.mul(grad, to_state, out=to_state)
            to_state = to_state.sum(0, keepdim=True) if ctx.one else to_state
        if ctx.needs_input_grad[1]:  # d rotated = i rotated d phase
            to_phase = rotated.conj_physical()
            to_phase = torch.mul(grad, to_phase, out=to_phase).imag
        return to_state, to_phase, None


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """a @ b, where one may be real and the other complex."""
    dtype = torch.promote_types(a.dtype, b.dtype)
    return a.to(dtype) @ b.to(dtype)


def kron(a: Tensor, b: Tensor) -> Tensor:
    """Kronecker product of the last two axes; either may have a batch axis in front."""
    product = a[..., :, None, :, None] * b[..., None, :, None, :]
    return product.reshape(*product.shape[:-4], a.shape[-2] * b.shape[-2], -1)


def on_neighbours(matrix: Tensor, state: Tensor, wires: range, qubits: int) -> Tensor:
    """A matrix ``(2^g, 2^g)`` or ``(n, 2^g, 2^g)`` on g wires side by side."""
    columns, right = matrix.shape[-1], 2 ** (qubits - wires.stop)
    if right == 1:
        cube = state.reshape(len(state), -1, columns)
        return matmul(cube, matrix.transpose(-1, -2)).reshape(-1, 2**qubits)
    cube = state.reshape(len(state), -1, columns, right)  # (n, left, 2^g, right)
    if matrix.ndim == 3:
        matrix = matrix[:, None]
    return matmul(matrix, cube).reshape(-1, 2**qubits)


def real_on_neighbours(matrix: Tensor, state: Tensor, wires: range, qubits: int) -> Tensor:
    """The same of a real ``(2^g, 2^g)``: real and imaginary parts are columns side by side.

    On the last wires these two columns belong to the rows: give the matrix as ``kron(matrix, I)``.
    """
    right, parts = 2 ** (qubits - wires.stop), torch.view_as_real(state)
    if right == 1:
        parts = parts.reshape(-1, len(matrix)) @ matrix.mT
    else:
        parts = parts.reshape(-1, len(matrix), 2 * right)
        parts = torch.bmm(matrix.expand(len(parts), -1, -1), parts)
    return torch.view_as_complex(parts.reshape(len(state), -1, 2))


def on_wires(matrix: Tensor, state: Tensor, wires: Sequence[int], qubits: int) -> Tensor:
    """A matrix ``(2^k, 2^k)`` or ``(n, 2^k, 2^k)`` on any k wires of states ``(n, 2^q)``."""
    q, k = qubits, len(wires)
    cube = state.reshape(-1, *[2] * q)
    last = list(range(q - k + 1, q + 1))
    cube = cube.movedim([w + 1 for w in wires], last)
    rows = cube.reshape(len(cube), -1, 2**k)  # (n, 2^(q-k), 2^k)
    rows = matmul(rows, matrix.transpose(-1, -2))
    cube = rows.reshape(-1, *[2] * q).movedim(last, [w + 1 for w in wires])
    return cube.reshape(-1, 2**q)
