"""Labelled samples: shapes, order, and what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from qrkd_lab.data import DataError
from qrkd_lab.teaching.widgets.kernels import labelled_samples


@pytest.mark.parametrize("source, d, classes", [("digits", 64, 10), ("two moons", 2, 2)])
def test_samples_by_name(source, d, classes):
    samples = labelled_samples(source)
    assert samples.features.shape == (len(samples), d) and samples.features.dtype == torch.float64
    assert len(samples.classes) == classes and f"of {d} numbers" in repr(samples)
    assert samples.labels[:classes].unique().numel() == classes, "its beginning is stratified"
    again, other = labelled_samples(source), labelled_samples(source, seed=1)
    assert torch.equal(samples.features, again.features)
    assert not torch.equal(samples.features, other.features)


def test_own_arrays_keep_their_rows_and_names():
    x, y = np.arange(12.0).reshape(6, 2), np.array([7, 7, 7, 3, 3, 3])
    samples = labelled_samples((x, y))
    assert samples.classes == ("3", "7")
    for row, label in zip(samples.features, samples.labels):
        assert samples.classes[label] == str(y[(x == row.numpy()).all(1)][0])


@pytest.mark.parametrize(
    "x, y, said",
    [
        (np.zeros(4), np.zeros(4), "one m >= 3"),
        (np.zeros((2, 2)), np.zeros(2), "one m >= 3"),
        (np.zeros((4, 0)), np.zeros(4), "one m >= 3"),
        (np.full((4, 2), np.nan), np.zeros(4), "not finite"),
        (np.zeros((4, 2)), np.array([0.0, 1.0, np.nan, 0.0]), "no classes"),
        (np.zeros((4, 2)), np.linspace(0, 1, 4), "no classes"),
        (np.zeros((4, 2)), None, "numbers or words"),
        (np.zeros((4, 2), complex), np.zeros(4), "numbers"),
        ("abc", "abc", "numbers"),
    ],
)
def test_arrays_that_cannot_be_used_are_refused(x, y, said):
    with pytest.raises(ValueError, match=said):
        labelled_samples((x, y))


def test_arrays_of_any_make_are_taken():
    x, y = np.arange(12.0).reshape(6, 2)[::-1], ["a", "b"] * 3
    for features in (x, torch.tensor(x.copy()), x.tolist(), x.astype(np.int8)):
        assert labelled_samples((features, y)).classes == ("a", "b")
    labels = pd.Series([1.0, 2.0] * 3, index=range(10, 16))
    assert labelled_samples((pd.DataFrame(x), labels)).classes == ("1.0", "2.0")


def test_names(tmp_path):
    with pytest.raises(ValueError, match="choose from digits, two moons, mnist"):
        labelled_samples("moons")
    with pytest.raises(DataError):
        labelled_samples("mnist", data_dir=tmp_path)
