"""What a training has to say, as HTML: what is asked for, how far it is, what came of it."""

from __future__ import annotations

import html

from qrkd_lab.live import Order, Track
from qrkd_lab.settings import Settings
from qrkd_lab.summary import units

__all__ = ["progress", "ready", "wrong"]

_CELL = '<td style="padding: 0 0.7em">'


def ready(order: Order, settings: Settings) -> str:
    """What Start would do."""
    arms = ", ".join(order.arms)
    return _paragraph(
        f"Ready: {arms} on {order.benchmark} ({order.scale}), seed {order.seed}, "
        f"{settings.epochs} epochs each, after their teacher. Press Start; what is on disk already "
        f"in {order.runs_dir} is not trained again."
    )


def progress(state: str, track: Track) -> str:
    """How far a training is, and what it has recorded."""
    who = "the teacher" if track.of_teacher else ", ".join(track.arms)
    at = f"{who}: epoch {track.at:.1f} of {track.epochs}"
    said = {
        "loading": "Starting: the process, the data, the teacher.",
        "training": f"Training {at}." + " The arms come after it." * track.of_teacher,
        "paused": f"Paused, {at}. Go on, or stop.",
        "stopping": "Stopping." if not track.epochs else f"Stopping, {at}.",
        "stopped": _stopped(track, at),
        "done": "Done."
        + " Everything was on the disk: kernel matrices are drawn while arms train, so "
        "choose another seed to watch them." * (len(track.runs) == len(track.reused)),
        "failed": "Not everything came to its end.",
    }[state]
    notes = "".join(map(_paragraph, track.notes)) + "".join(map(wrong, track.failures))
    return f"{_paragraph(said)}{notes}{_table(track)}"


def wrong(text: str) -> str:
    """Something that is wrong."""
    return f'<p class="qrkd-wrong" role="alert">{html.escape(text)}</p>'


def _stopped(track: Track, at: str) -> str:
    """What stopping has left."""
    new = [run for run in track.runs if run.name not in track.reused]
    if new:
        epochs = len(new[0].history)
        word = "epoch" if epochs == 1 else "epochs"
        return f"Stopped: recorded as runs of {epochs} {word}. Start goes on from where it was."
    if not track.epochs:
        return "Stopped before anything was trained."
    return (
        f"Stopped, {at}: nothing new is recorded, as "
        + ("a teacher counts when it is whole" if track.of_teacher else "no epoch was completed")
        + ". Start goes on from where it was."
    )


def _table(track: Track) -> str:
    """The recorded runs: the score to choose by, seconds, and where they are."""
    if not track.runs:
        return ""
    rows, name = [], f"validation_{track.runs[0].metric['name'].removeprefix('test_')}"
    factor, unit = units(name)
    for run in track.runs:
        how = "was on disk" if run.name in track.reused else f"{run.seconds['train']:.1f} s"
        score = f"{run.history[-1][name] * factor:.2f}{unit}"
        cells = [run.name, f"{len(run.history)}", score, how]
        cells.append("" if run.path is None else str(run.path))
        rows.append("".join(f"{_CELL}{html.escape(cell)}</td>" for cell in cells))
    heads = "".join(
        f'<th scope="col" style="padding: 0 0.7em">{head}</th>'
        for head in ("run", "epochs", name.replace("_", " "), "training", "record")
    )
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    said = _paragraph(
        "Test scores are in the records: choose by validation, and look at them last."
    )
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>{said}"


def _paragraph(text: str) -> str:
    return f"<p>{html.escape(text)}</p>"
