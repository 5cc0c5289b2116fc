"""Benchmarks: data, teacher, student and metric at a scale, behind one small interface.

:class:`~qrkd_lab.benchmarks.base.Benchmark` is all that training knows: ``batches`` gives inputs
and targets, ``outputs`` runs a model and taps its features, ``score`` gives the numbers that count.
Images and language each fill it in; neither is a special case of the other.
"""

from __future__ import annotations

from qrkd_lab.faces import face

_HOMES = {
    "base": ("Benchmark",),
    "registry": ("benchmark_of", "benchmark_settings", "load_benchmark"),
    "scales": ("BENCHMARKS", "SCALES"),
}

__getattr__, __dir__, __all__ = face(__name__, _HOMES)  # noqa: PLE0605
