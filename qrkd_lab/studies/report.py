"""The report on a study: what its records say about the claim, as Markdown and as one HTML page."""

from __future__ import annotations

import base64
import io
import math
import os
import re
import shlex
import string
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import mistune
import pandas as pd
from matplotlib.figure import Figure

from qrkd_lab.files import RecordError, expanded, write_file, writing
from qrkd_lab.studies import summary
from qrkd_lab.studies.arms import ARMS, BENCHMARKS, TEACHER, TUNED, check_scale
from qrkd_lab.studies.compare import Study
from qrkd_lab.studies.provenance import exact, one_kind, set_words
from qrkd_lab.studies.records import PUBLISHED, Run, read_runs
from qrkd_lab.studies.statistics import FEWEST, equivalence, p_in_words, together
from qrkd_lab.studies.tune import FILE, TuningHistory, read_tuning

__all__ = ["MARGIN", "Report", "compose", "image", "report_on", "sort_runs", "verdict"]

HERE = Path(__file__)  # the templates lie beside
ARM, REFERENCE = "qrkd", "rkd"  # the claim is about these two
CHECK = "detached"  # must end where the reference does, bit for bit
MARGIN = 0.5  # per cent of the reference's score: the smallest difference of interest
OWN = {"kd": "kd_weight", "rkd": "distance_weight"}  # an arm's tuned weight; else the kernel's
# What mistune does not write: folded parts, names of rows, tables that scroll by themselves.
MARKUP = {
    r"<p>&lt;details&gt;&lt;summary&gt;(.*?)&lt;.*?</p>": r"<details><summary>\1</summary>",
    r"<p>&lt;/details&gt;</p>": "</details>",
    r"<tr>\s*<td(.*?)</td>": r'<tr><th scope="row"\1</th>',
    r"<table>": '<div role="region" aria-label="Table" tabindex="0"><table>',
    r"</table>": "</table></div>",
}
Studies = Mapping[str, Study]


@dataclass(frozen=True, repr=False)
class Report:
    """A report that is not written yet; ``markdown`` refers to ``figures`` as figures/NAME.png."""

    markdown: str
    figures: Mapping[str, Figure]

    @property
    def html(self) -> str:
        """One page that needs nothing but itself; what records say is text in it, not markup."""
        body = mistune.create_markdown(escape=True, plugins=["table"])(self.markdown)
        for old, new in MARKUP.items():
            body = re.sub(old, new, body)
        for name, figure in self.figures.items():
            data = base64.b64encode(_png(figure)).decode()
            body = body.replace(f"figures/{name}.png", f"data:image/png;base64,{data}")
        title = self.markdown.partition("\n")[0].removeprefix("# ")
        page = string.Template(HERE.with_suffix(".html").read_text("utf-8"))
        return page.substitute(title=title, body=body)

    def save(self, folder: str | os.PathLike[str], name: str = "report") -> Path:
        """Write ``NAME.md``, ``NAME.html`` and ``figures/`` into a folder; returns the first."""
        place = expanded(folder)
        with writing(f"the report in {place}", "out"):
            for label, figure in self.figures.items():
                write_file(place / "figures" / f"{label}.png", _png(figure))
            write_file(place / f"{name}.html", self.html.encode())
            write_file(place / f"{name}.md", self.markdown.encode())
        return place / f"{name}.md"


def image(name: str, alt: str) -> str:
    """A figure of a report, with what it shows in words, as Markdown."""
    return f"![{alt.replace('[', '(').replace(']', ')')}](figures/{name}.png)"


def _png(figure: Figure) -> bytes:
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=120)
    return drawn.getvalue()


def compose(
    runs: Iterable[Run],
    command: str,
    tunings: Sequence[TuningHistory] = (),
    left_out: Sequence[Run] = (),
    missing: Sequence[str] = (),
) -> Report:
    """The report on some records of one scale, an arm and seed once, written by a command.

    ``left_out`` are runs beside them with other settings; ``missing`` says in words what was asked
    for and is not among the runs.
    """
    studies = sort_runs(runs)
    if not studies:
        raise ValueError("expected at least one record to report on, got none: train some first")
    found, figures = _answer(studies)
    histories = {history.benchmark: history for history in tunings if history.benchmark in studies}
    found |= _controls(studies) | _weights(studies, histories) | _what_ran(studies)
    found |= {
        "command": command, "margin": f"{MARGIN:g}",
        "incomplete": "Not all that was asked for is here: see *Missing*." if missing else "",
        "missing": _missing(studies, left_out, missing),
        "arms": "\n\n".join(_all_arms(name, study) for name, study in studies.items()),
    }  # fmt: skip
    text = string.Template(HERE.with_suffix(".md").read_text("utf-8")).substitute(found)
    return Report(re.sub(r"\n{3,}", "\n\n", text), figures)


