"""The report: every number is that of the records, nothing is missing in silence."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from qrkd_lab.cli import main
from qrkd_lab.files import RecordError
from qrkd_lab.studies.arms import ARMS
from qrkd_lab.studies.records import PUBLISHED
from qrkd_lab.studies.report import compose, report_on
from qrkd_lab.studies.tune import Trial, TuningHistory
from tests.hazards import disk_that_ends
from tests.studies.made_runs import keep, made_run

RKD = (0.90, 0.92, 0.93, 0.95)
BETTER = (0.92, 0.95, 0.95, 0.976)  # than RKD, on every seed
WORSE = (0.88, 0.89, 0.91, 0.92)
SAME = (0.91, 0.91, 0.94, 0.94)
OTHERS = (
    "qrkd_iqp", "rbf", "stretched_rbf", "cosine", "projected", "no_entanglement", "shuffled",
    "random_teacher",
)  # fmt: skip
GRID = (0.1, 1.0, 10.0)


def made_runs(benchmark="mnist", aligned=(), **arms):
    """The runs of a study: a score per seed for each arm; texts have 100 / score as perplexity."""
    found, text = [], benchmark in ("ptb", "imdb", "wikitext2")
    name = "test_perplexity" if text else "test_accuracy"
    for arm, scores in arms.items():
        for seed, score in enumerate(scores):
            metrics = {name: 100 / score if text else score}
            if arm in dict(aligned):
                metrics["kernel_alignment"] = dict(aligned)[arm][seed]
            metric = {"name": name, "higher_is_better": not text}
            found.append(replace(made_run(arm, seed, benchmark), metrics=metrics, metric=metric))
    return found


def made_trace(scores=None, benchmark="mnist"):
    scores = scores or {"kd": (0.5, 0.7, 0.6), "rkd": (0.5, 0.7, 0.6), "qrkd": (0.6, None, 0.8)}
    trials = [
        Trial("kernel" if arm == "qrkd" else arm, arm, weight, seed, score, 1.0)
        for arm, row in scores.items()
        for weight, score in zip(GRID, row, strict=False)
        for seed in (0, 1)
    ]
    trials += [Trial("kernel", "rkd", 1.0, seed, 0.65, 1.0) for seed in (0, 1)]  # without a kernel
    data = {"name": benchmark, "source": "here", "sha256": "ab"}
    asked = (benchmark, "smoke", "validation_accuracy", True, GRID, 1, 4)
    return TuningHistory(*asked, tuple(trials), data, {"torch": "2"}, "cpu")


def text_of(*runs, **options):
    text = compose(sum(runs, []), "make all", **options).markdown
    assert "nan" not in text.replace("entanglement", "")
    return text


def tables(text):
    """Every table as a list of rows, each a dict from head to cell."""
    found = []
    for block in re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE):
        rows = [
            [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            for line in block.splitlines()
        ]
        found.append([dict(zip(rows[0], row, strict=True)) for row in rows[2:]])
    return found


def part(text, title):
    return text.split(f"<summary>{title}</summary>")[1].split("</details>")[0]


@pytest.fixture(scope="module")
def whole():
    """Two benchmarks; all arms on the first."""
    arms = dict.fromkeys(ARMS, SAME) | {"rkd": RKD, "detached": RKD, "teacher": BETTER}
    return compose(
        made_runs(**arms, aligned={"rkd": RKD, "qrkd": BETTER})
        + made_runs("ptb", rkd=RKD, qrkd=BETTER, rbf=SAME[:2]),
        "make all",
        [made_trace()],
    )


def test_the_committed_report_is_that_of_the_committed_records():
    text = (PUBLISHED / "report.md").read_text(encoding="utf-8")
    found = report_on()
    assert found.markdown == text, "make it again by python -m qrkd_lab report"
    page = (PUBLISHED / "report.html").read_text(encoding="utf-8")
    bare = re.compile(r'src="data:[^"]*"')  # fonts differ from machine to machine
    assert bare.sub("", found.html) == bare.sub("", page)
    assert set(found.figures) <= {each.stem for each in (PUBLISHED / "figures").glob("*.png")}
    assert (PUBLISHED / "report.html").stat().st_size < 300_000


@pytest.mark.parametrize(
    ("first", "second", "holds", "counts"),
    [
        (BETTER, BETTER, "holds", (2, 0, 0)),
        (BETTER, SAME, "is not confirmed", (1, 0, 1)),
        (BETTER, WORSE, "does not hold", (1, 1, 0)),
        (SAME, RKD[:2], "is not confirmed", (0, 0, 2)),  # too few seeds for a test
        (tuple(s + 0.01 for s in RKD), SAME, "is not confirmed", (0, 0, 2)),  # no spread
    ],
)
def test_the_verdict_counts_the_benchmarks(first, second, holds, counts):
    text = text_of(made_runs(rkd=RKD, qrkd=first), made_runs("ptb", rkd=RKD, qrkd=second))
    said = re.search(r"\*\*The claim (.*?): of 2 .* on (\d) .* on (\d); on (\d) ", text)
    assert said.groups() == (holds, *map(str, counts))


def test_digits_are_no_part_of_the_claim():
    text = text_of(made_runs("digits", rkd=RKD, qrkd=BETTER), made_runs(rkd=RKD, qrkd=SAME))
    assert "of 1 benchmarks, `qrkd` is better than `rkd` on 0" in text
    assert "| digits (practice, not counted) |" in text


def test_every_control_is_compared_with_qrkd(whole):
    rows = {row["qrkd against"]: row for row in tables(whole.markdown)[1]}
    assert list(rows) == [f"`{arm}`" for arm in ("rkd", *OTHERS)]
    assert rows["`rkd`"]["ptb"].startswith("**+") and rows["`rkd`"]["mnist"].startswith("+0.00")
    assert rows["`rbf`"]["ptb"].count("[") == 0, "two seeds have no interval"
    assert all(row["mnist"].count("[") == 1 for row in rows.values() if row["mnist"])
    assert "Of 9 comparisons of `qrkd` with a control, it is better in 0" in whole.markdown
    assert "did in 4 of 4 runs" in whole.markdown
    gains = made_runs(rkd=RKD, qrkd=BETTER, rbf=BETTER, shuffled=RKD)
    assert "it is better in 1 and worse in 0; in 1 these" in text_of(gains)


@pytest.mark.parametrize(
    "runs",
    [made_runs(scratch=RKD), [*made_runs(rkd=RKD[:2]), *made_runs(qrkd=SAME)[2:]]],
)
def test_without_a_seed_of_both_arms_there_is_no_answer(runs):
    found = compose(runs, "make all")
    assert "The claim has no answer" in found.markdown and not found.figures
    assert "| mnist " in found.markdown and found.html


def test_what_is_missing_is_named(whole):
    missing = whole.markdown.split("## Missing")[1].split("## Limits")[0]
    absent = ", ".join(f"`{arm}`" for arm in ("teacher", "scratch", "kd", "rkd_only"))
    assert f"- ptb has no {absent}, `qrkd_iqp`" in missing and "mnist" not in missing
    assert "- ptb: `rbf` lacks seed 2, 3." in missing and "Not all" not in whole.markdown
    text = text_of(made_runs(rkd=RKD, qrkd=SAME), missing=["ptb: 3 of the 3 runs"])
    assert text.index("Not all that was asked for is here") < text.index("The claim under test")
    assert "- ptb: 3 of the 3 runs\n" in text
    assert "Nothing: all" in text_of(made_runs(rkd=RKD, qrkd=SAME))


def test_the_weights_and_every_candidate():
    runs = made_runs("digits", scratch=RKD, kd=RKD, rkd=RKD, qrkd=RKD)
    text = text_of(runs, made_runs("ptb", rkd=RKD), tunings=[made_trace(benchmark="digits")])
    used, tried = tables(part(text, "The weights, and how they were tuned"))
    used = {row["arm"]: row["digits"] for row in used}
    assert used == {"kd": "0.3 (1)", "rkd": "1", "qrkd": "1 (10)"}, "in brackets: the search's"
    tried = {row["arm"]: row for row in tried}
    assert tried["kd"] == {"arm": "kd", "seeds": "2", "0.1": "50.00", "1": "**70.00**",
                           "10": "60.00"}  # fmt: skip
    assert tried["qrkd"]["1"] == "diverged" and tried["qrkd"]["10"] == "**80.00**"
    limits = text.split("## Limits")[1].split("## Every")[0]
    assert "No search for its own weights is recorded for ptb." in limits
    assert "digits: the weights were chosen on seeds of the study, 0, 1." in limits
    assert "digits: the best may lie beyond the weights tried for qrkd." in limits


def test_what_ran_can_be_repeated_and_what_differs_is_counted():
    runs = made_runs(teacher=RKD, rkd=RKD, kd=RKD)
    runs[0] = replace(runs[0], device="cuda", versions={"torch": "2.1", "cpu": "AVX2"})
    runs += [made_run("rbf", seed, "mnist", kernel_weight=3.0) for seed in range(4)]
    found = part(text_of(runs), "What ran: data, commands, versions")
    assert "`rbf` --set kernel_weight=3.0" in found
    assert "- device: cpu (15), cuda (1)" in found and "- torch: 2.0.0 (15), 2.1 (1)" in found
    assert "    make all\n" in found and "16 records, finished from 2026-01-01 to 2026-" in found


def test_the_order_of_the_runs_does_not_matter(tmp_path):
    runs = made_runs("ptb", rkd=RKD, qrkd=SAME) + made_runs(shuffled=SAME, rkd=RKD, qrkd=BETTER)
    path = compose(runs, "make all", [made_trace()]).save(tmp_path / "new")
    assert path == tmp_path / "new" / "report.md"
    assert path.read_text(encoding="utf-8") == text_of(runs[::-1], tunings=[made_trace()])
    assert [each.name for each in (path.parent / "figures").iterdir()] == ["improvements.png"]


class Tags(HTMLParser):
    """Every start tag with its attributes."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def of(self, name):
        return [attributes for tag, attributes in self.found if tag == name]


