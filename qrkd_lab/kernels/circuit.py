"""Reading a PennyLane circuit once, so that it can be replayed for any batch of angles.

PennyLane describes every circuit, but building its operations anew for each batch costs more than
simulating them. :func:`read` runs the quantum function a single time, under torch's tracer, and
returns its gates as plain data, plus a torch graph that computes every angle-dependent number (gate
parameters and, for gates that are no simple rotation, whole matrices) from the angles.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pennylane as qp
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from qrkd_lab.kernels.one_at_a_time import one_at_a_time
from qrkd_lab.kernels.vectorise import stack_graph

__all__ = ["Circuit", "CircuitError", "Gate", "read"]


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


def read(circuit: Callable[..., object], qubits: int, angles: Tensor) -> Circuit:
    """Read ``circuit(angles, wires)`` for angles of this shape, dtype and device.

    Args:
        circuit: a PennyLane quantum function of ``(angles, wires)``.
        qubits: q; the wires are 0..q-1.
        angles: an example ``(n, d)``; its values do not matter.

    Raises:
        CircuitError: the function measures, uses a wire out of range, has a gate without a matrix,
            branches on the values of the angles, or has trainable tensors of its own.
    """
    with one_at_a_time(), torch.inference_mode(False), torch.enable_grad():
        first, second = (_like(angles, seed) for seed in (1, 2))
        result = _traced(circuit, qubits, first)
        _verify(circuit, qubits, result, second)
    return result


def _like(angles: Tensor, seed: int) -> Tensor:
    """Random angles of this shape, dtype and device; the reading must not touch the caller's."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.rand(angles.shape, generator=generator, dtype=angles.dtype) + 0.1
    return drawn.to(angles.device)


def _traced(circuit: Callable[..., object], qubits: int, example: Tensor) -> Circuit:
    """The circuit's gates, and a graph for the numbers that depend on its angles."""
    found: list[Gate] = []
    prepares = False

    def numbers(x: Tensor) -> list[Tensor]:
        nonlocal prepares
        found.clear()
        thetas, matrices, state = _walk(_operations(circuit, qubits, x), qubits, found)
        prepares = state is not None
        return [*_wide(thetas, len(x)), *matrices, *([state] if prepares else [])]

    try:
        graph = make_fx(numbers)(example)
    except RuntimeError as error:
        raise CircuitError(
            "the feature map could not be read: it (or a PennyLane operation in it) looks at the "
            "values of its angles with an `if`, a float() or .item(), so samples would get "
            "different circuits; write it with torch operations only "
            f"({str(error).splitlines()[0]})"
        ) from error
    rotations = sum(gate.kind == "rotation" for gate in found)
    graph, places = stack_graph(graph, rotations)
    gates = tuple(_placed(gate, places) for gate in found)

    def replay(x: Tensor) -> tuple[Tensor | None, list[Tensor], Tensor | None]:
        rest = list(graph.forward(x))
        thetas = rest.pop(0) if rotations else None
        state = rest.pop() if prepares else None
        return thetas, rest, state

    return Circuit(gates, replay, prepares)


def _wide(thetas: Sequence[Tensor], n: int) -> list[Tensor]:
    """One angle for all samples becomes one for each."""
    return [theta if theta.shape == (n,) else theta.expand(n) for theta in thetas]


def _verify(circuit: Callable[..., object], qubits: int, result: Circuit, other: Tensor) -> None:
    """Compare the replay with the function itself on other angles, and with one sample changed.

    Whatever leaves torch on its way (NumPy, ``.tolist()``, a few PennyLane gates) was frozen at the
    values of the reading; here it shows.
    """
    passed = other.clone()
    gates, values = _eager(circuit, qubits, passed)
    if not torch.equal(passed, other):
        raise CircuitError("the feature map changes its angles in place; compute new ones instead")
    thetas, matrices, state = result.numbers(other)
    replayed = [g.factor * thetas[:, g.column] for g in result.gates if g.kind == "rotation"]
    replayed += [*matrices, *([state] if state is not None else [])]
    same = len(gates) == len(result.gates) and len(values) == len(replayed)
    same = same and all(
        a.wires == b.wires and (b.kind != "constant" or np.allclose(a.matrix, b.matrix, atol=1e-6))
        for a, b in zip(result.gates, gates, strict=True)
    )
    if not same or any(
        a.shape != b.shape or not torch.allclose(a, b.to(a.dtype), atol=1e-4)
        for a, b in zip(replayed, values, strict=True)
    ):
        raise CircuitError(
            "the feature map's gates do not follow its angles: some number leaves torch on the way "
            "(NumPy, .tolist(), or a PennyLane gate that computes with NumPy, such as IsingXY); "
            "use torch operations and other gates, or evaluate it with kernel.on(...)"
        )
    changed = other.clone()
    changed[0] += 0.5  # another first sample leaves the others' numbers alone
    _, moved = _eager(circuit, qubits, changed)
    for a, b in zip(values, moved, strict=True):
        if a.ndim and len(a) == len(other) and not torch.allclose(a[1:], b[1:], atol=1e-4):
            raise CircuitError(
                "a sample's gates depend on other samples: take a feature as angles[..., i], "
                "not as angles[i], and compute nothing over the batch"
            )