def report_on(
    root: str | os.PathLike[str] = PUBLISHED, benchmarks: Sequence[str] = (), scale: str = "laptop"
) -> Report:
    """The report on the records and tunings of some benchmarks (none: all) under a folder.

    Of several records of an arm and seed the one with the benchmark's own settings counts; the
    others, and records and tunings that are damaged or cannot be read, are left out and named.
    Raises ValueError where a benchmark has no records, or none or several that count.
    """
    check_scale(scale)
    root, damaged, tunings = expanded(root), [], []
    each = (read_runs(root, n, scale, False, damaged) for n in dict.fromkeys(benchmarks) or (None,))
    runs = [run for held in each for run in held]
    found = dict.fromkeys(run.settings["benchmark"] for run in runs)
    lacking = [name for name in benchmarks if name not in found]
    if lacking or not runs:
        raise ValueError(
            f"no records of {', '.join(lacking) or 'any benchmark'} at scale {scale} in "
            f"{os.fspath(root)}: train some with python -m qrkd_lab compare, or name another "
            "--runs-dir"
        )
    for place in (Path(root, name, scale) for name in found):
        if os.path.lexists(place / FILE):
            try:
                tunings.append(read_tuning(place))
            except RecordError as error:
                warnings.warn(f"left out of the report: {error}", stacklevel=2)
                damaged.append(str(error))
    options = [] if root == PUBLISHED else ["--runs-dir", os.fspath(root)]
    options += [] if scale == "laptop" else ["--scale", scale]
    command = shlex.join(["python", "-m", "qrkd_lab", "report", *benchmarks, *options])
    kept, left_out = one_kind(runs)
    return compose(kept, command, tunings, left_out, missing=damaged)


def sort_runs(runs: Iterable[Run]) -> dict[str, Study]:
    """Benchmark to its study, benchmarks and arms in the kit's order, then others by name."""
    known = {name: place for place, name in enumerate([*BENCHMARKS, TEACHER, *ARMS])}

    def place(run: Run) -> tuple[int | str, ...]:
        names = (run.settings["benchmark"], run.settings["arm"])
        ranks = (rank for name in names for rank in (known.get(name, len(known)), name))
        return *ranks, run.settings["seed"], run.key

    grouped = groupby(sorted(runs, key=place), lambda run: run.settings["benchmark"])
    return {name: Study(tuple(held)) for name, held in grouped}


def verdict(row: pd.Series) -> str:
    """``better``, ``worse`` or, as the seeds cannot tell, ``open``: of ``improvement_table``."""
    sure = row["p_adjusted"] < summary.LEVEL
    return ("better" if row["improvement"] > 0 else "worse") if sure else "open"


def _asked(studies: Studies, arm: str, other: str) -> dict[str, Study]:
    """The studies that have a seed of both arms."""
    seeds = {name: s.results.groupby("arm")["seed"].agg(set) for name, s in studies.items()}
    return {n: studies[n] for n, of in seeds.items() if of.get(arm, set()) & of.get(other, set())}


