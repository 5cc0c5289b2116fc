"""Centring, kernel PCA and class blocks against their formulas and scikit-learn."""

from __future__ import annotations

import math

import pytest
import torch
from sklearn.decomposition import KernelPCA
from sklearn.preprocessing import KernelCenterer

from qrkd_lab.kernels.analysis import centred, class_blocks, kernel_pca

X = torch.randn(12, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
K = torch.exp(-(torch.cdist(X, X) ** 2) / 2)


def test_centring_is_hkh():
    H = torch.eye(12, dtype=torch.float64) - 1 / 12
    torch.testing.assert_close(centred(K), H @ K @ H)
    torch.testing.assert_close(centred(K), torch.from_numpy(KernelCenterer().fit_transform(K)))
    assert centred(K).sum(0).abs().max() < 1e-12
    assert centred(K.float()).dtype == torch.float64


def test_kernel_pca_is_scikit_learns():
    scores = kernel_pca(K, 3)
    expected = torch.from_numpy(KernelPCA(3, kernel="precomputed").fit_transform(K.numpy()))
    torch.testing.assert_close(scores.abs(), expected.abs())
    largest = scores.gather(0, scores.abs().argmax(0, keepdim=True))
    assert (largest > 0).all()
    torch.testing.assert_close(kernel_pca(K, 12) @ kernel_pca(K, 12).T, centred(K))


@pytest.mark.parametrize("components", [0, 13])
def test_no_more_components_than_samples(components):
    with pytest.raises(ValueError, match="1 to n = 12"):
        kernel_pca(K, components)


def test_class_blocks_are_means_over_pairs_of_different_samples():
    labels = torch.tensor([7, 2, 2, 5, 7, 7, 5, 2, 2, 5, 7, 2])
    blocks = class_blocks(K, labels)
    for a, one in enumerate((2, 5, 7)):
        for b, other in enumerate((2, 5, 7)):
            values = [
                K[i, j].item()
                for i in range(12)
                for j in range(12)
                if i != j and labels[i] == one and labels[j] == other
            ]
            assert blocks[a, b].item() == pytest.approx(sum(values) / len(values))


def test_a_class_of_one_sample_has_no_pairs():
    blocks = class_blocks(K[:3, :3], torch.tensor([0, 0, 1]))
    assert math.isnan(blocks[1, 1]) and blocks[0, 0] == K[0, 1]


def test_labels_must_fit():
    with pytest.raises(ValueError, match=r"expected \(12,\), got \(3,\)"):
        class_blocks(K, torch.tensor([0, 1, 2]))
