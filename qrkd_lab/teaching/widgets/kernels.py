"""KernelExplorer: turn the knobs of a quantum kernel, and ask at once: is this just an RBF?"""

from __future__ import annotations

import html
import inspect
import math
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import ipywidgets as W
import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from qrkd_lab.data.fetch import DataError
from qrkd_lab.data.images import load_images, stratified_order
from qrkd_lab.kernels.analysis import alignment_or, r_squared
from qrkd_lab.kernels.classical import StretchedRBFKernel
from qrkd_lab.kernels.diagnosis import Diagnosis, best_fit, diagnose
from qrkd_lab.kernels.encoders import BANDWIDTHS, ENCODERS, Encoder, calibrated
from qrkd_lab.kernels.feature_maps import FEATURE_MAPS
from qrkd_lab.kernels.quantum import FidelityKernel, ProjectedKernel, QuantumKernel
from qrkd_lab.kernels.shots import sampled
from qrkd_lab.seeds import generator
from qrkd_lab.studies.own import ArrayBenchmark
from qrkd_lab.teaching.plots.matrices import KernelPanel
from qrkd_lab.teaching.widgets.explorer import (
    Explorer,
    Picture,
    button,
    log_slider,
    menu,
    slider,
    switch,
)

__all__ = ["KernelExplorer", "SOURCES", "Samples", "labelled_samples"]

OWN = "your data"
KINDS = {"fidelity": FidelityKernel, "projected": ProjectedKernel}
SIDES = tuple(dict.fromkeys(side for side, _ in ENCODERS.values()))  # projection, pca, truncate
SHOTS = ("exact", 10, 30, 100, 300, 1000, 10_000)
BESIDE = ("best RBF", "stretched RBF", "pinned matrix")
DRAWN = 20  # qubits times layers up to which the circuit is drawn


