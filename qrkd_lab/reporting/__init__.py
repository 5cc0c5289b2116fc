"""The aggregated report of a study over several benchmarks, in Markdown and as one HTML page.

:func:`~qrkd_lab.reporting.report.write_report` writes it from records alone: no data, no weights,
no training.
"""

from __future__ import annotations

from qrkd_lab.faces import face

__getattr__, __dir__, __all__ = face(  # noqa: PLE0605
    __name__, {"report": ("Report", "compose", "report_on", "write_report")}
)
