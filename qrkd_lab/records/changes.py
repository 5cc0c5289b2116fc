"""Changes: how a record's settings differ from the defaults of its benchmark and scale.

A record holds every setting that its arm uses. What a reader wants to know, and what a call of
:func:`~qrkd_lab.compare` must be given, is the few that were set on purpose.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cache
from typing import Any

from qrkd_lab.arms import ARMS, TEACHER
from qrkd_lab.benchmarks import BENCHMARKS, SCALES, benchmark_settings
from qrkd_lab.settings import Settings, typed

__all__ = ["Frozen", "changes_of", "freeze", "in_words", "settings_with"]

_FIELDS = {field.name: str(field.type) for field in dataclasses.fields(Settings)}
Frozen = tuple[tuple[str, Any], ...]  # settings without the seed, sorted, hashable


def changes_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What must be given to :func:`~qrkd_lab.compare` beside names and seed to get these settings.

    Args:
        settings: of a record, i.e. of :meth:`~qrkd_lab.settings.Settings.effective`.

    Returns:
        Overrides, none of which can be left out, in the order of the fields of ``Settings``.

    Raises:
        ValueError: no overrides give them, in words: an arm or scale or setting that this version
            does not know, or one that it has and the record lacks.

    Example:
        >>> from qrkd_lab.benchmarks import benchmark_settings
        >>> changes_of(benchmark_settings("mnist", epochs=3).effective())
        {'epochs': 3}
    """
    return dict(_changes(freeze(settings)))


def settings_with(settings: Mapping[str, Any], arm: str, changes: Frozen) -> Frozen:
    """The frozen settings of an arm's run under these changes, on a record's benchmark and scale.

    Empty where that arm cannot be run so.
    """
    return _try(_base(settings), arm, changes)


def freeze(settings: Mapping[str, Any]) -> Frozen:
    """Settings without the seed as something that can be compared and hashed."""
    kept = {name: value for name, value in settings.items() if name != "seed"}
    return tuple(sorted((name, _hashable(value)) for name, value in kept.items()))


def in_words(changes: Mapping[str, Any]) -> str:
    """Changes in one line.

    Example:
        >>> in_words({"kernel_weight": 3.0, "student_widths": (5, 2, 31)})
        'kernel_weight=3, student_widths=5-2-31'
    """
    return ", ".join(f"{name}={_short(value)}" for name, value in changes.items())


@cache
def _changes(frozen: Frozen) -> Frozen:
    """:func:`changes_of`, with settings and changes as tuples."""
    asked = dict(frozen)
    _check(asked)
    base, arm = _base(asked), asked["arm"]
    needed: dict[str, Any] = {}
    while (here := dict(_given(base, arm, tuple(needed.items())))) != asked:
        # More than once: another feature map has another number of layers by default.
        odd = [name for name in {**asked, **here} if asked.get(name) != here.get(name)]
        rest = [name for name in odd if name not in needed]
        more = {n: asked.get(n) for n in rest if n in asked or "None" in _FIELDS[n]}
        if not more and rest:
            raise ValueError(f"the record lacks {', '.join(rest)}, which this version needs")
        if not more:
            raise ValueError(f"this version gives another {', '.join(odd)} than the record has")
        needed |= more
    for name in list(needed):
        fewer = {n: v for n, v in needed.items() if n != name}
        if _try(base, arm, tuple(fewer.items())) == frozen:
            needed = fewer
    return tuple((name, needed[name]) for name in _FIELDS if name in needed)


def _check(asked: Mapping[str, Any]) -> None:
    if asked["arm"] not in (TEACHER, *ARMS):
        raise ValueError(f"the arm {asked['arm']!r} is none of this version's")
    if asked["scale"] not in SCALES:
        raise ValueError(f"the scale {asked['scale']!r} is none of {', '.join(SCALES)}")
    if unknown := [name for name in asked if name not in _FIELDS]:
        raise ValueError(f"this version has no setting {', '.join(unknown)}")


def _base(settings: Mapping[str, Any]) -> tuple[str, str, bool]:
    """Benchmark, scale, and whether a folder's settings are those of text."""
    return settings["benchmark"], settings["scale"], "sequence_length" in settings


@cache
def _defaults(benchmark: str, scale: str, text: bool) -> Settings:
    """A benchmark's default settings; a folder need not be there."""
    if benchmark in BENCHMARKS:
        return benchmark_settings(benchmark, scale)
    return benchmark_settings("ptb" if text else "cifar10", scale).replace(benchmark=benchmark)


@cache
def _given(base: tuple[str, str, bool], arm: str, changes: Frozen) -> Frozen:
    """The settings of a run of this arm when ``changes`` are given."""
    typed = {name: _typed(name, value) for name, value in changes}
    settings = dataclasses.replace(_defaults(*base), **typed, arm=arm)
    settings.check()
    return freeze(settings.effective())


@cache
def _typed(name: str, value: Any) -> Any:  # noqa: ANN401
    """A value as its field's type. Once: that is most of the time of ``Settings.replace``."""
    try:
        return typed(name, value)
    except TypeError as error:  # of another type than this version's
        raise ValueError(str(error)) from error


def _try(base: tuple[str, str, bool], arm: str, changes: Frozen) -> Frozen:
    """The same; empty where the changes cannot be."""
    try:
        return _given(base, arm, changes)
    except ValueError:
        return ()


def _hashable(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, Mapping):
        return tuple(sorted((name, _hashable(item)) for name, item in value.items()))
    return tuple(map(_hashable, value)) if isinstance(value, (list, tuple)) else value


def _short(value: Any) -> str:  # noqa: ANN401
    if isinstance(value, (list, tuple)):
        return "-".join(map(_short, value))
    return str(value).removesuffix(".0") if isinstance(value, float) else str(value)