class KernelExplorer(Explorer):
    """A kernel matrix, its best RBF, its spectrum and its circuit, while you turn the knobs.

    Args:
        data: ``digits``, ``two moons``, ``mnist``, a pair of arrays (features ``(m, d)``, labels
            ``(m,)``; of pictures or signals their numbers in a row), or a benchmark of your own,
            whose training part is shown.
        n: samples in the matrix.
        kernel: ``fidelity`` or ``projected``.
        feature_map, qubits, layers, bandwidth, entangle: of the kernel, see
            :class:`~qrkd_lab.FidelityKernel`; bandwidth None: by the rule of
            :mod:`qrkd_lab.kernels.encoders`.
        encoder: how d features become q angles: ``pca``, ``projection`` or ``truncate``. Data with
            fewer features than qubits are repeated over the qubits, and the explorer says so.
        shots: measurements per entry, or ``exact``. The RBFs are fitted to the exact kernel.
        beside: the matrix at its side: ``best RBF`` (one bandwidth), ``stretched RBF`` (a metric of
            its own), or ``pinned matrix``, the one that the button has kept.
        seed: of the samples, the projection and the shots.
        data_dir: folder of MNIST; None: ``$QRKD_DATA_DIR``, else the user's cache.

    Raises:
        ValueError: a value that no control has (lists the choices). What is wrong with a
            combination (too many qubits for the data, MNIST not there) is said inside.
    """

    def __init__(
        self,
        data: str | tuple[ArrayLike, ArrayLike] | ArrayBenchmark = "digits",
        n: int = 64,
        kernel: str = "fidelity",
        feature_map: str = "zz",
        qubits: int = 6,
        layers: int = 2,
        bandwidth: float | None = None,
        entangle: bool = True,
        encoder: str = "pca",
        shots: int | str = "exact",
        beside: str = "best RBF",
        seed: int = 0,
        data_dir: str | Path | None = None,
    ) -> None:
        own = None if isinstance(data, str) else labelled_samples(data, seed=seed)
        self._samples = lru_cache(
            lambda name, seed: own if name == OWN else labelled_samples(name, data_dir, seed)
        )
        self._data_dir, self._now, self._kept = data_dir, None, None
        self._panel = lru_cache(lambda samples, n: KernelPanel(samples.labels[:n], samples.classes))
        start, ends = 1.0 if bandwidth is None else bandwidth, (BANDWIDTHS[0], BANDWIDTHS[-1])
        controls = {
            "data": menu("Data", OWN if own else data, (OWN, *SOURCES) if own else SOURCES),
            "n": menu("Samples", n, (16, 32, 64, 96, 128), W.SelectionSlider),
            "encoder": menu("Encoder", encoder, SIDES),
            "feature_map": menu("Feature map", feature_map, FEATURE_MAPS.keys()),
            "qubits": slider("Qubits", qubits, 1, 12),
            "layers": slider("Layers", layers, 1, 6),
            "bandwidth": log_slider("Bandwidth", start, *ends),
            "rule": button("Bandwidth by the rule", self.calibrate, "Where the values spread most"),
            "entangle": switch("Gates between qubits", entangle),
            "kernel": menu("Kernel", kernel, KINDS.keys()),
            "shots": menu("Shots per entry", shots, SHOTS, W.SelectionSlider),
            "seed": slider("Seed", seed, 0, 20),
            "beside": menu("Beside it", beside, BESIDE),
        }
        self._fetch = button("Download MNIST", self.fetch, "11 MB, into the folder of the data")
        pin = button("Pin this matrix", self.pin, "Keep it beside those of other settings")
        column, self._rule = list(controls.values()), controls.pop("rule")
        column.insert(1, self._fetch)
        column.append(pin)
        super().__init__(controls, column, ("matrix", "circuit"), ("numbers",))
        if bandwidth is None:
            self.calibrate()

    def see(self) -> None:
        self._fetch.layout.display = "none"
        try:
            samples, angles = self._angles()
        except DataError:
            self._fetch.layout.display = None
            raise
        state, kernel, note = self.state, self._kernel(), ""
        d, wanted = samples.features.shape[1], angles.shape[1]
        if d < wanted:
            numbers = "number" if d == 1 else "numbers"
            note = f" Each sample has only {d} {numbers}, repeated to give {wanted} angles."
        self.controls["encoder"].disabled = bool(note)  # there is nothing to choose from
        labels = samples.labels[: len(angles)]
        with torch.no_grad():
            exact = matrix = kernel(angles)
        code = _code(kernel)
        if (shots := state["shots"]) != "exact":
            if state["kernel"] != "fidelity":
                raise ValueError(
                    "shots: only an entry of the fidelity kernel is one probability that shots "
                    "estimate; choose exact, or the fidelity kernel"
                )
            matrix = sampled(exact, shots, generator(state["seed"], "shots"))
            code = f"sampled({code}(angles), shots={shots})"
            note += " The RBFs are fitted to the exact kernel, without shot noise."
        diagnosis = replace(diagnose(matrix, labels), fit=best_fit(exact, angles))
        self._now = (samples, matrix, state["feature_map"])
        beside, fit = None, math.nan  # how well a stretched RBF fits is said a moment later
        if state["beside"] == "stretched RBF":
            follows, fit = stretched(kernel, angles)
            about = f"{wanted} × {wanted} metric"
            beside = ("stretched RBF", follows, about, f"R² = {fit:.2f}")
        elif state["beside"] == "pinned matrix":
            beside = self._pinned()
            none = " No matrix of these samples is pinned yet: the best RBF stands beside it."
            note += "" if beside else none
        self._told = (f"{sentence(diagnosis)}.{note}", code)
        panel = self._panel(samples, len(labels))
        panel.draw_kernel(matrix, diagnosis, state["feature_map"], beside)
        numbers = diagnosis._repr_html_()
        words = kernel_words(*self._told, fit)
        self.show(words, matrix=Picture.of(panel), numbers=numbers)

    def see_more(self) -> None:
        """The circuit, and how well the stretched RBF fits."""
        kernel = self._kernel()
        key = (kernel.feature_map, kernel.qubits, kernel.layers, kernel.entangle)
        _, fit = stretched(kernel, self._angles()[1])
        self.show(kernel_words(*self._told, fit), circuit=_circuit(*key))

    def pin(self) -> None:
        """Keep the present matrix, and show it beside those that come."""
        self._kept = self._now
        self.set_to(beside="pinned matrix")

    def _pinned(self) -> tuple[str, Tensor, str, str] | None:
        """The matrix that was pinned, if it is one of the present samples."""
        (samples, matrix, _), kept = self._now, self._kept
        if kept is None or kept[0] is not samples or len(kept[1]) != len(matrix):
            return None
        aligned = alignment_or(float("nan"), matrix, kept[1])
        return "pinned matrix", kept[1].double(), kept[2], f"CKA = {aligned:.2f}"

    def fetch(self) -> None:
        """Download MNIST; the notebook waits for it."""
        self.show("<p>Downloading MNIST.</p>")
        try:
            load_images("mnist", data_dir=self._data_dir)
        except Exception as error:
            return self.complain(error)
        self.refresh()

    def calibrate(self) -> None:
        """Set the bandwidth to where the kernel's values spread most over pairs."""
        try:
            bandwidth = calibrated(self._kernel(), self._angles()[1]).bandwidth
            self.controls["bandwidth"].value = bandwidth
        except Exception as error:  # the same will be said of the picture
            self.complain(error)

    def follow(self, name: str) -> None:
        """Options that the feature map lacks are off."""
        feature_map = self.controls["feature_map"].value
        for option in ("layers", "entangle"):
            self.controls[option].disabled = option not in _options(feature_map)
        scaleless = feature_map == "amplitude"  # a state of length 1 has no size
        self.controls["bandwidth"].disabled = self._rule.disabled = scaleless

    def _angles(self) -> tuple[Samples, Tensor]:
        """The samples of the present menu, and angles ``(n, q)`` of the first n."""
        state, q = self.state, self._kernel().features
        samples = self._samples(state["data"], state["seed"])
        return samples, _encoded(samples, state["n"], q, state["encoder"], state["seed"])

    def _kernel(self) -> QuantumKernel:
        """The kernel of the present controls; options that its feature map lacks stay out."""
        state = self.state
        options = {name: state[name] for name in _options(state["feature_map"])}
        return KINDS[state["kernel"]](
            state["feature_map"], state["qubits"], bandwidth=state["bandwidth"], **options
        )

    def __repr__(self) -> str:
        return super().__repr__().replace(f"data={OWN!r}", "data=(features, labels)")


