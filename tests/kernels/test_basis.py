"""The basis axis against what bits written out and whole matrices say."""

from __future__ import annotations

from functools import reduce
from itertools import product

import numpy as np
import pytest
import torch

from qrkd_lab.kernels.statevector import (
    Rotate,
    kron,
    local_index,
    matmul,
    on_neighbours,
    on_wires,
    replaced,
)

BITS = list(product((0, 1), repeat=4))  # of every basis state of four qubits, in order


def number(bits) -> int:
    return int("".join(map(str, bits)), 2)


def random(*shape: int, dtype: torch.dtype = torch.complex128, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("wires", [(0,), (3,), (1, 2), (2, 0), (3, 0, 1)])
def test_local_index_reads_the_bits_on_the_wires(wires):
    expected = [number(bits[wire] for wire in wires) for bits in BITS]
    assert local_index(wires, 4).tolist() == expected


@pytest.mark.parametrize("wires", [(1,), (0, 3), (3, 1), (2, 0, 1)])
def test_replaced_writes_the_bits_on_the_wires(wires):
    came_from = np.random.default_rng(0).permutation(2 ** len(wires))
    expected = []
    for bits in BITS:
        new = list(bits)
        local = came_from[number(bits[wire] for wire in wires)]
        for wire, bit in zip(wires, format(local, f"0{len(wires)}b"), strict=True):
            new[wire] = int(bit)
        expected.append(number(new))
    assert replaced(wires, 4, came_from).tolist() == expected


@pytest.mark.parametrize("shapes", [((2, 2), (4, 4)), ((3, 2, 2), (2, 2)), ((3, 2, 2), (3, 4, 4))])
def test_kron_of_batches_is_torchs_kron_of_each(shapes):
    a, b = random(*shapes[0]), random(*shapes[1], seed=1)
    found = kron(a, b).expand(3, -1, -1)
    for i in range(3):
        one, other = (m[i] if m.ndim == 3 else m for m in (a, b))
        torch.testing.assert_close(found[i], torch.kron(one, other))


def test_matmul_of_real_and_complex():
    a, b = random(2, 3), random(3, 2, dtype=torch.float64)
    torch.testing.assert_close(matmul(a, b), a @ b.to(a.dtype))
    assert matmul(b, b.mT).dtype == torch.float64


@pytest.mark.parametrize("batch", [(), (3,)])
@pytest.mark.parametrize("group", [(0, 4), (0, 2), (1, 3), (3, 4)])
def test_a_matrix_on_neighbours_is_the_whole_matrix(group, batch):
    first, end = group
    matrix, state = random(*batch, 2 ** (end - first), 2 ** (end - first)), random(3, 16, seed=1)
    identity = [torch.eye(2**size, dtype=torch.complex128) for size in (first, 4 - end)]
    whole = reduce(kron, (identity[0], matrix, identity[1]))
    expected = (whole @ state[..., None])[..., 0]
    torch.testing.assert_close(on_neighbours(matrix, state, group, 4), expected)
    torch.testing.assert_close(on_wires(matrix, state, range(first, end), 4), expected)


def test_a_matrix_on_any_wires_is_their_permutation_of_neighbours():
    matrix, state = random(8, 8), random(2, 16, seed=1)
    wires = (3, 0, 2)
    swapped = [number(bits[wire] for wire in (*wires, 1)) for bits in BITS]  # old index -> new
    turned = torch.empty_like(state)
    turned[:, swapped] = state
    expected = on_neighbours(matrix, turned, (0, 3), 4)[:, swapped]
    torch.testing.assert_close(on_wires(matrix, state, wires, 4), expected)


@pytest.mark.parametrize("n", [1, 3])
def test_rotate_is_a_product_with_a_phase_forwards_and_back(n):
    def rotate(state: torch.Tensor, phase: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            factor = torch.complex(phase.cos(), phase.sin())
        return Rotate.apply(state, phase, factor)

    state, phase = random(n, 4).requires_grad_(), random(3, 4, dtype=torch.float64).requires_grad_()
    torch.testing.assert_close(rotate(state, phase), state * torch.exp(1j * phase))
    assert torch.autograd.gradcheck(rotate, (state, phase))