def _answer(studies: Studies) -> tuple[dict[str, object], dict[str, Figure]]:
    """The verdict in one sentence, the figure, and a line per benchmark."""
    from qrkd_lab.teaching.plots.scores import improvements

    asked = _asked(studies, ARM, REFERENCE)
    if not asked:
        holds = f"has no answer: no benchmark has a seed of both `{ARM}` and `{REFERENCE}`"
        return {"holds": holds, "figure": "", "table": ""} | _counts([]), {}
    table, family = summary.improvement_table(asked), summary.counted(asked)
    said = list(table.loc[family].apply(verdict, axis=1))
    holds = "does not hold" if "worse" in said else "is not confirmed"
    holds = "holds" if set(said) == {"better"} else holds
    gains = summary.seed_improvements(asked)
    tested = {n: equivalence(d, MARGIN) for n, d in gains.items() if len(d) >= FEWEST}
    tested |= together({name: tested[name] for name in family if name in tested})
    rows = []
    for name, row in table.iterrows():
        factor, unit = summary.units(row["metric"])
        most = row["joint_high"] * (row["reference"] / 100 * factor if unit else 1)
        what = row["metric"].removeprefix("test_").replace("_", " ")
        rows.append({
            "benchmark": name if name in family else f"{name} (practice, not counted)",
            "seeds": str(row["seeds"]), REFERENCE: f"{row['reference'] * factor:.2f}{unit} {what}",
            f"{ARM} minus {REFERENCE}": summary.in_own_unit(row), "better by, %": _ranged(row),
            "p (Holm)": p_in_words(row["p_adjusted"]),
            "smallest visible, %": _known(row["smallest"]),
            "excluded above": _known(most, " points" if unit else " %"),
            f"within ±{MARGIN:g} %": tested[name].verdict if name in tested else "",
        })  # fmt: skip
    chart = improvements(asked)
    figure = image("improvements", chart.alt)
    found = {"holds": holds, "figure": figure, "table": summary.markdown_table(rows)}
    return found | _counts(said), {"improvements": chart}


def _counts(said: Sequence[str], of: str = "") -> dict[str, int]:
    counts = {word: said.count(word) for word in ("better", "worse", "open")}
    return {of + word: number for word, number in (counts | {"all": len(said)}).items()}


def _controls(studies: Studies) -> dict[str, object]:
    """Is a gain due to the quantum kernel? A row per control, a column per benchmark."""
    arms = summary.order_arms(arm for study in studies.values() for arm in study.results["arm"])
    rows, said = [], []
    for other in (REFERENCE, *(arm for arm in arms if arm in TUNED and arm != ARM)):
        if asked := _asked(studies, ARM, other):
            table = summary.improvement_table(asked, ARM, other)
            found = table.apply(verdict, axis=1)
            said += list(found[summary.counted(asked)]) if other != REFERENCE else []
            row = {f"{ARM} against": f"`{other}`", "which is": ARMS[other].meaning}
            for name in studies:
                cell = _ranged(table.loc[name]) if name in found else ""
                row[name] = f"**{cell}**" if found.get(name, "open") != "open" else cell
            rows.append(row)
    held = _asked(studies, CHECK, REFERENCE).values()
    same = [gain == 0 for s in held for gain in s.summary(REFERENCE).gains(CHECK)]
    found = {"controls": summary.markdown_table(rows), "same": sum(same), "checked": len(same)}
    return found | _counts(said, "control_")


def _missing(studies: Studies, left_out: Sequence[Run], missing: Sequence[str]) -> str:
    """What was asked for and is not there, and what some arms have and others lack."""
    every = summary.order_arms(arm for study in studies.values() for arm in study.results["arm"])
    lines = list(missing)
    for name, study in studies.items():
        seeds = study.results.groupby("arm", sort=False)["seed"].agg(set)
        lines += _list(f"{name} has no", [f"`{arm}`" for arm in every if arm not in seeds])
        for arm, held in seeds.items():
            lines += _list(f"{name}: `{arm}` lacks seed", sorted(set.union(*seeds) - held))
    names = dict.fromkeys(run.settings["benchmark"] for run in left_out)
    lines += _list(f"Left out, as not of the default settings: {len(left_out)} records of", names)
    return _bullets(lines) or "Nothing: all benchmarks have the same arms, all arms the same seeds."


def _all_arms(name: str, study: Study) -> str:
    """Scores of all arms and alignments of their kernels, compared with rkd where it is there."""
    seen, arms = "kernel_alignment", set(study.results["arm"])
    said = study.summary(REFERENCE if REFERENCE in arms else None).to_markdown()
    if seen in study.results and REFERENCE in set(study.results.dropna(subset=seen)["arm"]):
        held = study.results[["arm", "seed", seen]]
        said += "\n" + summary.summary(held, REFERENCE, seen).to_markdown()
    return f"<details><summary>All arms on {name}</summary>\n\n{said}\n</details>"


