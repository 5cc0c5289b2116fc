"""Which gates of a circuit are replayed together.

:func:`schedule` moves each gate to the earliest stage that can take it up, past gates it commutes
with, so that a circuit of hundreds of gates becomes a handful of stages.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from qrkd_lab.kernels.circuit import Gate
from qrkd_lab.kernels.stages import Layer, Permutation, Phase, Single, Stage

__all__ = ["schedule"]

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