def test_the_page_is_whole_and_can_be_read_without_eyes_mouse_or_script(whole):
    tags = Tags(whole.html)
    assert tags.of("html") == [{"lang": "en"}] and not tags.of("script") and not tags.of("link")
    (image,) = tags.of("img")
    assert image["src"].startswith("data:image/png;base64,")
    assert image["alt"] == whole.figures["improvements"].alt
    assert len(tags.of("details")) == whole.markdown.count("<details>") == 4
    assert any(head.get("scope") == "row" for head in tags.of("th"))
    assert len(tags.of("table")) == len([div for div in tags.of("div") if "tabindex" in div])


def test_what_records_say_is_not_markup():
    runs = made_runs(rkd=RKD)
    data = {**runs[0].data, "source": "a <b>bold</b> | source"}
    runs[0] = replace(runs[0], data=data, device="<i>cpu</i>")
    page = compose(runs, "<u>make</u>", missing=["<s>this</s>"]).html
    assert not {"b", "i", "u", "s"} & {tag for tag, _ in Tags(page).found}
    assert "a &lt;b&gt;bold&lt;/b&gt; | source" in page


def test_the_command_finds_records_and_searches_and_leaves_exercises_out(tmp_path, capsys):
    runs = made_runs(rkd=RKD, qrkd=SAME)
    keep(tmp_path, *runs, *[made_run("qrkd", s, "mnist", kernel_weight=3.0) for s in (0, 7)])
    keep(tmp_path, *made_runs("ptb", rkd=RKD))
    made_trace().save(tmp_path)
    asked = ["report", "mnist", "--runs-dir", str(tmp_path), "--scale", "smoke"]
    assert main([*asked, "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "out" / "report.md")
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "ptb" not in text and "mnist: mean validation accuracy by weight (bold" in text
    assert f"python -m qrkd_lab report mnist --runs-dir {tmp_path} --scale smoke" in text
    assert "- Left out, as not of the default settings: 2 records of mnist." in text
    assert "from 8 records" in text and tables(text)[0] == tables(text_of(runs))[0]


def test_what_is_not_there_or_damaged_is_said(tmp_path):
    with pytest.raises(ValueError, match="no records of any benchmark at scale laptop"):
        report_on(tmp_path)
    with pytest.raises(ValueError, match="unknown scale 'smok'; choose from smoke, laptop, paper"):
        report_on(tmp_path, scale="smok")
    keep(tmp_path, *made_runs(rkd=RKD, qrkd=SAME))
    with pytest.raises(ValueError, match="no records of ptb at scale smoke"):
        report_on(tmp_path, ["mnist", "ptb"], "smoke")
    trace = made_trace().save(tmp_path)
    trace.write_text(trace.read_text().replace("here", "there"))
    cut = next(tmp_path.glob("mnist/smoke/qrkd-seed1-*/record.json"))
    cut.write_text(cut.read_text()[:100])
    with pytest.warns(UserWarning) as warned:
        text = report_on(tmp_path, scale="smoke").markdown
    said = "\n".join(str(each.message) for each in warned)
    assert "left out of the report: " in said and "left out of the results" in said
    assert "Not all that was asked for is here" in text and f"- {trace} was edited" in text
    assert f"- {cut.parent} is damaged: record.json cannot be read" in text


def test_what_cannot_be_reported_is_refused(tmp_path):
    runs = made_runs(rkd=RKD, qrkd=SAME)
    with pytest.raises(ValueError, match="at least one record"):
        compose([], "make all")
    with pytest.raises(ValueError, match="expected one run of rkd seed 0, got 2"):
        compose([*runs, runs[0]], "make all")
    with pytest.raises(ValueError, match="expected one scale, got laptop, smoke"):
        compose([*runs, made_run("rkd", 7, "mnist", scale="laptop")], "make all")
    with disk_that_ends(0), pytest.raises(RecordError, match="No space left on device. Make room"):
        compose(runs, "make all").save(tmp_path / "out")
