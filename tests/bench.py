"""`make bench`: what the documentation says about speed, measured side by side in one run.

Every line is a ratio of two medians whose repetitions alternate, so that whatever else the machine
does meets both sides alike. One thread, unless a line says otherwise. Nothing here is a test.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import json
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pennylane as qp
import torch
import torch.nn.functional as F
from pandas import DataFrame
from torch import Tensor, nn

import qrkd_lab as ql
from qrkd_lab.data import DataError, Images
from qrkd_lab.kernels.statevector import StateVector
from qrkd_lab.losses import TeacherBatch, relation_loss
from qrkd_lab.relations import triplet_angles
from qrkd_lab.studies.group import make_learner
from qrkd_lab.train import Learner

clock = time.perf_counter  # --cpu: the processor's time of this process


@dataclass(frozen=True)
class Row:
    """One measure: seconds of both sides, their ratio, and what it must reach."""

    name: str
    ours: float
    theirs: float
    target: float
    at_most: bool = False  # the ratio is ours / theirs and must not exceed the target

    @property
    def ratio(self) -> float:
        return self.ours / self.theirs if self.at_most else self.theirs / self.ours

    @property
    def reached(self) -> bool:
        return self.ratio <= self.target if self.at_most else self.ratio >= self.target


def alternate(
    ours: Callable[[], object], theirs: Callable[[], object], repeats: int = 15, warm: int = 2
) -> tuple[float, float]:
    """Median seconds of both, their repetitions taking turns."""
    for _ in range(warm):
        ours(), theirs()
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for side, function in zip(times, (ours, theirs), strict=True):
            started = clock()
            function()
            side.append(clock() - started)
    return statistics.median(times[0]), statistics.median(times[1])


def several(function: Callable[[], object], times: int) -> Callable[[], None]:
    """The function called many times, for what is too short to time once."""

    def run() -> None:
        for _ in range(times):
            function()

    return run


def pull(matrix: Callable[[Tensor], Tensor], x: Tensor, weights: Tensor) -> Callable[[], Tensor]:
    """Forward and backward of a weighted sum of a matrix of x."""

    def run() -> Tensor:
        leaf = x.clone().requires_grad_()
        (matrix(leaf) * weights).sum().backward()
        return leaf.grad

    return run


def pennylane_states(circuit: Callable[..., object], qubits: int) -> Callable[[Tensor], Tensor]:
    device = qp.device("default.qubit", wires=qubits)

    @qp.qnode(device, interface="torch", diff_method="backprop")
    def states(x: Tensor) -> Tensor:
        circuit(x, range(qubits))
        return qp.state()

    return states


def squared_modulus(s: Tensor) -> Tensor:
    overlaps = s @ s.mH
    return overlaps.real.square() + overlaps.imag.square()


def kernel_rows() -> list[Row]:
    rows = []
    for n, q, target in ((64, 6, 20), (64, 10, 15), (512, 8, 5)):
        kernel = ql.FidelityKernel("zz", qubits=q, layers=2)
        x, weights = torch.randn(n, q), torch.rand(n, n)
        states = pennylane_states(kernel.circuit, q)
        mine = pull(kernel, x, weights)
        assert torch.allclose(kernel(x), squared_modulus(states(x)).float(), atol=1e-4)
        theirs = pull(lambda a, f=states: squared_modulus(f(a)), x, weights)
        repeats = 9 if n == 64 else 7
        rows.append(
            Row(f"zz kernel with gradient, n={n}, q={q}, against PennyLane's batched state()",
                *alternate(mine, theirs, repeats), target)
        )  # fmt: skip
    state = kernel.states(x).detach()
    product = pull(squared_modulus, state, weights)
    rows.append(
        Row("zz kernel, n=512, q=8, against the product of its states alone",
            *alternate(mine, product, 15), 1.5, at_most=True)
    )  # fmt: skip
    return rows


def product_rows() -> list[Row]:
    """The kernel with its gradient against the least that it needs: the product of the states."""
    rows = []
    for name in ("zz", "iqp", "reuploading"):
        for q, repeats, target in ((8, 101, 2), (10, 51, 2), (12, 25, 2), (14, 9, 2), (16, 3, 2.5)):
            kernel = ql.FidelityKernel(name, qubits=q, layers=2)
            x, weights = torch.randn(64, q), torch.rand(64, 64)
            product = pull(squared_modulus, kernel.states(x).detach(), weights)
            for threads in (1, 2):
                torch.set_num_threads(threads)
                pair = alternate(pull(kernel, x, weights), product, repeats)
                title = f"{name} kernel with gradient, n=64, q={q}, {threads} threads, "
                title += "against the product of its states"
                rows.append(Row(title, *pair, target, at_most=True))
            torch.set_num_threads(1)
    return rows


def reading_rows() -> list[Row]:
    """The first call of a kernel, which reads the circuit, without the time of a later call."""
    rows = []
    for q in (6, 10):
        x, read = torch.randn(64, q), []
        for repeat in range(6):
            simulator = StateVector(ql.FidelityKernel("zz", qubits=q).circuit, q, fixed=True)
            started = clock()
            simulator(x)
            between = clock()
            simulator(x)
            read += [2 * between - started - clock()] if repeat else []
        rows.append(Row(f"reading the zz circuit, q={q}, against 100 ms",
                        statistics.median(read), 0.1, 1, at_most=True))  # fmt: skip
    return rows


def jax_rows() -> list[Row]:
    """The strongest rival, where it is there: ``jax.jit`` of PennyLane's state, compiled."""
    if importlib.util.find_spec("jax") is None:
        print("no jax: its rows are left out", file=sys.stderr)
        return []
    jax = importlib.import_module("jax")  # no dependency, and none of the tests'
    rows = []
    for q, target in ((6, 2), (8, 5), (10, 10)):
        kernel = ql.FidelityKernel("zz", qubits=q, layers=2)
        x, weights = torch.randn(64, q), torch.rand(64, 64)
        device = qp.device("default.qubit", wires=q)
        states = qp.QNode(
            lambda a, f=kernel.circuit: (f(a), qp.state())[1], device, diff_method="backprop"
        )

        def loss(a: Any, w: Any, f: qp.QNode = states) -> Any:  # noqa: ANN401
            overlaps = f(a) @ f(a).conj().T
            return (w * (overlaps.real**2 + overlaps.imag**2)).sum()

        angles, pulls = jax.numpy.asarray(x.numpy()), jax.numpy.asarray(weights.numpy())
        gradient = partial(jax.jit(jax.grad(loss)), angles, pulls)
        mine = pull(kernel, x, weights)
        found = torch.from_numpy(np.array(gradient()))
        assert torch.allclose(mine(), found, atol=1e-3 * found.abs().max().item())
        pair = alternate(mine, lambda g=gradient: g().block_until_ready(), 15)
        rows.append(Row(f"zz kernel with gradient, n=64, q={q}, against jax.jit", *pair, target))
    return rows


