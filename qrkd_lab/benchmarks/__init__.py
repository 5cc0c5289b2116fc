"""Benchmarks: data, teacher, student and metric at a scale, behind one small interface.

:class:`~qrkd_lab.benchmarks.base.Benchmark` is all that training knows: ``batches`` gives inputs
and targets, ``outputs`` runs a model and taps its features, ``score`` gives the numbers that count.
Images and language each fill it in; neither is a special case of the other.
"""

from __future__ import annotations

from qrkd_lab.benchmarks.base import Benchmark
from qrkd_lab.benchmarks.registry import (
    BENCHMARKS,
    SCALES,
    benchmark_of,
    benchmark_settings,
    load_benchmark,
)

__all__ = [
    "BENCHMARKS", "SCALES", "Benchmark", "benchmark_of", "benchmark_settings", "load_benchmark",
]  # fmt: skip
