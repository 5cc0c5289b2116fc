r"""All states of a batch at once: a PennyLane circuit replayed as a few torch operations.

The states are exact and differentiable. What makes it fast is that a gate is never applied alone:

- runs of diagonal gates become one phase :math:`e^{i \Theta E}`, with the angles
  :math:`\Theta` ``(n, r)`` times a constant table of eigenvalues E ``(r, 2^q)``;
- layers of one-qubit gates become Kronecker products over groups of neighbouring qubits, applied
  as matrix products;
- permutations of basis states (X, CNOT, SWAP, Toffoli) become one index;
- everything before the first angle is computed when the circuit is read.

PennyLane's devices are the reference that this simulator is tested against.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import reduce
from itertools import pairwise
from typing import Any

import numpy as np
import pennylane as qp
import torch
from pennylane.operation import Operator, StatePrepBase
from torch import Tensor
from torch._C._functorch import is_batchedtensor
from torch.fx import Graph, GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.node import Argument

from qrkd_lab.relations import no_second_derivative

__all__ = [
    "Circuit",
    "CircuitError",
    "Evaluation",
    "Gate",
    "Layer",
    "Permutation",
    "Phase",
    "Rotate",
    "Single",
    "Stage",
    "StateVector",
    "evaluate",
    "kron",
    "local_index",
    "matmul",
    "on_neighbours",
    "on_wires",
    "one_at_a_time",
    "operations",
    "read",
    "replaced",
    "schedule",
    "stack_graph",
]


COMPLEX = {torch.float32: torch.complex64, torch.float64: torch.complex128}


class StateVector:
    """The states that a PennyLane quantum function prepares, for a whole batch of angles.

    Args:
        circuit: a PennyLane quantum function ``f(angles, wires)`` of gates that have a matrix or a
            decomposition. It is called in every call, with the angles of one sample, ``(d,)``.
        qubits: q, the number of wires.
        fixed: the function never changes, takes batches, and computes in torch: it is called once
            for each shape of angles, and replayed from then on.

    Example:
        >>> import pennylane as qp
        >>> bell = StateVector(lambda x, wires: (qp.RY(x[..., 0], wires=0), qp.CNOT([0, 1])), 2)
        >>> bell(torch.tensor([[torch.pi / 2]])).real
        tensor([[0.7071, 0.0000, 0.0000, 0.7071]])
    """

    def __init__(self, circuit: Callable[..., object], qubits: int, fixed: bool = False) -> None:
        self.circuit, self.qubits, self.fixed = circuit, qubits, fixed
        self._plans: dict[object, tuple[Circuit | None, Tensor, list[Stage]]] = {}
        self._checked: set[object] = set()  # shapes

    def __call__(self, angles: Tensor) -> Tensor:
        """States ``(n, 2^q)``, complex of the precision of ``angles`` ``(n, d)``, wire 0 first.

        Raises:
            CircuitError: see ``evaluate``; or a sample's amplitudes
                are NaN or not of length 1.
            TypeError: the angles are neither float32 nor float64.
        """
        if angles.dtype not in COMPLEX:
            raise TypeError(f"angles: expected float32 or float64, got {angles.dtype}")
        if self.fixed:
            circuit, start, stages = self._plan(angles)
            return self._run(start, stages, *circuit.numbers(angles), len(angles))
        shape = (angles.shape, angles.dtype, angles.device)
        found = evaluate(self.circuit, self.qubits, angles, check=shape not in self._checked)
        self._checked.add(shape)
        key = (found.key, found.state is None, angles.dtype, angles.device)
        if key not in self._plans:
            if len(self._plans) >= 8:  # the gates' constants change from call to call
                self._plans.clear()
            self._plans[key] = self._made(None, found.gates, found.state is not None, angles)
        _, start, stages = self._plans[key]
        numbers = (found.thetas, found.matrices, found.state)
        return _normalised(self._run(start, stages, *numbers, len(angles)))

    def _run(
        self,
        start: Tensor,
        stages: list[Stage],
        thetas: Tensor | None,
        matrices: list[Tensor],
        prepared: Tensor | None,
        n: int,
    ) -> Tensor:
        state = start if prepared is None else prepared.to(start.dtype)
        matrices = [matrix.to(start.dtype) for matrix in matrices]
        made: dict[object, Any] = {}  # a phase that two stages share is computed once
        state = reduce(lambda s, stage: stage(s, thetas, matrices, made), stages, state)
        if state is start:  # no angle in it: a copy, since the start is kept
            return start.repeat(n, 1)
        return state if len(state) == n else state.repeat(n, 1)

    def _plan(self, angles: Tensor) -> tuple[Circuit, Tensor, list[Stage]]:
        """Of a fixed circuit."""
        key = (angles.shape, angles.dtype, angles.device)
        if key not in self._plans:
            if len(self._plans) >= 64:  # shapes vary in a batch loop by one or two, not by many
                self._plans.clear()
            with torch.inference_mode(False), torch.no_grad():
                circuit = read(self.circuit, self.qubits, angles)
            self._plans[key] = self._made(circuit, circuit.gates, circuit.prepares, angles)
        return self._plans[key]

    def _made(
        self, circuit: Circuit | None, gates: tuple[Gate, ...], prepares: bool, like: Tensor
    ) -> tuple[Circuit | None, Tensor, list[Stage]]:
        """The stages of these gates, and the state before the first one that moves."""
        with torch.inference_mode(False), torch.no_grad():
            start = torch.zeros(1, 2**self.qubits, dtype=COMPLEX[like.dtype], device=like.device)
            start[0, 0] = 1
            stages = schedule(gates, self.qubits, start)
            while stages and stages[0].constant and not prepares:
                start = stages.pop(0)(start, None, [], {})
        return circuit, start, stages


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


# ---- circuit


DENSE = 6  # a parametrised gate on more qubits is decomposed where it can be
_KINDS: dict[object, tuple[str, np.ndarray | None]] = {}  # of gates met before


class CircuitError(ValueError):
    """A quantum function that cannot be run as a batched statevector, and why."""


@dataclass(frozen=True)
class Gate:
    """One gate: on which ``wires``, and what it is, exactly one of the following kinds.

    ``constant``: ``matrix`` is its ``(2^k, 2^k)`` matrix.
    ``rotation``: :math:`e^{i \\theta G}` with the generator G in ``matrix``, angle in ``column``.
    ``matrix``: an angle-dependent matrix, the graph's output number ``column``.
    """

    kind: str
    wires: tuple[int, ...]
    matrix: np.ndarray | None = None
    column: int | None = None
    factor: float = 1.0  # of a rotation's angle, already in ``matrix``

    @property
    def diagonal(self) -> bool:
        """Whether the gate is diagonal for every value of its parameter."""
        return self.matrix is not None and np.array_equal(
            self.matrix, np.diag(np.diagonal(self.matrix))
        )


@dataclass(frozen=True)
class Circuit:
    """A circuit read once: its gates, and the graph ``angles -> (thetas, matrices, state)``.

    ``thetas`` is ``(n, r)``, a column a rotation; ``matrices`` one tensor ``(n, 2^k, 2^k)`` or
    ``(2^k, 2^k)`` a matrix gate; ``state`` the prepared initial state ``(n, 2^q)`` or None.
    """

    gates: tuple[Gate, ...]
    numbers: Callable[[Tensor], tuple[Tensor | None, list[Tensor], Tensor | None]]
    prepares: bool


@dataclass(frozen=True)
class Evaluation:
    """The gates of a circuit and the numbers in them, for these samples.

    ``key`` is equal for equal gates; ``thetas``, ``matrices`` and ``state`` as in :class:`Circuit`.
    """

    key: tuple[object, ...]
    gates: tuple[Gate, ...]
    thetas: Tensor | None
    matrices: list[Tensor]
    state: Tensor | None


def operations(circuit: Callable[..., object], qubits: int, angles: Tensor) -> list[Operator]:
    """The operations that ``circuit(angles, wires)`` queues on the wires 0..q-1.

    Raises:
        CircuitError: there are none, or there are measurements.
    """
    script = qp.tape.make_qscript(circuit)(angles, list(range(qubits)))
    if script.measurements or any("MidMeasure" in op.name for op in script.operations):
        raise CircuitError(
            "a feature map prepares a state and must not measure; leave `return` out"
        )
    if not script.operations:
        raise CircuitError(
            "the feature map queues no gates, so every kernel value would be 1: expected a "
            "function of (angles, wires) that calls PennyLane's gates, or a QNode"
        )
    return script.operations


def read(circuit: Callable[..., object], qubits: int, angles: Tensor) -> Circuit:
    """Read ``circuit(angles, wires)`` for angles of this shape, dtype and device.

    Args:
        circuit: a PennyLane quantum function of ``(angles, wires)`` that never changes, takes
            batches, and computes in torch.
        qubits: q; the wires are 0..q-1.
        angles: an example ``(n, d)``; its values do not matter.

    Raises:
        CircuitError: the function measures, uses a wire out of range, or has a gate without a
            matrix.
    """
    found: list[Gate] = []
    prepares = False

    def numbers(x: Tensor) -> list[Tensor]:
        nonlocal prepares
        _, found[:], thetas, matrices, state = _walk(operations(circuit, qubits, x), qubits)
        prepares = state is not None
        thetas = [theta if theta.shape == (len(x),) else theta.expand(len(x)) for theta in thetas]
        return [*thetas, *matrices, *([state] if prepares else [])]

    generator = torch.Generator().manual_seed(1)
    example = torch.rand(angles.shape, generator=generator, dtype=angles.dtype) + 0.1
    with one_at_a_time(), torch.inference_mode(False), torch.enable_grad():
        graph = make_fx(numbers)(example.to(angles.device))
    rotations = sum(gate.kind == "rotation" for gate in found)
    graph, places = stack_graph(graph, rotations)
    gates = tuple(_placed(gate, places) for gate in found)

    def replay(x: Tensor) -> tuple[Tensor | None, list[Tensor], Tensor | None]:
        rest = list(graph.forward(x))
        thetas = rest.pop(0) if rotations else None
        state = rest.pop() if prepares else None
        return thetas, rest, state

    return Circuit(gates, replay, prepares)


def _placed(gate: Gate, places: Sequence[tuple[int, float]]) -> Gate:
    """A rotation's column among the stacked ones; the factor of its angle goes into G."""
    if gate.kind != "rotation":
        return gate
    column, factor = places[gate.column]
    return replace(gate, column=column, factor=factor, matrix=factor * gate.matrix)