def pairwise_row() -> Row:
    kernel = ql.FidelityKernel("zz", qubits=6, layers=2)
    x = torch.randn(64, 6, dtype=torch.float64)
    device = qp.device("default.qubit", wires=6)

    @qp.qnode(device, interface="torch")
    def overlap(a: Tensor, b: Tensor) -> Tensor:
        kernel.circuit(a)
        qp.adjoint(kernel.circuit)(b)
        return qp.probs(wires=range(6))

    started = time.perf_counter()
    theirs = qp.kernels.square_kernel_matrix(
        x, lambda a, b: overlap(a, b)[0], assume_normalized_kernel=True
    )
    once = time.perf_counter() - started
    assert torch.allclose(kernel(x), torch.as_tensor(theirs), atol=1e-8)
    single = x.float()
    ours, _ = alternate(several(lambda: kernel(single), 20), lambda: None, 15)
    return Row("zz kernel forward, n=64, q=6, against qml.kernels.square_kernel_matrix",
               ours / 20, once, 10_000)  # fmt: skip


def usual_angles(x: Tensor) -> Tensor:
    """The usual form: an (n, n, d) tensor of unit differences and a batched product."""
    unit = F.normalize(x[None] - x[:, None], p=2, dim=2)
    return torch.bmm(unit, unit.transpose(1, 2))


