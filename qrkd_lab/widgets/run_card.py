"""A card of one record: all about it, and how to make it again."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from functools import cache

from qrkd_lab.published import PUBLISHED, has_weights
from qrkd_lab.records.changes import changes_of, in_words
from qrkd_lab.records.recipe import reproduce
from qrkd_lab.runs import Run, versions
from qrkd_lab.summary import units
from qrkd_lab.widgets.record_words import came_with_the_kit, number

__all__ = ["run_card"]


def run_card(run: Run) -> str:
    """Everything about one run: result, settings, data, versions, and the code that makes it."""
    facts = {
        "Result": _metrics(run),
        "Settings": _settings(run),
        "Data": f"{run.data.get('source', 'unknown')}, sha256 {str(run.data['sha256'])[:12]}",
        "Ran on": _where(run),
        "Versions": _versions(run.versions, _here()),
        "Record": _record(run),
    }
    rows = "".join(
        f'<tr><th scope="row">{name}</th><td>{html.escape(text)}</td></tr>'
        for name, text in facts.items()
    )
    return f"<h4>{html.escape(run.name)}</h4><table>{rows}</table>{_recipe(run)}{_all(run)}"


def _metrics(run: Run) -> str:
    return ", ".join(
        f"{name.replace('_', ' ')} {number(name, value)}{units(name)[1]}"
        for name, value in run.metrics.items()
    )


def _settings(run: Run) -> str:
    home = f"{run.settings['benchmark']}, {run.settings['scale']}"
    try:
        changed = in_words(changes_of(run.settings))
    except ValueError:
        return f"{home}: not those of ql.compare"
    return f"{home}: {changed or 'all by default'}"


def _where(run: Run) -> str:
    seconds = sum(run.seconds.values())
    return (
        f"{run.device}, {seconds:.1f} s, finished {run.finished}; {run.parameters:,} parameters; "
        f"{run.versions.get('platform', 'unknown platform')}"
    )


@cache
def _here() -> Mapping[str, str | None]:
    return versions()


def _versions(recorded: Mapping[str, str | None], here: Mapping[str, str | None]) -> str:
    """Those of the record; where another one is installed here, that too."""
    said = []
    for name, version in recorded.items():
        if name != "platform" and version is not None:
            other = f" (here {here.get(name)})" if here.get(name) != version else ""
            said.append(f"{name} {version}{other}")
    return ", ".join(said)


def _record(run: Run) -> str:
    kit = came_with_the_kit(run)
    place = run.path.relative_to(PUBLISHED.parent) if kit else run.path
    weights = "with its weights" if has_weights(run) else "without its weights"
    return f"{place}, {'came with the kit' if kit else 'own'}, {weights}"


def _recipe(run: Run) -> str:
    recipe = reproduce(run)
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in recipe.notes)
    blocks = {"To train it again": recipe.python, "At the command line": recipe.shell}
    said = "".join(
        f"<p>{title}:</p><pre>{html.escape(text.strip())}</pre>"
        for title, text in blocks.items()
        if text
    )
    return f"{said}<ul>{notes}</ul><p>To read it:</p><pre>{html.escape(_reading(run))}</pre>"


def _reading(run: Run) -> str:
    if came_with_the_kit(run):
        home = f'"{run.settings["benchmark"]}", "{run.settings["scale"]}"'
        return (
            f"runs = ql.published_runs({home})\n"
            f'run = next(run for run in runs if run.key == "{run.key}")'
        )
    return f"run = ql.load_run({json.dumps(run.path.as_posix(), ensure_ascii=False)})"


def _all(run: Run) -> str:
    rows = "".join(
        f'<tr><th scope="row">{html.escape(name)}</th><td>{html.escape(repr(value))}</td></tr>'
        for name, value in run.settings.items()
    )
    return f"<details><summary>All its settings</summary><table>{rows}</table></details>"