def evaluate(
    circuit: Callable[..., object], qubits: int, angles: Tensor, check: bool = True
) -> Evaluation:
    """Call ``circuit(angles, wires)`` with one sample's angles ``(d,)``, for all samples at once.

    A function that takes batches only (``angles[:, i]``) gets batches of one sample.

    Args:
        circuit: a PennyLane quantum function.
        qubits: q; the wires are 0..q-1.
        angles: ``(n, d)``.
        check: also call the function with a batch, and compare.

    Raises:
        CircuitError: the function queues nothing, measures, uses a wire out of range, has a gate
            without a matrix, does not depend on the angles, needs the *value* of an angle, or gives
            a sample other gates in a batch than alone.
    """
    with one_at_a_time():
        try:
            single, found = True, _each(circuit, qubits, angles, single=True)
        except IndexError as error:
            try:
                single, found = False, _each(circuit, qubits, angles, single=False)
            except IndexError:
                raise CircuitError(
                    f"the feature map fails on samples of {angles.shape[1]} angles: {error}"
                ) from error
        if check:
            _compare_with_batch(circuit, qubits, angles.detach(), single)
    return found


def _each(circuit: Callable[..., object], qubits: int, x: Tensor, single: bool) -> Evaluation:
    """The function called with each sample alone: ``(d,)``, or ``(1, d)`` if not ``single``."""
    keys: list[object] = []
    gates: list[Gate] = []
    depends = False

    def numbers(row: Tensor) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        nonlocal depends
        row = row.clone()  # the function may change it in place
        queued = operations(circuit, qubits, row if single else row[None])
        keys[:], gates[:], thetas, matrices, state = _walk(queued, qubits)
        states = [] if state is None else [state]
        depends = any(map(is_batchedtensor, [*thetas, *matrices, *states]))
        return (
            [_of_one(theta, ()) for theta in thetas],
            [_of_one(matrix, matrix.shape[-2:]) for matrix in matrices],
            [_of_one(state, state.shape[-1:]) for state in states],
        )

    try:
        with _values_unknown():
            thetas, matrices, states = torch.func.vmap(numbers)(x)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        if "random operation" in reason:
            raise CircuitError(
                "the feature map draws random numbers: equal samples would get different states; "
                "draw them once, outside of the function"
            ) from error
        raise CircuitError(
            f"{_culprit(error)} needs the values of its angles, so it cannot run for all samples "
            "at once: an `if`, float(), .item(), NumPy, or a result written into another tensor. "
            "Use torch operations (and torch.as_tensor for NumPy arrays), or evaluate the kernel "
            f"with kernel.on('default.qubit'), sample by sample and without gradient ({reason})"
        ) from error
    if not depends:
        raise CircuitError(
            "no gate of the feature map depends on the angles, so all samples look alike to it "
            "(every kernel value would be 1)"
        )
    thetas = [theta.to(x.device, x.dtype) for theta in thetas]
    return Evaluation(
        tuple(keys),
        tuple(gates),
        torch.stack(thetas, 1) if thetas else None,
        [matrix.to(x.device) for matrix in matrices],
        states[0].to(x.device) if states else None,
    )