def _options(feature_map: str) -> set[str]:
    """Which of layers and entangle a feature map has."""
    return {"layers", "entangle"} & set(inspect.signature(FEATURE_MAPS[feature_map]).parameters)


@lru_cache(8)
def _encoded(samples: Samples, n: int, q: int, side: str, seed: int) -> Tensor:
    """Angles ``(n, q)`` of the first n samples; the encoder is fitted on all, and only once."""
    d, shown = samples.features.shape[1], samples.features[:n]
    if d < q:
        return Encoder(q, q, q, "truncate").teacher(shown[:, torch.arange(q) % d])
    kind = next(kind for kind, (name, _) in ENCODERS.items() if name == side)
    return Encoder(d, q, q, kind, seed).fit(samples.features).teacher(shown)


def _code(kernel: QuantumKernel) -> str:
    """The call that makes the kernel."""
    parts = [f"{kernel.feature_map!r}", f"qubits={kernel.qubits}"]
    parts += [f"layers={kernel.layers}"] * (kernel.layers is not None)
    parts += [f"bandwidth={kernel.bandwidth!r}"]
    parts += ["entangle=False"] * (not kernel.entangle)
    return f"ql.{type(kernel).__name__}({', '.join(parts)})"


def sentence(diagnosis: Diagnosis) -> str:
    """Its verdict, with a capital letter."""
    return diagnosis.verdict[0].upper() + diagnosis.verdict[1:]


