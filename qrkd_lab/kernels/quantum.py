"""Quantum kernels: how alike two samples are once they have become quantum states.

Values are exact; ``kernel.on(...)`` estimates them circuit by circuit, with shots and noise.
"""

from __future__ import annotations

import base64
import html
import inspect
import io
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial, wraps
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from qrkd_lab.checks import flag, no_second_derivative, positive, whole
from qrkd_lab.kernels.classical import Kernel, squared_distances

if TYPE_CHECKING:  # PennyLane takes seconds to import: it comes with the first circuit
    import pennylane as qp
    from matplotlib.figure import Figure

    from qrkd_lab.kernels.device import DeviceKernel
    from qrkd_lab.kernels.statevector import StateVector

__all__ = [
    "FidelityKernel",
    "ProjectedKernel",
    "QuantumKernel",
]


MOST_QUBITS = 16  # 2^16 amplitudes: 512 KiB a sample in single precision


@dataclass(frozen=True)
class QuantumKernel(Kernel):
    """What the quantum kernels share: a feature map, its circuit, and its states.

    Args:
        feature_map: one of ``angle``, ``zz``, ``iqp``, ``reuploading``, ``amplitude``, or your own
            PennyLane quantum function of ``(angles, wires)`` or of ``(angles)`` alone, or a QNode,
            whose measurement is left out. Yours takes any number of angles and is called in each
            call of the kernel; gradients reach torch tensors in it.
        qubits: q, 1 to 16.
        layers: repetitions; None takes the map's own default.
        bandwidth: factor on every angle; see :class:`~qrkd_lab.kernels.classical.Kernel`.
        entangle: with or without the gates between qubits.
        seed: of the fixed rotations of ``reuploading``.
        chunk: states held at once; see :class:`~qrkd_lab.kernels.classical.Kernel`.

    Raises:
        ValueError: unknown map (lists the maps), q out of range, or an option that the map has not.
    """

    feature_map: str | Callable[..., object] = "zz"
    qubits: int = 6
    layers: int | None = None
    bandwidth: float = 1.0
    entangle: bool = True
    seed: int = 0
    chunk: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "bandwidth", positive("bandwidth", self.bandwidth))
        object.__setattr__(self, "qubits", whole("qubits", self.qubits, 1, MOST_QUBITS))
        if self.layers is not None:
            object.__setattr__(self, "layers", whole("layers", self.layers, 1))
        object.__setattr__(self, "entangle", flag("entangle", self.entangle))
        object.__setattr__(self, "seed", whole("seed", self.seed, 0))
        _ = self._options  # an option that the map does not have is an error now, not at first use

    @cached_property
    def _options(self) -> dict[str, Any]:
        """The keyword arguments for the feature map: those it has, where they are not default."""
        known = inspect.signature(_function(self.feature_map)).parameters
        default = {"layers": None, "entangle": True, "seed": 0}
        wanted = {name: getattr(self, name) for name in default}
        wanted = {name: value for name, value in wanted.items() if value != default[name]}
        for name, value in wanted.items():
            if name not in known:
                raise ValueError(
                    f"feature map {_name(self.feature_map)!r} has no option {name!r}, got "
                    f"{name}={value!r}; leave it out"
                )
        return wanted

    def __getstate__(self) -> dict[str, Any]:
        """For pickle and copy: the simulator is made anew where it is needed."""
        return {name: value for name, value in vars(self).items() if name != "statevector"}

    @property
    def depth(self) -> int | None:
        """Layers of the circuit, the map's default where none were given; None if it has none."""
        known = inspect.signature(_function(self.feature_map)).parameters
        return self.layers or (known["layers"].default if "layers" in known else None)

    @property
    def features(self) -> int | None:
        if callable(self.feature_map):
            return None
        return 2**self.qubits if self.feature_map == "amplitude" else self.qubits

    @property
    def embedding_size(self) -> int:
        return 2**self.qubits

    @property
    def entangles(self) -> bool:
        """Whether ``entangle=False`` would give other kernel values than ``entangle=True``."""
        known = inspect.signature(_function(self.feature_map)).parameters
        if self.qubits == 1 or "entangle" not in known:
            return False
        generator = torch.Generator().manual_seed(0)
        size = (4, self.features or self.qubits)
        x = torch.randn(size, dtype=torch.float64, generator=generator)
        pair = [replace(self, bandwidth=1.0, entangle=on, chunk=None) for on in (True, False)]
        with torch.no_grad():
            one, other = (kernel(x) for kernel in pair)
        return (one - other).abs().max().item() > 1e-9

    @property
    def circuit(self) -> Callable[..., None]:
        """The PennyLane quantum function ``circuit(angles, wires)``, bandwidth applied."""

        def circuit(angles: Any, wires: Any = range(self.qubits)) -> None:  # noqa: ANN401
            if isinstance(angles, (list, tuple)):
                import pennylane as qp

                angles = qp.math.stack(angles)
            _function(self.feature_map)(self.bandwidth * angles, list(wires), **self._options)

        return circuit

    @cached_property
    def statevector(self) -> StateVector:
        """The simulator; kernels with one built-in circuit share it, whatever their bandwidth."""
        own = callable(self.feature_map)
        make = _statevector.__wrapped__ if own else _statevector
        options = tuple(sorted(self._options.items()))
        return make(_function(self.feature_map), self.qubits, options, fixed=not own)

    def states(self, x: Tensor) -> Tensor:
        """The embedding states ``(n, 2^q)``, complex, of angles ``(n, q)``; wire 0 is leftmost."""
        self.check(x)
        return self.statevector(self.bandwidth * x)

    def gates(self, angles: Tensor) -> list[qp.operation.Operator]:
        """The circuit of one sample of angles ``(features,)``, as PennyLane's operators."""
        from qrkd_lab.kernels.circuits import CircuitError, one_at_a_time, operations

        with one_at_a_time():
            try:
                return operations(self.circuit, self.qubits, angles)
            except IndexError as error:
                raise CircuitError(
                    f"the feature map fails on one sample of {len(angles)} angles: {error}. Take a "
                    "feature as angles[..., i], which serves one sample as well as a batch"
                ) from error

    def draw(self, features: int | None = None) -> Figure:
        """The circuit of an example as a figure: a line per qubit, time from left to right.

        The example's angles are 1 / (m + 1), ..., m / (m + 1), radians, of m features. A number in
        a gate is what the map makes of them.

        It displays itself in a notebook, and its ``alt`` says in words what is drawn.

        Args:
            features: how many angles your own feature map takes, where it is not q.
        """
        import pennylane as qp
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from PIL import Image

        from qrkd_lab.kernels.circuits import one_at_a_time

        features = features or self.features or self.qubits
        example = torch.arange(1.0, features + 1) / (features + 1)
        figure = Figure(facecolor="white")
        FigureCanvasAgg(figure)  # PennyLane's drawer measures its labels on a canvas
        with one_at_a_time():
            drawer = qp.draw_mpl(self.circuit, decimals=2, style="pennylane", fig=figure)
            drawer(example, range(self.qubits))
        count = Counter(gate.name for gate in self.gates(example))
        listed = ", ".join(f"{number} {name}" for name, number in count.items())
        alt = (
            f"Circuit of the feature map {_name(self.feature_map)} on {self.qubits} qubits, one "
            f"line each, time from left to right, for a sample with the angles "
            f"{', '.join(f'{angle:.2f}' for angle in example)}; its gates: {listed}."
        )

        def displayed(**_: Any) -> dict[str, str]:  # noqa: ANN401
            drawn = io.BytesIO()
            figure.savefig(drawn, format="png", dpi=144)
            few = Image.open(drawn).convert("RGB").quantize(32, dither=Image.Dither.NONE)
            few.save(drawn := io.BytesIO(), "png", optimize=True)  # a quarter of the size
            png = base64.b64encode(drawn.getvalue()).decode()
            source, width = f"data:image/png;base64,{png}", round(figure.get_figwidth() * 96)
            image = f'<img src="{source}" alt="{html.escape(alt)}" width="{width}">'
            return {"image/png": png, "text/html": image, "text/plain": alt}

        figure.alt, figure._repr_mimebundle_ = alt, displayed
        return figure

    def on(
        self,
        device: str | Any = "default.qubit",  # noqa: ANN401
        shots: int | None = None,
        noise: float | Any | None = None,  # noqa: ANN401
        seed: int | None = None,
    ) -> DeviceKernel:
        """The same kernel as a :class:`~qrkd_lab.kernels.device.DeviceKernel`."""
        from qrkd_lab.kernels.device import DeviceKernel

        return DeviceKernel(self, device, shots, noise, seed)


