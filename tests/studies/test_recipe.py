"""Recipes: the same benchmark elsewhere, or a word on what differs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from qrkd_lab.data import DataError
from qrkd_lab.studies.compare import Recipe, keep, loaded

SMALL = {"train_size": 128, "validation_size": 100}


@pytest.fixture
def recipe():
    recipe = Recipe("digits", "smoke", None, "cpu", SMALL)
    return recipe.settled(recipe.load())


def test_what_a_process_has_loaded_is_kept_until_the_next(recipe):
    first = loaded(recipe)
    assert loaded(recipe) is first
    other = replace(recipe, scale="laptop")
    keep(other, first)
    assert loaded(other) is first
    assert loaded(recipe) is not first


def test_the_same_benchmark_passes_and_another_is_named(recipe):
    recipe.check()
    with pytest.raises(DataError, match="other data of digits: sha256 .*, expected 0000"):
        replace(recipe, sha256="0" * 64).check()
    with pytest.raises(ValueError, match="epochs is 9 there, 1 here"):
        replace(recipe, overrides=SMALL | {"epochs": 9}).check()


def test_a_folder_of_data_that_is_not_there_is_looked_for_elsewhere(recipe, tmp_path):
    assert replace(recipe, data_dir=tmp_path).elsewhere().data_dir == tmp_path
    assert replace(recipe, data_dir=tmp_path / "none").elsewhere().data_dir is None