def angle_rows() -> list[Row]:
    rows = []
    for n, d, target in ((64, 31, 1), (128, 31, 1), (64, 768, 20), (128, 768, 10)):
        x, y = torch.randn(n, d), torch.randn(n, d)
        goal, usual_goal = triplet_angles(y), usual_angles(y)
        # A turn lasts long enough to be the steady state of a training loop: the other side's large
        # tensors leave cold caches and unmapped memory behind, which the first calls pay for.
        times = max(4, 60_000_000 // (n * n * d))

        def ours(x: Tensor = x, goal: Tensor = goal) -> None:
            leaf = x.clone().requires_grad_()
            relation_loss(triplet_angles(leaf), goal).backward()

        def theirs(x: Tensor = x, goal: Tensor = usual_goal) -> None:
            leaf = x.clone().requires_grad_()
            F.smooth_l1_loss(usual_angles(leaf), goal).backward()

        pair = alternate(several(ours, times), several(theirs, times), 7, warm=1)
        rows.append(Row(f"angle loss with gradient, n={n}, d={d}, against the (n, n, d) form",
                        pair[0] / times, pair[1] / times, target))  # fmt: skip
    return rows


@cache
def mnist() -> ql.Benchmark:
    """MNIST's first 6,400 training images."""
    return ql.load_benchmark("mnist", train_size=6400)


def learner(benchmark: ql.Benchmark, teacher: nn.Module, arm: str, qubits: int = 6) -> Learner:
    settings = benchmark.settings.replace(arm=arm, feature_map="zz", layers=2, qubits=qubits)
    return make_learner(benchmark, settings, teacher)


@torch.no_grad()
def ask(benchmark: ql.Benchmark, teacher: nn.Module, inputs: Tensor) -> TeacherBatch:
    return TeacherBatch(benchmark.outputs(teacher, inputs))


def step_row(qubits: int, target: float) -> Row:
    benchmark, teacher = mnist(), mnist().teacher(0).eval()
    batches = list(benchmark.batches(0, 1, 64))[:20]
    arms = [learner(benchmark, teacher, arm, qubits) for arm in ("qrkd", "rkd")]

    def steps(one: Learner) -> Callable[[], None]:
        def run() -> None:
            for inputs, targets in batches:
                one.step(inputs, targets, ask(benchmark, teacher, inputs))

        return run

    ours, theirs = alternate(steps(arms[0]), steps(arms[1]), 15)
    return Row(f"a qrkd training step against an rkd step, MNIST, batch 64, q={qubits}",
               ours / 20, theirs / 20, target, at_most=True)  # fmt: skip


class PlainCNN(nn.Module):
    """The same network as people write it: contiguous tensors, nothing arranged for speed."""

    def __init__(self, like: nn.Module) -> None:
        super().__init__()
        self.convolutions, self.hidden, self.output = like.convolutions, like.hidden, like.output
        self.to(memory_format=torch.contiguous_format)

    def logits_and_features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.hidden(self.convolutions(x).flatten(1))
        return self.output(features), features


class PerSample(torch.utils.data.Dataset):
    """Images decoded and transformed one by one, as torchvision's data sets do."""

    def __init__(self, images: Images, mean: float, std: float) -> None:
        from torchvision.transforms import Compose, Normalize, ToTensor

        self.images, self.transform = images, Compose([ToTensor(), Normalize([mean], [std])])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        from PIL import Image

        image = Image.fromarray(self.images.pixels[index, 0].numpy(), mode="L")
        return self.transform(image), int(self.images.labels[index])


def epoch_row() -> Row:
    """An epoch's time of one arm, the mean over the four, both ways."""
    benchmark, teacher = mnist(), mnist().teacher(0).eval()
    warnings.filterwarnings("ignore", message=".*mode.*parameter", category=DeprecationWarning)
    names = ("scratch", "kd", "rkd", "qrkd")
    batches = len(benchmark.train) // 64
    together = [learner(benchmark, teacher, arm) for arm in names]

    def side_by_side() -> None:
        for inputs, targets in benchmark.batches(0, 1, 64):
            shared = ask(benchmark, teacher, inputs)
            for one in together:
                one.step(inputs, targets, shared)

    plain_teacher = PlainCNN(copy.deepcopy(teacher))
    dataset = PerSample(benchmark.train, benchmark.data.mean[0], benchmark.data.std[0])
    loader = torch.utils.data.DataLoader(dataset, batch_size=64, shuffle=True)
    apart = [learner(benchmark, teacher, arm) for arm in names]
    models = [PlainCNN(one.model) for one in apart]

    def alone() -> None:
        for one, model in zip(apart, models, strict=True):
            for inputs, targets in loader:
                with torch.no_grad():
                    believed = TeacherBatch(benchmark.outputs(plain_teacher, inputs))
                total = one.loss(benchmark.outputs(model, inputs), believed, targets).total
                one.optimizer.zero_grad()
                total.backward()
                one.optimizer.step()

    ours, theirs = alternate(side_by_side, alone, 3, warm=1)
    scale = 60_000 / (64 * batches * len(names))
    return Row("an MNIST epoch of one arm in a lockstep of 4, against a DataLoader's",
               ours * scale, theirs * scale, 4)  # fmt: skip


def language_rows() -> list[Row]:
    """Lockstep against arm after arm; relations beside kd; loading beside a step."""
    benchmark = ql.load_benchmark("ptb")
    teacher = benchmark.teacher(0).eval()
    names = ("scratch", "kd", "rkd", "qrkd")
    # The kit's own defaults, one learner an arm, on batches that are at hand.
    arms = {arm: make_learner(benchmark, benchmark.settings.replace(arm=arm), teacher)
            for arm in names}  # fmt: skip
    size = benchmark.settings.batch_size
    batches = [pair for pair, _ in zip(benchmark.batches(0, 1, size), range(4), strict=False)]

    def steps(*chosen: str) -> Callable[[], None]:
        def run() -> None:
            for inputs, targets in batches:
                asked = any(arms[arm].distils for arm in chosen)
                shared = ask(benchmark, teacher, inputs) if asked else None
                for arm in chosen:
                    arms[arm].step(inputs, targets, shared)

        return run

    def one_after_the_other() -> None:
        for arm in names:
            steps(arm)()

    lockstep, apart = alternate(steps(*names), one_after_the_other, 7, warm=1)
    rows = [Row("4 arms of GPT-2 in lockstep, PTB laptop, against one after the other",
                lockstep, apart, 0.6, at_most=True)]  # fmt: skip
    for arm in ("rkd", "qrkd"):
        ours, theirs = alternate(steps(arm), steps("kd"), 9, warm=1)
        rows.append(Row(f"a GPT-2 {arm} step against a kd step, PTB laptop", ours, theirs, 1.1,
                        at_most=True))  # fmt: skip
    drawn = several(lambda: next(benchmark.batches(0, 1, size)), 20)
    loading, step = alternate(drawn, steps("kd"), 7, warm=1)
    rows.append(Row("loading a batch of text against a kd step", loading / 20, step / len(batches),
                    0.02, at_most=True))  # fmt: skip
    return rows


def table(rows: list[Row]) -> str:
    lines = {
        row.name: {
            "ours": f"{1e3 * row.ours:,.2f} ms",
            "theirs": f"{1e3 * row.theirs:,.2f} ms",
            "ratio": f"{row.ratio:,.2f}",
            "must reach": f"{'<=' if row.at_most else '>='} {row.target:g}",
            "": "ok" if row.reached else "SHORT",
        }
        for row in rows
    }
    return DataFrame.from_dict(lines, orient="index").to_string()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the numbers to this file too")
    parser.add_argument("--only", default="", help="rows whose section has this in its name")
    helped = "seconds of this process on the processor, for a busy machine and one process's rows"
    parser.add_argument("--cpu", action="store_true", help=helped)
    arguments = parser.parse_args()
    if arguments.cpu:
        global clock
        clock = time.process_time
    torch.manual_seed(0)
    torch.set_num_threads(1)
    sections = {
        "kernel": kernel_rows,
        "product": product_rows,
        "reading": reading_rows,
        "jax": jax_rows,
        "pairwise": lambda: [pairwise_row()],
        "step": lambda: [step_row(6, 1.1), step_row(10, 1.5)],
        "angle": angle_rows,
        "epoch": lambda: [epoch_row()],
        "language": language_rows,
    }
    rows: list[Row] = []
    for name, section in sections.items():
        if arguments.only in name:
            print(f"measuring {name} ...", file=sys.stderr)
            try:
                rows += section()
            except DataError as error:
                print(f"left out: {error}", file=sys.stderr)
    print(f"{platform.machine()}, {torch.get_num_threads()} thread, torch {torch.__version__}, "
          f"PennyLane {qp.__version__}, {torch.backends.cpu.get_cpu_capability()}")  # fmt: skip
    print(table(rows))
    if arguments.json:
        arguments.json.write_text(json.dumps([vars(row) for row in rows], indent=1))


if __name__ == "__main__":
    main()
