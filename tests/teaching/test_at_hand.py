"""Images that are not there: said in words, nothing downloaded, everything else goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from qrkd_lab.teaching.notebooks import Missing, if_there, images_at_hand


def test_what_is_there_is_given() -> None:
    bench = images_at_hand("digits", "smoke", train_size=64)
    assert len(bench.train) == 64
    assert if_there(bench, lambda bench: bench.settings.train_size) == 64


def test_absent_images_are_not_downloaded_but_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pooch.retrieve", lambda *a, **k: pytest.fail("the network was used"))
    bench = images_at_hand("mnist", "smoke", tmp_path)
    assert isinstance(bench, Missing)
    assert "python -m qrkd_lab data mnist" in repr(bench)
    assert "python -m qrkd_lab data mnist" in bench._repr_html_()
    assert if_there(bench, lambda bench: pytest.fail("it was called")) is bench


def test_mistakes_are_not_taken_for_missing_images() -> None:
    with pytest.raises(ValueError, match="ptb is a benchmark of language"):
        images_at_hand("ptb")
    with pytest.raises(ValueError, match="unknown setting"):
        images_at_hand("digits", "smoke", epoks=3)