@lru_cache(16)
def stretched(kernel: QuantumKernel, angles: Tensor) -> tuple[Tensor, float]:
    """The stretched RBF that follows a kernel best on these angles, and its R²."""
    matrix = StretchedRBFKernel.fitted(kernel, angles)(angles)
    with torch.no_grad():
        return matrix, r_squared(kernel(angles), matrix)


def kernel_words(about: str, code: str, fit: float) -> str:
    """What is said of a kernel: a verdict, the fit of a stretched RBF where known, its call."""
    more = f"A stretched RBF, with a metric of its own: R² = {fit:.2f}."
    more = "&nbsp;" if math.isnan(fit) else more  # which keeps the line's room
    return f"<p>{html.escape(about)}<br>{more}</p><p><code>{html.escape(code)}</code></p>"


@lru_cache(64)
def _circuit(feature_map: str, qubits: int, layers: int | None, entangle: bool) -> Picture:
    """The circuit as a picture, or nothing where it would be too wide to read."""
    kernel = FidelityKernel(feature_map, qubits, layers, entangle=entangle)
    if qubits * (kernel.depth or 1) > DRAWN or feature_map == "amplitude":
        return Picture()
    return Picture.of_circuit(kernel)


# ---- samples


SOURCES = ("digits", "two moons", "mnist")
MOST = 2000  # of a large data set; an order that stratifies makes them its fair share


class Samples(NamedTuple):
    """Rows of numbers with a class each, in an order whose every beginning is stratified."""

    name: str
    features: Tensor  # float64 (m, d)
    labels: Tensor  # int64 (m,)
    classes: tuple[str, ...]  # their names, one per class number

    def __repr__(self) -> str:
        m, d = self.features.shape
        return f"Samples({self.name}, {m:,} of {d} numbers in {len(self.classes)} classes)"


def labelled_samples(
    source: str | tuple[ArrayLike, ArrayLike] | ArrayBenchmark,
    data_dir: str | Path | None = None,
    seed: int = 0,
) -> Samples:
    """Samples by name, or of arrays; images are their pixels, from 0 to 1.

    Args:
        source: ``digits``, ``two moons``, ``mnist``, (features ``(m, d)``, labels ``(m,)``), or a
            benchmark of one's own.
        data_dir: folder of MNIST; None: ``$QRKD_DATA_DIR``, else the user's cache.
        seed: of the order, and of the moons.

    Raises:
        ValueError: an unknown name (lists them), or arrays of other shapes or not finite.
        DataError: MNIST is not on this machine (nothing is downloaded).

    Example:
        >>> labelled_samples("two moons")
        Samples(two moons, 512 of 2 numbers in 2 classes)
    """
    most = None
    if isinstance(source, ArrayBenchmark):
        source = (source.train.x, source.train.y)
    if not isinstance(source, str):
        from sklearn.utils import check_X_y
        from sklearn.utils.multiclass import check_classification_targets

        x, labels = check_X_y(
            *source, dtype=np.float64, order="C", allow_nd=True, ensure_min_samples=3
        )
        check_classification_targets(labels)
        x = x.reshape(len(x), -1)
        classes, labels = np.unique(labels, return_inverse=True)  # words too
        source, classes = OWN, map(str, classes.tolist())
    elif source == "two moons":
        from sklearn.datasets import make_moons

        (x, labels), classes = make_moons(512, noise=0.1, random_state=seed), ("0", "1")
    elif source in SOURCES:
        images, most = load_images(source, data_dir=data_dir, download=False), MOST
        x, labels, classes = images.train.pixels.flatten(1), images.train.labels, images.classes
        x = x.double() / 255
    else:
        raise ValueError(
            f"unknown data {source!r}; choose from {', '.join(SOURCES)}, or give a pair of arrays "
            "(features, labels)"
        )
    features, labels = torch.as_tensor(x), torch.as_tensor(labels)
    order = stratified_order(labels, seed)[:most]
    return Samples(source, features[order].double(), labels[order], tuple(classes))