def _of_one(value: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A number of one sample, whose batch axis, if any, has length 1."""
    if value.numel() != math.prod(shape):
        raise CircuitError(
            f"a gate gets {value.numel() // math.prod(shape)} parameters where it takes one: take "
            "a feature as angles[..., i]"
        )
    return value.reshape(shape)


def _compare_with_batch(
    circuit: Callable[..., object], qubits: int, x: Tensor, single: bool
) -> None:
    """Refuse a function that gives the samples of a batch other gates than it gives each alone.

    What it means is then not clear. A function that fails on a batch, or gives it gates of another
    form, is one for single samples, and is fine.
    """
    count = 3 if x.shape[1] == 2 else 2  # not d: a sample is then not taken for a batch
    scale = torch.linspace(1, 0.8, count, dtype=x.dtype, device=x.device)
    rows = x[torch.arange(count) % len(x)] * scale[:, None]
    with torch.no_grad():
        alone = _each(circuit, qubits, rows, single)
        try:
            keys, _, thetas, matrices, state = _walk(operations(circuit, qubits, rows), qubits)
            theirs = [*thetas, *matrices, *([] if state is None else [state])]
        except Exception:
            if single:
                return
            raise
    mine = [] if alone.thetas is None else list(alone.thetas.unbind(1))
    mine += [*alone.matrices, *([] if alone.state is None else [alone.state])]
    alike = tuple(keys) == alone.key and all(
        b.shape in (a.shape, a.shape[1:]) for a, b in zip(mine, theirs, strict=True)
    )
    if single and not alike:
        return
    if not alike or not all(
        torch.allclose(a, b.to(a).expand_as(a), rtol=1e-3, atol=1e-4, equal_nan=True)
        for a, b in zip(mine, theirs, strict=True)
    ):
        raise CircuitError(
            "the feature map gives a sample other gates in a batch than alone: they depend on "
            "other samples. Take a feature as angles[..., i], and reduce over the last axis only, "
            "as in angles.mean(-1, keepdim=True)"
        )


@contextmanager
def _values_unknown() -> Iterator[None]:
    """Inside, PennyLane knows that the angles under vmap have no values that it could check."""
    usual = qp.math.is_abstract
    qp.math.is_abstract = lambda value, *rest: (
        (isinstance(value, Tensor) and is_batchedtensor(value)) or usual(value, *rest)
    )
    try:
        yield
    finally:
        qp.math.is_abstract = usual


def _culprit(error: Exception) -> str:
    """The PennyLane operation in which an error arose, or the feature map itself."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if isinstance(operation := frame.f_locals.get("self"), Operator):
            return type(operation).__name__
    return "the feature map"


def _walk(
    operations: Sequence[Operator], qubits: int
) -> tuple[list[object], list[Gate], list[Tensor], list[Tensor], Tensor | None]:
    """Sort operations into gates and the tensors that they depend on; each gate with its key.

    An operation without a matrix in torch is taken apart.
    """
    keys: list[object] = []
    gates: list[Gate] = []
    thetas: list[Tensor] = []
    matrices: list[Tensor] = []
    state = None
    todo = list(reversed(operations))
    while todo:
        op = todo.pop()
        if unknown := [w for w in op.wires if w not in range(qubits)]:
            raise CircuitError(
                f"{op.name} acts on wire {unknown[0]!r}; there are wires 0..{qubits - 1}"
            )
        wires = tuple(int(w) for w in op.wires)
        if isinstance(op, StatePrepBase):
            if gates or state is not None:
                raise CircuitError(f"{op.name} must come first: it replaces the state")
            state = _prepared(op, qubits)
            continue
        key, kind, matrix = _kind(op)
        if kind == "matrix":
            try:
                matrices.append(_matrix(op))
            except (RuntimeError, TypeError, ValueError):  # computed with NumPy
                if not op.has_decomposition:
                    raise
                kind = "parts"
        if kind == "parts":
            todo.extend(reversed(op.decomposition()))
            continue
        column = {"rotation": len(thetas), "matrix": len(matrices) - 1}.get(kind)
        if kind == "rotation":
            thetas.append(op.data[0])
        keys.append(key)
        gates.append(Gate(kind, wires, matrix, column))
    return keys, gates, thetas, matrices, state


def _prepared(op: StatePrepBase, qubits: int) -> Tensor:
    """The amplitudes ``(n, 2^q)`` or ``(1, 2^q)`` of a state preparation."""
    if isinstance(op, qp.BasisState) and any(isinstance(p, Tensor) for p in op.data):
        raise CircuitError(
            f"{op.name} takes bits, which have no gradient, and not angles: call "
            "RX(pi * bit) on each qubit instead, or evaluate the kernel with "
            "kernel.on('default.qubit')"
        )
    return torch.as_tensor(op.state_vector(wire_order=range(qubits))).reshape(-1, 2**qubits)


def _matrix(op: Operator) -> Tensor:
    """The matrix in torch, also where PennyLane computes it with NumPy."""
    if isinstance(op, qp.ops.op_math.Exp):  # qp.evolve too
        factor = torch.as_tensor(op.coeff)[..., None, None]
        return torch.linalg.matrix_exp(factor * _matrix(op.base))
    if isinstance(op, qp.ops.op_math.Controlled) and op.base.has_matrix:
        base = _matrix(op.base)
        on = np.zeros(2 ** len(op.control_wires))
        on[int("".join(str(int(value)) for value in op.control_values), 2)] = 1
        eye = torch.eye(base.shape[-1], dtype=base.dtype, device=base.device)
        acts = torch.diag(torch.as_tensor(on).to(eye))
        return torch.kron(torch.eye(len(on)).to(eye), eye) + torch.kron(acts, base - eye)
    return torch.as_tensor(op.matrix())


def _kind(op: Operator) -> tuple[object, str, np.ndarray | None]:
    """A gate's kind and constant matrix, and a key that is equal for gates that share both.

    A gate of the kind "parts" is to be decomposed.
    """
    leaves, structure = qp.pytrees.flatten(op)
    moving = any(isinstance(leaf, Tensor) for leaf in leaves)
    batch = op.batch_size is not None
    key: object = (
        structure,
        *(leaf.ndim - batch if isinstance(leaf, Tensor) else _content(leaf) for leaf in leaves),
    )
    try:
        if key in _KINDS:
            return key, *_KINDS[key]
    except TypeError:  # something in it has no hash
        key = object()
    generator = _generator(op) if moving else None
    if generator is not None:
        kind, matrix = "rotation", generator
    elif op.has_matrix and not moving:
        kind, matrix = "constant", np.asarray(op.matrix(), complex)
    elif op.has_matrix and (len(op.wires) <= DENSE or not op.has_decomposition):
        kind, matrix = "matrix", None
    elif op.has_decomposition:
        kind, matrix = "parts", None
    else:
        raise CircuitError(f"{op.name} has neither a matrix nor a decomposition into gates that do")
    if matrix is None or matrix.size <= 4**DENSE:
        if len(_KINDS) >= 1024:
            _KINDS.clear()
        _KINDS[key] = kind, matrix
    return key, kind, matrix


def _content(constant: object) -> object:
    """Equal for numbers and arrays of equal content; a Python object is equal to no other."""
    array = np.asarray(constant)
    return object() if array.dtype == object else (array.dtype.str, array.shape, array.tobytes())


def _generator(op: Operator) -> np.ndarray | None:
    """G of a gate e^{i theta G} with theta its one parameter, a number."""
    leaves = [leaf for leaf in qp.pytrees.flatten(op)[0] if isinstance(leaf, Tensor)]
    if len(op.data) != 1 or len(leaves) != 1 or leaves[0] is not op.data[0]:
        return None
    if isinstance(op, qp.ops.op_math.Exp):  # its parameter is not all that it can be given anew
        return None
    if leaves[0].ndim > (op.batch_size is not None) or leaves[0].is_complex():
        return None
    if len(op.wires) > DENSE and op.has_decomposition:
        return None
    at = 0.7391  # e^{i theta G} is PennyLane's convention; trust it only where it holds
    example = qp.ops.functions.bind_new_parameters(op, [at])
    if not example.has_generator:
        return None
    generator = np.asarray(qp.matrix(example.generator(), wire_order=op.wires), complex)
    square = generator @ generator
    diagonal = np.array_equal(generator, np.diag(np.diagonal(generator)))
    turns = np.allclose(square, square[0, 0] * np.eye(len(square)), atol=1e-12)
    if len(op.wires) == 1 and not diagonal and not turns:
        return None
    values, vectors = np.linalg.eigh(generator)
    mine = (vectors * np.exp(1j * at * values)) @ vectors.conj().T
    return generator if np.allclose(mine, example.matrix(), atol=1e-9) else None


# ---- vectorise


_ATEN = torch.ops.aten
_ELEMENTWISE = {
    getattr(getattr(_ATEN, name), overload)
    for name, overloads in {
        "add": ("Tensor", "Scalar"),
        "sub": ("Tensor", "Scalar"),
        "rsub": ("Tensor", "Scalar"),
        "mul": ("Tensor", "Scalar"),
        "div": ("Tensor", "Scalar"),
        "pow": ("Tensor_Scalar", "Tensor_Tensor"),
        **dict.fromkeys(
            ("neg", "abs", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh"),
            ("default",),
        ),
        **dict.fromkeys(("exp", "log", "sqrt", "square", "reciprocal", "sigmoid"), ("default",)),
    }.items()
    for overload in overloads
}


def stack_graph(module: GraphModule, count: int) -> tuple[GraphModule, list[tuple[int, float]]]:
    """The same graph, with its first ``count`` outputs ``(n,)`` taken from one ``(n, r)``.

    Columns of like form are computed together, equal ones once, and constant factors not at all:
    they are left to the caller. The rest is stacked as it is.

    Returns:
        The graph, and for each of the ``count`` outputs its column in ``(n, r)`` and its factor.
    """
    graph = module.graph
    output = next(node for node in graph.nodes if node.op == "output")
    results = list(output.args[0])
    places: list[tuple[int, float]] = []
    if count:
        with graph.inserting_before(output):
            stacker = _Stacker(module, graph)
            factors, nodes = zip(*(_without_factor(node) for node in results[:count]), strict=True)
            keys = [stacker.key(node) for node in nodes]
            unique = list(dict.fromkeys(keys))
            places = [(unique.index(k), f) for k, f in zip(keys, factors, strict=True)]
            stacked = stacker.columns([nodes[keys.index(key)] for key in unique])
        output.args = ([stacked, *results[count:]],)
    graph.eliminate_dead_code()
    graph.lint()
    module.recompile()
    return module, places


def _without_factor(node: Node) -> tuple[float, Node]:
    """c and y of a node that computes c * y, c a number."""
    factor = 1.0
    while node.target is _ATEN.mul.Tensor and isinstance(node.args[1], (int, float)):
        factor, node = factor * node.args[1], node.args[0]
    return factor, node


class _Stacker:
    """Builds the stacked nodes; equal requests give the same node, so nothing is computed twice."""

    def __init__(self, module: GraphModule, graph: Graph) -> None:
        self.module, self.graph = module, graph
        angles = next(node for node in graph.nodes if node.op == "placeholder")
        self.like = angles.meta["val"]  # for the dtype and device of constants
        self.made: dict[object, Node] = {}

    def columns(self, nodes: Sequence[Node]) -> Node:
        """A node of shape (n, m), for m different columns: runs of one form each, side by side."""
        runs: list[list[Node]] = []
        for node in nodes:
            if runs and self._form(runs[-1][0]) == self._form(node):
                runs[-1].append(node)
            else:
                runs.append([node])
        parts = [self._stack(tuple(run)) for run in runs]
        return parts[0] if len(parts) == 1 else self._call(_ATEN.cat.default, (parts, -1))

    def _form(self, node: Argument) -> object:
        """What two nodes must share to be computed as one; leaves count by their kind only."""
        if not isinstance(node, Node):
            return type(node)
        if node.target in _ELEMENTWISE and not node.kwargs:
            # A Scalar argument stays a number, so only equal ones can be computed together.
            exact = "Scalar" in node.target._overloadname
            forms = (
                arg if exact and not isinstance(arg, Node) else self._form(arg) for arg in node.args
            )
            return (node.target, tuple(forms))
        if node.target is _ATEN.select.int and node.args[0].meta["val"].ndim == 2:
            return ("column of", self._source(node))
        return node

    def key(self, node: Argument) -> object:
        """Equal for two nodes that compute the same numbers."""
        if not isinstance(node, Node):
            return node
        if node.target in _ELEMENTWISE and not node.kwargs:
            return (node.target, tuple(self.key(arg) for arg in node.args))
        if node.target is _ATEN.select.int and node.args[0].meta["val"].ndim == 2:
            source, axis = self._source(node)
            return (source, axis, node.args[2] % source.meta["val"].shape[axis])
        return node

    @staticmethod
    def _source(node: Node) -> tuple[Node, int]:
        """The matrix a column was taken from and the axis it was taken along, seen through .T"""
        source, axis = node.args[0], node.args[1] % 2
        while source.target is _ATEN.permute.default and list(source.args[1]) == [1, 0]:
            source, axis = source.args[0], 1 - axis
        return source, axis

    def _stack(self, nodes: tuple[Argument, ...]) -> Argument:
        """(n, m), or (n, 1) where all columns are one, or a number, for nodes of one form."""
        first = nodes[0]
        if not isinstance(first, Node):
            same = all(value == first for value in nodes)
            return first if same else self._constant(nodes)
        if all(node is first for node in nodes):
            return self._call(_ATEN.unsqueeze.default, (first, -1))
        if first.target in _ELEMENTWISE:
            args = tuple(
                self._stack(tuple(column)) for column in zip(*(v.args for v in nodes), strict=True)
            )
            return self._call(first.target, args)
        if first.target is not _ATEN.select.int:
            return self._call(_ATEN.stack.default, (nodes, -1))
        source, axis = self._source(first)
        width = source.meta["val"].shape[axis]
        if axis == 0:
            source = self._call(_ATEN.permute.default, (source, [1, 0]))
        picked = [node.args[2] % width for node in nodes]
        if picked == list(range(width)):
            return source
        return self._call(_ATEN.index_select.default, (source, 1, self._index(picked)))

    def _call(self, target: Callable[..., object], args: tuple[Argument, ...]) -> Node:
        key = (target, repr(args))
        if key not in self.made:
            self.made[key] = self.graph.call_function(target, args)
        return self.made[key]

    def _constant(self, values: Sequence[float]) -> Node:
        like = self.like
        return self._attribute(torch.tensor(values, dtype=like.dtype, device=like.device))

    def _index(self, picked: Sequence[int]) -> Node:
        return self._attribute(torch.tensor(picked, device=self.like.device))

    def _attribute(self, value: torch.Tensor) -> Node:
        key = ("constant", str(value.tolist()), value.dtype)
        if key not in self.made:
            name = f"stacked_{len(self.made)}"
            self.module.register_buffer(name, value)
            self.made[key] = self.graph.get_attr(name)
        return self.made[key]


# ---- stages


GROUP = 4  # one-qubit gates multiplied out together: 16 x 16 matrices
WHOLE = 6  # constant layers on up to this many qubits are one matrix


class Stage:
    """One batched operation; ``gates`` are those merged into it, in their order."""

    def __init__(self, qubits: int, like: Tensor) -> None:
        self.qubits, self.like = qubits, like
        self.gates: list[Gate] = []

    def takes(self, gate: Gate) -> bool:
        """Whether ``gate`` may be merged into this stage, coming after all gates in it."""
        return False

    def compile(self) -> None:
        """Called once, when the last gate has been merged: make the constant tables."""

    @property
    def constant(self) -> bool:
        """No gate of this stage depends on the angles."""
        return all(gate.kind == "constant" for gate in self.gates)

    @property
    def diagonal(self) -> bool:
        return all(gate.diagonal for gate in self.gates)

    def commutes(self, gate: Gate) -> bool:
        """Whether ``gate`` may be moved past this stage: disjoint wires, or both diagonal."""
        mine = {wire for own in self.gates for wire in own.wires}
        return mine.isdisjoint(gate.wires) or (gate.diagonal and self.diagonal)

    def tensor(self, array: np.ndarray) -> Tensor:
        """A constant on the states' device, in their precision, real where it is real."""
        dtype = self.like.dtype
        if not np.iscomplexobj(array) or not array.imag.any():
            array, dtype = array.real, self.like.real.dtype
        return torch.as_tensor(array.copy(), dtype=dtype, device=self.like.device)

    def __call__(
        self,
        state: Tensor,
        thetas: Tensor | None,
        matrices: list[Tensor],
        made: dict[object, Any],
    ) -> Tensor:
        raise TypeError(f"{type(self).__name__} must define __call__")


class Phase(Stage):
    """Diagonal gates: ``state * exp(i Theta E)``, E ``(r, 2^q)`` the diagonals of generators."""

    def takes(self, gate: Gate) -> bool:
        return gate.diagonal

    def compile(self) -> None:
        table: dict[int, np.ndarray] = {}
        fixed = np.ones(2**self.qubits, complex)
        for gate in self.gates:
            entries = np.diagonal(gate.matrix)[local_index(gate.wires, self.qubits)]
            if gate.kind == "constant":
                fixed = fixed * entries
            else:
                table[gate.column] = table.get(gate.column, 0) + entries.real
        self.columns = sorted(table)
        self.fixed = None if np.allclose(fixed, 1) else self.tensor(fixed)
        if self.columns:
            eigenvalues = np.stack([table[column] for column in self.columns])
            self.eigenvalues = self.tensor(eigenvalues)
            self.key = (tuple(self.columns), eigenvalues.tobytes())

    def __call__(
        self,
        state: Tensor,
        thetas: Tensor | None,
        matrices: list[Tensor],
        made: dict[object, Any],
    ) -> Tensor:
        if self.columns:
            if self.key not in made:
                phase = _pick(thetas, self.columns) @ self.eigenvalues
                with torch.no_grad():
                    made[self.key] = phase, torch.complex(phase.cos(), phase.sin())
            state = Rotate.apply(state, *made[self.key])
        return state if self.fixed is None else state * self.fixed


class Layer(Stage):
    """One-qubit gates on any wires, multiplied out over groups of neighbouring qubits."""

    def takes(self, gate: Gate) -> bool:
        return len(gate.wires) == 1

    def compile(self) -> None:
        size = self.qubits if self.constant and self.qubits <= WHOLE else GROUP
        cuts = pairwise([*range(0, self.qubits, size), self.qubits])
        touched = {gate.wires[0] for gate in self.gates}
        self.groups = [(a, b) for a, b in cuts if touched & set(range(a, b))]
        turning = [gate for gate in self.gates if gate.kind == "rotation"]
        self.columns = [gate.column for gate in turning]
        if turning:
            # G^2 = g^2: e^{i theta G} = cos(g theta) + sin(g theta) (i G / g)
            scales = [abs((gate.matrix @ gate.matrix)[0, 0]) ** 0.5 for gate in turning]
            axes = [1j * gate.matrix / (g or 1) for gate, g in zip(turning, scales, strict=True)]
            self.scales, self.axes = self.tensor(np.array(scales)), self.tensor(np.stack(axes))
        self.identity = self.tensor(np.eye(2))
        self.fixed = {id(g): self.tensor(g.matrix) for g in self.gates if g.kind == "constant"}
        self.ready = {
            group: self._product(group, {}).to(self.like.dtype).mT.contiguous().mT
            for group in self.groups
            if self.constant
        }

    def _product(self, group: tuple[int, int], turned: dict[int, Tensor]) -> Tensor:
        """The Kronecker product of a group's gates: ``(2^g, 2^g)`` or ``(n, 2^g, 2^g)``."""
        product = None
        for wire in range(*group):
            matrix = self.identity
            for gate in self.gates:
                if gate.wires[0] == wire:
                    own = turned[id(gate)] if id(gate) in turned else self.fixed[id(gate)]
                    matrix = own if matrix is self.identity else matmul(own, matrix)
            product = matrix if product is None else kron(product, matrix)
        return product

    def __call__(
        self,
        state: Tensor,
        thetas: Tensor | None,
        matrices: list[Tensor],
        made: dict[object, Any],
    ) -> Tensor:
        if self.ready:
            for group in self.groups:
                state = on_neighbours(self.ready[group], state, group, self.qubits)
            return state
        turned: dict[int, Tensor] = {}
        if self.columns:
            angle = (_pick(thetas, self.columns) * self.scales)[..., None, None]  # (n, r, 1, 1)
            rotations = angle.cos() * self.identity + angle.sin() * self.axes  # (n, r, 2, 2)
            turning = [gate for gate in self.gates if gate.kind == "rotation"]
            turned = {id(g): r for g, r in zip(turning, rotations.unbind(1), strict=True)}
        for gate in self.gates:
            if gate.kind == "matrix":
                turned[id(gate)] = matrices[gate.column]
        for group in self.groups:
            state = on_neighbours(self._product(group, turned), state, group, self.qubits)
        return state


class Permutation(Stage):
    """Gates that permute basis states (CNOT, SWAP, Toffoli): one index into the state."""

    def takes(self, gate: Gate) -> bool:
        if gate.kind != "constant":
            return False
        ones = np.isclose(gate.matrix, 1)
        return bool(np.allclose(gate.matrix, ones) and (ones.sum(0) == 1).all())

    def compile(self) -> None:
        index = np.arange(2**self.qubits)
        for gate in self.gates:
            came_from = np.abs(gate.matrix).argmax(1)  # new[row] = old[came_from[row]]
            step = replaced(gate.wires, self.qubits, came_from)
            index = index[step]
        self.index = torch.as_tensor(index, device=self.like.device)

    def __call__(
        self,
        state: Tensor,
        thetas: Tensor | None,
        matrices: list[Tensor],
        made: dict[object, Any],
    ) -> Tensor:
        return state.index_select(1, self.index)


class Single(Stage):
    """Any other gate on k wires, applied alone: ``(2^k, 2^k)`` or ``(n, 2^k, 2^k)``."""

    def takes(self, gate: Gate) -> bool:
        return not self.gates

    def compile(self) -> None:
        (gate,) = self.gates
        if gate.kind == "rotation":
            values, vectors = np.linalg.eigh(gate.matrix)
            self.values = self.tensor(values)
            self.vectors = self.tensor(vectors).to(self.like.dtype)
        elif gate.kind == "constant":
            self.matrix = self.tensor(gate.matrix)

    def __call__(
        self,
        state: Tensor,
        thetas: Tensor | None,
        matrices: list[Tensor],
        made: dict[object, Any],
    ) -> Tensor:
        (gate,) = self.gates
        if gate.kind == "rotation":
            phases = thetas[:, gate.column, None] * self.values  # (n, 2^k)
            turned = torch.complex(phases.cos(), phases.sin())
            matrix = (self.vectors * turned[:, None]) @ self.vectors.mH
        else:
            matrix = self.matrix if gate.kind == "constant" else matrices[gate.column]
        return on_wires(matrix, state, gate.wires, self.qubits)


def _pick(thetas: Tensor, columns: list[int]) -> Tensor:
    return thetas if columns == list(range(thetas.shape[1])) else thetas[:, columns]


# ---- schedule


KINDS = (Phase, Layer, Permutation, Single)  # the first that takes a gate is the fastest for it


def schedule(gates: Sequence[Gate], qubits: int, like: Tensor) -> list[Stage]:
    """Merge gates into stages, each gate into the earliest stage it can be moved to.

    Args:
        gates: in circuit order.
        qubits: q.
        like: a state, for dtype and device of the constants.

    Returns:
        Stages to be called one after the other.
    """
    stages: list[Stage] = []
    for gate in gates:
        alone = next(s for s in (kind(qubits, like) for kind in KINDS) if s.takes(gate))
        home = None
        for stage in reversed(stages):
            if type(stage) is type(alone) and stage.takes(gate):
                home = stage
            if not stage.commutes(gate):
                break
        if home is None:
            home = alone
            stages.append(home)
        home.gates.append(gate)
    for stage in stages:
        stage.compile()
    return stages


# ---- basis


def local_index(wires: Sequence[int], qubits: int) -> np.ndarray:
    """For every basis state, the index of its bits on ``wires`` (wire 0 is the leftmost bit)."""
    basis = np.arange(2**qubits)
    local = np.zeros_like(basis)
    for wire in wires:
        local = 2 * local + (basis >> (qubits - 1 - wire)) % 2
    return local


def replaced(wires: Sequence[int], qubits: int, came_from: np.ndarray) -> np.ndarray:
    """Every basis state with its bits on ``wires``, read as b, replaced by came_from[b]."""
    basis = np.arange(2**qubits)
    bits = came_from[local_index(wires, qubits)]
    for position, wire in enumerate(reversed(wires)):
        place = qubits - 1 - wire
        basis = basis & ~(1 << place) | ((bits >> position) % 2) << place
    return basis


class Rotate(torch.autograd.Function):
    """``state * factor``, factor = exp(i phase): ``(n or 1, 2^q), (n, 2^q) -> (n, 2^q)``.

    One step for what autograd would take a dozen small ones for, forwards and back.
    """

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
            to_state = grad * factor.conj()
            to_state = to_state.sum(0, keepdim=True) if ctx.one else to_state
        if ctx.needs_input_grad[1]:
            to_phase = (grad * rotated.conj()).imag  # d rotated = i rotated d phase
        return to_state, to_phase, None


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """a @ b, where one may be real and the other complex."""
    if a.dtype != b.dtype:
        dtype = torch.promote_types(a.dtype, b.dtype)
        a, b = a.to(dtype), b.to(dtype)
    return a @ b


def kron(a: Tensor, b: Tensor) -> Tensor:
    """Kronecker product of the last two axes; either may have a batch axis in front."""
    product = a[..., :, None, :, None] * b[..., None, :, None, :]
    return product.reshape(*product.shape[:-4], a.shape[-2] * b.shape[-2], -1)


def on_neighbours(matrix: Tensor, state: Tensor, group: tuple[int, int], qubits: int) -> Tensor:
    """A matrix ``(2^g, 2^g)`` or ``(n, 2^g, 2^g)`` on wires group[0] up to group[1]."""
    rows, columns = matrix.shape[-2:]
    right = 2 ** (qubits - group[1])
    if right == 1:
        cube = state.reshape(len(state), -1, columns)
        return matmul(cube, matrix.transpose(-1, -2)).reshape(-1, 2**qubits)
    cube = state.reshape(len(state), -1, columns, right)  # (n, left, 2^g, right)
    if matrix.ndim == 3:
        matrix = matrix[:, None]
    return matmul(matrix, cube).reshape(-1, 2**qubits)


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


# ---- one_at_a_time


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Inside, this thread alone makes, draws or runs circuits; others wait until it is done.

    PennyLane notes the gates of all threads in one list, which a drawing in another thread takes
    away for a moment: gates get lost, or a lock is never given back and every later circuit waits
    for ever. So the wait is for PennyLane's own lock, which a recording anywhere holds, also one in
    a reader's cell. May be nested; gates that are made inside belong to no recording outside.
    """
    with qp.queuing.AnnotatedQueue(), qp.QueuingManager.stop_recording():
        yield
