"""Reading a circuit: what a PennyLane quantum function does to a batch, as gates and tensors.

A user's own function is called with one sample's angles under ``torch.func.vmap``, in every call; a
built-in feature map is traced once for each shape of angles.
"""

from __future__ import annotations

import math
import operator
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import pennylane as qp
import torch
from pennylane.operation import Operator, StatePrepBase
from torch import Tensor
from torch._C._functorch import is_batchedtensor
from torch.fx.experimental.proxy_tensor import make_fx

__all__ = [
    "COMPLEX",
    "CircuitError",
    "Gate",
    "Numbers",
    "Reading",
    "evaluate",
    "one_at_a_time",
    "operations",
    "trace",
]

ATEN = torch.ops.aten
COMPLEX = {torch.float32: torch.complex64, torch.float64: torch.complex128}
DENSE = 6  # a parametrised gate on more qubits is decomposed where it can be


class CircuitError(ValueError):
    """A quantum function that cannot be run as a batched statevector, and why."""


@dataclass(frozen=True)
class Gate:
    """One gate: constant, a rotation e^{i theta G}, or another angle-dependent matrix."""

    kind: str  # "constant", "rotation" or "matrix"
    wires: tuple[int, ...]
    matrix: np.ndarray | None = None  # (2^k, 2^k): the constant, or the generator G
    column: int | None = None  # of theta among the rotations, or the number of the matrix

    @property
    def diagonal(self) -> bool:
        """Whether the gate is diagonal for every value of its parameter."""
        return self.matrix is not None and _is_diagonal(self.matrix)


@dataclass(frozen=True)
class Numbers:
    """What the gates take from the angles of n samples."""

    thetas: Tensor | None = None  # (n, r), a column per rotation
    matrices: Sequence[Tensor] = ()  # (n, 2^k, 2^k) or (2^k, 2^k) per matrix gate
    state: Tensor | None = None  # the prepared one (n, 2^q)
    phases: dict[object, tuple[Tensor, Tensor]] = field(default_factory=dict)  # layers share them


@dataclass
class Reading:
    """The gates of a circuit, each with a key that is equal for equal gates, and their tensors."""

    keys: list[object] = field(default_factory=list)
    gates: list[Gate] = field(default_factory=list)
    thetas: list[Tensor] = field(default_factory=list)
    matrices: list[Tensor] = field(default_factory=list)
    states: list[Tensor] = field(default_factory=list)  # the prepared one, if any

    @property
    def tensors(self) -> list[Tensor]:
        return [*self.thetas, *self.matrices, *self.states]

    def with_tensors(self, tensors: Sequence[Tensor]) -> Reading:
        """The same gates with other :attr:`tensors`."""
        thetas, matrices = len(self.thetas), len(self.thetas) + len(self.matrices)
        parts = tensors[:thetas], tensors[thetas:matrices], tensors[matrices:]
        return Reading(self.keys, self.gates, *map(list, parts))

    def numbers(self, like: Tensor) -> Numbers:
        thetas = [theta.to(like) for theta in self.thetas]
        matrices = [matrix.to(like.device, COMPLEX[like.dtype]) for matrix in self.matrices]
        state = self.states[0].to(like.device) if self.states else None
        return Numbers(torch.stack(thetas, 1) if thetas else None, matrices, state)


def operations(circuit: Callable[..., object], qubits: int, angles: Tensor) -> list[Operator]:
    """The operations that ``circuit(angles, wires)`` queues on the wires 0..q-1."""
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


def trace(
    circuit: Callable[..., object], qubits: int, angles: Tensor
) -> tuple[Reading, Callable[[Tensor], Numbers]]:
    """The gates of a fixed circuit, and a function of the angles that gives their numbers."""
    read = Reading()

    def tensors(x: Tensor) -> list[Tensor]:
        nonlocal read
        read = _walk(operations(circuit, qubits, x), qubits)
        return read.tensors

    generator = torch.Generator().manual_seed(1)
    example = torch.rand(angles.shape, generator=generator, dtype=angles.dtype) + 0.1
    with one_at_a_time(), torch.inference_mode(False), torch.enable_grad():
        module = make_fx(tensors, tracing_mode="fake")(example.to(angles.device))
    output = list(module.graph.nodes)[-1]
    results = list(output.args[0])
    # Rotations take columns of a few tensors (n, m), put side by side: where those of each begin.
    sources, width = {}, 0
    for place, gate in enumerate(read.gates):
        if gate.kind == "rotation":
            column = results[gate.column]  # of a select, or one of an unbind
            if column.target is operator.getitem:
                (source, *_), column = column.args[0].args, column.args[1]
            else:
                source, _, column = column.args
            factor = 1.0  # goes into the generator
            while source.target is ATEN.mul.Tensor and isinstance(source.args[1], (int, float)):
                source, factor = source.args[0], factor * source.args[1]
            if source not in sources:
                sources[source], width = width, width + source.meta["val"].shape[1]
            column += sources[source]
            read.gates[place] = replace(gate, matrix=factor * gate.matrix, column=column)
    output.args = ([*sources, *results[len(read.thetas) :]],)
    for node in module.graph.nodes:
        if node.target is ATEN.lift_fresh_copy.default:  # of constants; nothing writes
            node.replace_all_uses_with(node.args[0])
    module.graph.eliminate_dead_code()
    module.recompile()

    def numbers(x: Tensor) -> Numbers:
        found = module.forward(x)
        parts, rest = found[: len(sources)], found[len(sources) :]
        thetas = torch.cat(parts, 1) if len(parts) > 1 else parts[0] if parts else None
        state = rest.pop() if read.states else None
        return Numbers(thetas, rest, state)

    return read, numbers