def _eager(
    circuit: Callable[..., object], qubits: int, x: Tensor
) -> tuple[list[Gate], list[Tensor]]:
    """Gates and numbers of the function called as it is; refuses trainable tensors of its own."""
    operations = _operations(circuit, qubits, x)
    for op in operations:
        if any(isinstance(p, Tensor) and p.requires_grad for p in op.data):
            raise CircuitError(
                f"{op.name} depends on a trainable tensor other than the angles, whose gradient "
                "would be lost. Make it part of the encoder, or detach() it"
            )
    gates: list[Gate] = []
    thetas, matrices, state = _walk(operations, qubits, gates)
    return gates, [*_wide(thetas, len(x)), *matrices, *([state] if state is not None else [])]


def _placed(gate: Gate, places: Sequence[tuple[int, float]]) -> Gate:
    """A rotation's column among the stacked ones; the factor of its angle goes into G."""
    if gate.kind != "rotation":
        return gate
    column, factor = places[gate.column]
    return replace(gate, column=column, factor=factor, matrix=factor * gate.matrix)


def _operations(
    circuit: Callable[..., object], qubits: int, x: Tensor
) -> list[qp.operation.Operator]:
    """The circuit's operations, templates taken apart until each gate has a matrix."""
    script = qp.tape.make_qscript(circuit)(x, list(range(qubits)))
    if script.measurements or any("MidMeasure" in op.name for op in script.operations):
        raise CircuitError(
            "a feature map prepares a state and must not measure; leave `return` out"
        )
    todo, ready = list(reversed(script.operations)), []
    while todo:
        op = todo.pop()
        if unknown := [w for w in op.wires if w not in range(qubits)]:
            raise CircuitError(
                f"{op.name} acts on wire {unknown[0]!r}; there are wires 0..{qubits - 1}"
            )
        if isinstance(op, qp.operation.StatePrepBase) or op.has_matrix:
            ready.append(op)
        elif op.has_decomposition:
            todo.extend(reversed(op.decomposition()))
        elif op.name not in ("Barrier", "Snapshot", "WireCut"):
            raise CircuitError(
                f"{op.name} has neither a matrix nor a decomposition into gates that do"
            )
    return ready


def _walk(
    operations: Sequence[qp.operation.Operator], qubits: int, found: list[Gate]
) -> tuple[list[Tensor], list[Tensor], Tensor | None]:
    """Sort operations into gates (appended to ``found``) and the tensors that they depend on."""
    thetas: list[Tensor] = []
    matrices: list[Tensor] = []
    state = None
    for position, op in enumerate(operations):
        wires = tuple(int(w) for w in op.wires)
        if isinstance(op, qp.operation.StatePrepBase):
            if position:
                raise CircuitError(f"{op.name} must come first: it replaces the state")
            amplitudes = torch.as_tensor(op.state_vector(wire_order=range(qubits)))
            state = amplitudes.reshape(-1, 2**qubits)
        elif not any(isinstance(p, Tensor) for p in op.data):
            found.append(Gate("constant", wires, np.asarray(op.matrix(), complex)))
        elif (generator := _generator(op)) is not None:
            found.append(Gate("rotation", wires, generator, len(thetas)))
            thetas.append(op.data[0])
        else:
            found.append(Gate("matrix", wires, None, len(matrices)))
            matrices.append(op.matrix())
    return thetas, matrices, state


def _generator(op: qp.operation.Operator) -> np.ndarray | None:
    """G of a gate e^{i theta G} of one parameter with G^2 proportional to 1 or G diagonal."""
    if len(op.data) != 1 or op.data[0].ndim > 1 or not op.has_generator:
        return None
    generator = np.asarray(qp.matrix(op.generator(), wire_order=op.wires), complex)
    square = generator @ generator
    diagonal = np.array_equal(generator, np.diag(np.diagonal(generator)))
    if not diagonal and not np.allclose(square, square[0, 0] * np.eye(len(square)), atol=1e-12):
        return None
    values, vectors = np.linalg.eigh(generator)
    at = 0.7391  # e^{i theta G} is PennyLane's convention; trust it only where it holds
    mine = (vectors * np.exp(1j * at * values)) @ vectors.conj().T
    theirs = qp.ops.functions.bind_new_parameters(op, [at]).matrix()
    return generator if np.allclose(mine, theirs, atol=1e-9) else None
