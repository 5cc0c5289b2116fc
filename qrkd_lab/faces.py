"""The face of a package: its public names in one list, each imported when it is first used."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

__all__ = ["face"]


def face(
    package: str, homes: Mapping[str, Iterable[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """``__getattr__``, ``__dir__`` and ``__all__`` for a package's ``__init__``.

    Args:
        package: its ``__name__``.
        homes: module in it to the names that it gives.
    """
    home = {name: module for module, names in homes.items() for name in names}
    known = sorted(home)

    def get(name: str) -> Any:  # noqa: ANN401
        if name not in home:
            raise AttributeError(f"{package} has no {name!r}; it has {', '.join(known)}")
        value = getattr(importlib.import_module(f"{package}.{home[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    return get, lambda: known, known
