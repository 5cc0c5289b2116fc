"""Images that are not there: said in words, nothing downloaded, everything else goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from qrkd_lab.teaching.notebooks import (
    Missing,
    if_there,
    images_at_hand,
    study_at_hand,
    what_is_there,
)


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


def test_a_study_needs_images_or_records_and_never_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pooch.retrieve", lambda *a, **k: pytest.fail("the network was used"))
    choices = {"arms": ["kd"], "seeds": 1, "scale": "smoke", "runs_dir": tmp_path / "runs"}
    choices |= {"data_dir": tmp_path, "progress": False, "published": True}
    assert "images of mnist" in repr(study_at_hand("mnist", **choices))  # none is published
    study = study_at_hand("digits", train_size=64, **choices)
    assert [run.settings["arm"] for run in study.runs] == ["teacher", "kd"]


OWN = {"published": True, "progress": False}


def test_records_that_came_with_the_kit_need_no_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pooch.retrieve", lambda *a, **k: pytest.fail("the network was used"))
    for choices in ({"seeds": 2}, {"seeds": [1, 4], "arms": ["rkd", "qrkd"]}, {"arms": "kd"}):
        study = study_at_hand("mnist", data_dir=tmp_path, **OWN | choices)
        assert {run.settings["benchmark"] for run in study.runs} == {"mnist"}


@pytest.mark.parametrize(
    "choices",
    [
        {"published": False},
        {"seeds": 60},
        {"seeds": [999]},
        {"scale": "smoke"},
        {"arms": ["rkd_only"], "seeds": [0, 999]},
        {"arms": ["detached"], "kd_weight": 0.5, "seeds": 1},
        {"epochs": 7, "seeds": 1},
        {"kernel": "rbf", "arms": ["qrkd"], "seeds": 1},
    ],
    ids=str,
)
def test_what_did_not_come_with_the_kit_is_missing_and_is_not_fetched(
    choices: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pooch.retrieve", lambda *a, **k: pytest.fail("the network was used"))
    choices = OWN | {"data_dir": tmp_path, "runs_dir": tmp_path / "runs"} | choices
    assert "images of mnist are not on this machine" in repr(study_at_hand("mnist", **choices))
    assert Missing("no <file>.")._repr_html_().endswith("no &lt;file&gt;.</p>")


def test_what_is_left_out_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert what_is_there({"a": 1, "b": Missing("not here.")}) == {"a": 1}
    assert capsys.readouterr().out == "b is left out: not here.\n"
