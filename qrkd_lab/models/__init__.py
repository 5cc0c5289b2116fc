"""The networks that teach and learn."""

from __future__ import annotations

from qrkd_lab.models.cnn import CNN

__all__ = ["CNN"]
