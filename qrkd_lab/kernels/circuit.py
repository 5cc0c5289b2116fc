"""From a PennyLane quantum function to gates as plain data, and to the numbers in them.

The built-in maps never change. :func:`read` runs one of them a single time, under torch's tracer,
and keeps its gates and a torch graph that computes every angle-dependent number (gate parameters,
amplitudes) from the angles: to build PennyLane's operations for each batch would cost more than to
simulate them.

A user's own map may use anything: weights that change, other samples, the values of the angles. So
:func:`evaluate` calls it whenever the kernel is called, with the angles of one sample, for all
samples at once (``torch.func.vmap``).
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import pennylane as qp
import torch
from pennylane.operation import Operator, StatePrepBase
from torch import Tensor
from torch._C._functorch import is_batchedtensor
from torch.fx.experimental.proxy_tensor import make_fx

from qrkd_lab.kernels.one_at_a_time import one_at_a_time
from qrkd_lab.kernels.vectorise import stack_graph

__all__ = ["Circuit", "CircuitError", "Evaluation", "Gate", "evaluate", "operations", "read"]

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
