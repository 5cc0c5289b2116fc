"""Labelled samples: shapes, order, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from qrkd_lab.data import DataError
from qrkd_lab.data.samples import labelled_samples


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
        (np.full((4, 2), np.nan), np.zeros(4), "not finite"),
        ("abc", "abc", "numbers"),
    ],
)
def test_arrays_that_cannot_be_used_are_refused(x, y, said):
    with pytest.raises(ValueError, match=said):
        labelled_samples((x, y))


def test_names(tmp_path):
    with pytest.raises(ValueError, match="choose from digits, two moons, mnist"):
        labelled_samples("moons")
    with pytest.raises(DataError):
        labelled_samples("mnist", data_dir=tmp_path)
