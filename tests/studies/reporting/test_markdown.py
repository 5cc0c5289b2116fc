"""Markdown: tables drop what is empty, words and numbers keep their sides."""

from __future__ import annotations

import math

from qrkd_lab.studies.report import count, figure, listed, ranged, signed, table


def test_a_table_leaves_out_empty_columns_and_escapes_bars():
    rows = [["a|b", "", "+1.0", "none, 2 %"], ["c", "", "**3**", "better"]]
    lines = table(["arm", "gone", "number", "word"], rows).splitlines()
    assert lines[0] == "| arm | number | word |"
    assert lines[1] == "| :-- | --: | :-- |"
    assert lines[2] == "| a\\|b | +1.0 | none, 2 % |"


def test_names_and_counts_in_words():
    assert [listed(list("abc")[:n]) for n in range(4)] == ["", "a", "a and b", "a, b and c"]
    assert (count(1, "seed"), count(12000, "seed")) == ("1 seed", "12,000 seeds")


def test_a_difference_shows_its_sign_but_not_that_of_nothing():
    said = [signed(x) for x in (0.123, -0.126, -0.001, math.nan)]
    assert said == ["+0.12", "-0.13", "0.00", ""]
    assert ranged(-0.5, 0.25) == "[-0.50, +0.25]"
    assert ranged(0.5, 0.75, plus=False) == "[0.50, 0.75]"
    assert ranged(math.nan, 1.0) == ranged(0.0, math.nan) == ""


def test_brackets_in_a_description_do_not_end_it():
    assert figure("all", "a [b] c") == "![a (b) c](figures/all.png)"