def evaluate(circuit: Callable[..., object], qubits: int, angles: Tensor, check: bool) -> Reading:
    """Call ``circuit(angles, wires)`` with one sample's angles ``(d,)``, for all samples at once.

    A function that takes batches only (``angles[:, i]``) gets batches of one sample. With ``check``
    the function is also called with a batch, and what it gives is compared.
    """
    with one_at_a_time():
        try:
            single, read = True, _each(circuit, qubits, angles, single=True)
        except IndexError as error:
            try:
                single, read = False, _each(circuit, qubits, angles, single=False)
            except IndexError:
                raise CircuitError(
                    f"the feature map fails on samples of {angles.shape[1]} angles: {error}"
                ) from error
        if check:
            _compare_with_batch(circuit, qubits, angles.detach(), single)
    return read


def _each(circuit: Callable[..., object], qubits: int, x: Tensor, single: bool) -> Reading:
    """The function called with each sample alone: ``(d,)``, or ``(1, d)`` if not ``single``."""
    read, depends = Reading(), False

    def tensors(row: Tensor) -> list[Tensor]:
        nonlocal read, depends
        row = row.clone()  # the function may change it in place
        read = _walk(operations(circuit, qubits, row if single else row[None]), qubits)
        depends = any(map(is_batchedtensor, read.tensors))
        return [
            *(_of_one(theta, ()) for theta in read.thetas),
            *(_of_one(matrix, matrix.shape[-2:]) for matrix in read.matrices),
            *(_of_one(state, state.shape[-1:]) for state in read.states),
        ]

    try:
        with _values_unknown():
            found = torch.func.vmap(tensors)(x)
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
    return read.with_tensors(found)


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

    One that fails on a batch, or gives it gates of another form, is one for single samples.
    """
    count = 3 if x.shape[1] == 2 else 2  # not d: a sample is then not taken for a batch
    scale = torch.linspace(1, 0.8, count, dtype=x.dtype, device=x.device)
    rows = x[torch.arange(count) % len(x)] * scale[:, None]
    with torch.no_grad():
        alone = _each(circuit, qubits, rows, single)
        try:
            batch = _walk(operations(circuit, qubits, rows), qubits)
        except Exception:
            if single:
                return
            raise
    pairs = list(zip(alone.tensors, batch.tensors, strict=False))
    alike = alone.keys == batch.keys and all(b.shape in (a.shape, a.shape[1:]) for a, b in pairs)
    if single and not alike:
        return
    if not alike or not all(
        torch.allclose(a, b.to(a).expand_as(a), rtol=1e-3, atol=1e-4, equal_nan=True)
        for a, b in pairs
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


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Inside, this thread alone makes, draws or runs circuits; others wait until it is done.

    PennyLane notes the gates of all threads in one list, so this takes the lock that every
    recording of PennyLane holds. May be nested; gates made inside belong to no recording outside.
    """
    with qp.queuing.AnnotatedQueue(), qp.QueuingManager.stop_recording():
        yield


def _walk(operations: Sequence[Operator], qubits: int) -> Reading:
    """Operations as gates and the tensors that they depend on."""
    read = Reading()
    todo = list(reversed(operations))
    while todo:
        op = todo.pop()
        if unknown := [w for w in op.wires if w not in range(qubits)]:
            raise CircuitError(
                f"{op.name} acts on wire {unknown[0]!r}; there are wires 0..{qubits - 1}"
            )
        if isinstance(op, StatePrepBase):
            if read.gates or read.states:
                raise CircuitError(f"{op.name} must come first: it replaces the state")
            read.states.append(_prepared(op, qubits))
            continue
        key, kind, matrix = _kind(op)
        column = None
        if kind == "rotation":
            column = len(read.thetas)
            read.thetas.append(op.data[0])
        elif kind == "matrix":
            column = len(read.matrices)
            try:
                read.matrices.append(_matrix(op))
            except (RuntimeError, TypeError, ValueError):  # computed with NumPy
                if not op.has_decomposition:
                    raise
                kind = "parts"
        if kind == "parts":
            todo.extend(reversed(op.decomposition()))
            continue
        read.keys.append(key)
        read.gates.append(Gate(kind, tuple(int(w) for w in op.wires), matrix, column))
    return read


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


_KINDS: dict[object, tuple[str, np.ndarray | None]] = {}  # of gates met before


def _kind(op: Operator) -> tuple[object, str, np.ndarray | None]:
    """A key for gates that are alike, their kind ("parts": decompose), and constant matrix."""
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
    turns = np.allclose(square, square[0, 0] * np.eye(len(square)), atol=1e-12)
    if len(op.wires) == 1 and not _is_diagonal(generator) and not turns:
        return None
    values, vectors = np.linalg.eigh(generator)
    mine = (vectors * np.exp(1j * at * values)) @ vectors.conj().T
    return generator if np.allclose(mine, example.matrix(), atol=1e-9) else None


def _is_diagonal(matrix: np.ndarray) -> bool:
    return np.array_equal(matrix, np.diag(np.diagonal(matrix)))
