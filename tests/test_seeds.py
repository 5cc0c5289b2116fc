"""Which seeds a study has."""

from __future__ import annotations

import pytest

from qrkd_lab.seeds import which_seeds


def test_a_count_or_a_list():
    assert which_seeds(3) == [0, 1, 2]
    assert which_seeds(3, first=7) == [7, 8, 9]
    assert which_seeds([4, 1], first=7) == which_seeds(iter((4, 1))) == [4, 1]


@pytest.mark.parametrize("seeds", [0, -1, 1.5, [], [1, 1], [-1], ["a"]])
def test_what_cannot_be_stops(seeds):
    with pytest.raises(ValueError, match="expected a count >= 1, or different whole numbers"):
        which_seeds(seeds)