@dataclass(frozen=True)
class FidelityKernel(QuantumKernel):
    r"""Fidelity of the embedding states, the kernel of QRKD.

    .. math:: k(x, y) = \lvert \langle \phi(x) | \phi(y) \rangle \rvert^2

    Arguments as :class:`QuantumKernel`. Source: Havlicek et al., Nature 567, 209 (2019); Schuld and
    Killoran, PRL 122, 040504 (2019).

    Example:
        >>> k = FidelityKernel("angle", qubits=2)
        >>> k(torch.tensor([[0.0, 0.0], [torch.pi, 0.0]])).round(decimals=4)
        tensor([[1., 0.],
                [0., 1.]])
    """

    def embed(self, x: Tensor) -> Tensor:
        return self.statevector(x)

    def compare(self, u: Tensor, v: Tensor) -> Tensor:
        return _SquaredOverlaps.apply(u, v)


class _SquaredOverlaps(torch.autograd.Function):
    """K_ij = |<v_j|u_i>|^2; the gradient of a batch with itself takes one product, not two."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, v: Tensor) -> Tensor:  # noqa: ANN401
        overlaps = u @ v.mH  # (n, m)
        ctx.itself = u is v
        ctx.save_for_backward(u, v, overlaps)
        return overlaps.real.square() + overlaps.imag.square()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:  # noqa: ANN401
        no_second_derivative()
        u, v, overlaps = ctx.saved_tensors
        if ctx.itself:
            return (2 * (grad + grad.T) * overlaps) @ u, None
        weighted = 2 * grad * overlaps
        to_u = weighted @ v if ctx.needs_input_grad[0] else None
        return to_u, weighted.mH @ u if ctx.needs_input_grad[1] else None


@dataclass(frozen=True)
class ProjectedKernel(QuantumKernel):
    r"""Projected quantum kernel: a Gaussian of the qubits' reduced states.

    .. math:: k(x, y) = \exp\Big(-\gamma \sum_{m=1}^{q}
              \lVert \rho_m(x) - \rho_m(y) \rVert_F^2\Big)

    with :math:`\rho_m` the state of qubit m alone. In Bloch vectors r the sum is half the squared
    distance :math:`\lVert r(x) - r(y) \rVert^2`.

    Args:
        gamma: > 0; the others as :class:`QuantumKernel`.

    Source: Huang et al., "Power of data in quantum machine learning", Nat. Commun. 12, 2631 (2021).
    """

    gamma: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "gamma", positive("gamma", self.gamma))
        super().__post_init__()

    def embed(self, x: Tensor) -> Tensor:
        """Bloch vectors ``(n, 3q)``."""
        return bloch_vectors(self.statevector(x), self.qubits).flatten(1)

    def compare(self, u: Tensor, v: Tensor) -> Tensor:
        return torch.exp(-0.5 * self.gamma * squared_distances(u, v))


def bloch_vectors(states: Tensor, qubits: int) -> Tensor:
    """(<X>, <Y>, <Z>) of every qubit: states ``(n, 2^q)`` -> ``(n, q, 3)``, in [-1, 1]."""
    vectors = []
    for wire in range(qubits):
        cube = states.reshape(len(states), 2**wire, 2, -1)  # (n, left, the qubit, right)
        zero, one = cube[:, :, 0].flatten(1), cube[:, :, 1].flatten(1)
        coherence = (zero.conj() * one).sum(1)
        parts = torch.view_as_real(cube).square().sum(-1).sum((1, 3))  # (n, 2) populations
        z = parts[:, 0] - parts[:, 1]
        vectors.append(torch.stack([2 * coherence.real, 2 * coherence.imag, z], dim=1))
    return torch.stack(vectors, dim=1)


def _function(feature_map: str | Callable[..., object]) -> Callable[..., object]:
    from qrkd_lab.kernels.feature_maps import FEATURE_MAPS

    if callable(feature_map):
        return _quantum_function(feature_map)
    if feature_map not in FEATURE_MAPS:
        raise ValueError(
            f"unknown feature map {feature_map!r}; choose one of {', '.join(FEATURE_MAPS)}, or "
            "pass a PennyLane quantum function of (angles, wires)"
        )
    return FEATURE_MAPS[feature_map]


def _quantum_function(feature_map: Callable[..., object]) -> Callable[..., object]:
    """A user's function or QNode as a function of ``(angles, wires)`` that queues its gates."""
    import pennylane as qp

    node = isinstance(feature_map, qp.QNode)
    if node and len(feature_map.compile_pipeline):
        raise ValueError(
            f"the QNode {_name(feature_map)!r} has transforms, which a feature map cannot keep; "
            "pass the quantum function that it was made of"
        )
    function = feature_map.func if node else feature_map
    known = inspect.signature(function).parameters.values()
    given = [p for p in known if p.name not in ("layers", "entangle", "seed")]
    takes_wires = any(p.kind is p.VAR_POSITIONAL for p in given)
    takes_wires |= sum(p.kind <= p.POSITIONAL_OR_KEYWORD for p in given) > 1
    by_name = any(p.name == "wires" and p.kind is p.KEYWORD_ONLY for p in given)

    @wraps(function)
    def queued(angles: Any, wires: Any, **options: Any) -> object:  # noqa: ANN401
        arguments = (angles, wires) if takes_wires and not by_name else (angles,)
        options |= {"wires": wires} if by_name else {}
        if not node:
            return function(*arguments, **options)
        for gate in qp.tape.make_qscript(function)(*arguments, **options).operations:
            qp.apply(gate)

    return queued


def _name(feature_map: str | Callable[..., object]) -> str:
    if isinstance(feature_map, str):
        return feature_map
    return getattr(feature_map, "__name__", type(feature_map).__name__)


@lru_cache(maxsize=64)
def _statevector(
    function: Callable[..., object], qubits: int, options: tuple[tuple[str, Any], ...], fixed: bool
) -> StateVector:
    from qrkd_lab.kernels.statevector import StateVector

    return StateVector(partial(function, **dict(options)), qubits, fixed)