def _weights(studies: Studies, histories: Mapping[str, TuningHistory]) -> dict[str, str]:
    """The weights in the records, the score of every candidate, and what that cannot say."""
    used: dict[str, dict[str, str]] = {}
    for name, study in studies.items():
        for arm, runs in study.results.groupby("arm", sort=False)["run"]:
            key = OWN.get(arm, "kernel_weight")
            if held := sorted({run.settings[key] for run in runs if key in run.settings}):
                chosen = histories[name].chosen.get(arm, held[0]) if name in histories else held[0]
                row = used.setdefault(arm, {"arm": arm, "its own weight": key})
                row[name] = " and ".join(map(exact, held))
                row[name] += "" if held == [chosen] else f" ({exact(chosen)})"
    parts, limits = [], _list("No search for its own weights is recorded for",
                              [name for name in studies if name not in histories])  # fmt: skip
    for name, history in histories.items():
        rows: dict[str, dict[str, str]] = {}
        for row in history.table[history.table["counts"]].itertuples():
            cells = rows.setdefault(row.arm, {"arm": row.arm, "seeds": str(row.seeds)})
            said = _known(row.score * summary.units(history.metric)[0]) or "diverged"
            cells[exact(row.weight)] = f"**{said}**" if row.chosen else said
        seeds = sorted({trial.seed for trial in history.trials})
        given = " ".join([f"{history.full_epochs} epochs", *set_words(history.overrides)])
        parts += [
            f"{name}: mean {history.metric.replace('_', ' ')} by weight (bold: chosen) on the "
            f"seeds {', '.join(map(str, seeds))}, after {history.epochs} of a study's {given}:",
            summary.markdown_table(rows.values()),
        ]
        own = [seed for seed in seeds if seed in set(studies[name].results["seed"])]
        limits += _list(f"{name}: the weights were chosen on seeds of the study,", own)
        limits += _list(f"{name}: the best may lie beyond the weights tried for", history.at_edge)
    return {"weights": summary.markdown_table(used.values()), "tuned": "\n\n".join(parts),
            "limits": _bullets(limits)}  # fmt: skip


def _what_ran(studies: Studies) -> dict[str, str]:
    """From which somebody else can repeat the study."""
    frame = pd.concat([study.results for study in studies.values()], ignore_index=True)
    runs, days = list(frame["run"]), sorted(run.finished[:10] for run in frame["run"])
    parts = ("train", "validation", "test")
    data = pd.DataFrame({
        "benchmark": frame["benchmark"],
        "weights of the networks": [f"{run.parameters:,}" for run in runs],
        ", ".join(parts): [", ".join(f"{r.data[p]:,}" for p in parts if p in r.data) for r in runs],
        "source": [str(run.data.get("source")) for run in runs],
        "sha256": [str(run.data["sha256"])[:12] for run in runs],
        "settings of its own": [
            " ".join([f"`{run.settings['arm']}`", *set_words(run.given)]) if run.given else ""
            for run in runs
        ],
    })  # fmt: skip
    data = data.groupby("benchmark", sort=False).agg(lambda x: "; ".join(filter(None, x.unique())))
    kinds = pd.DataFrame({"device": r.device, **r.versions} for r in runs).fillna("not recorded")
    return {
        "scale": ", ".join(sorted(set(frame["scale"]))), "records": f"{len(runs):,}",
        "largest": f"{frame['parameters'].max():,}", "first": days[0], "last": days[-1],
        "hours": f"{frame['seconds'].sum() / 3600:.1f}",
        "data": summary.markdown_table(data.reset_index().to_dict("records")),
        "versions": _bullets(
            f"{name}: {', '.join(f'{kind} ({n})' for kind, n in values.value_counts().items())}"
            for name, values in kinds.items()
        ),
    }  # fmt: skip


def _ranged(row: pd.Series) -> str:
    """``+0.50 [-0.84, +1.83]``; what is NaN is left out."""
    mean, low, high = (_known(row[name], sign="+z") for name in ("improvement", "low", "high"))
    return f"{mean} [{low}, {high}]" if low else mean


def _known(value: float, unit: str = "", sign: str = "") -> str:
    return "" if math.isnan(value) else f"{value:{sign}.2f}{unit}"


def _list(words: str, names: Iterable[object]) -> list[str]:
    return [f"{words} {listed}."] if (listed := ", ".join(map(str, names))) else []


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
