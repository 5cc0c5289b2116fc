"""Records on the disk, found, told apart, and made again.

:mod:`~qrkd_lab.records.shelf` finds them, :mod:`~qrkd_lab.records.catalogue` sorts them by
benchmark, scale and :mod:`variant <qrkd_lab.records.variants>` (settings that differ from the
benchmark's own), :mod:`~qrkd_lab.records.recipe` says how to train one again.
"""

from __future__ import annotations
