"""Studies: what is saved, and against which arm."""

from __future__ import annotations

from pathlib import Path

import pytest

import qrkd_lab as ql
from qrkd_lab.studies.compare import Study
from qrkd_lab.teaching.plots import scores


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("runs")
    return ql.compare("digits", ("kd", "rkd"), 2, "smoke", runs_dir=folder, progress=False)


@pytest.mark.parametrize(("reference", "used"), [(None, "rkd"), ("kd", "kd")])
def test_save_compares_with_the_reference(
    study: Study,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    reference: str | None,
    used: str,
) -> None:
    seen = []
    draw = scores.paired_differences
    monkeypatch.setattr(
        scores, "paired_differences", lambda found: seen.append(found.reference) or draw(found)
    )
    study.save(tmp_path / "out", reference)
    assert seen == [used]
    written = (tmp_path / "out" / "summary.md").read_text(encoding="utf-8")
    assert written == study.summary(used).to_markdown() + "\n"
    names = {"results.csv", "summary.md", "scores.png", "learning_curves.png", "differences.png"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names


def test_an_unknown_reference_is_refused_before_anything_is_written(
    study: Study, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="kd, rkd"):
        study.save(tmp_path / "out", "qrkd")
    assert not (tmp_path / "out").exists()
