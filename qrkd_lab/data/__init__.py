"""Data sets: found on disk or downloaded, verified, held in memory.

>>> from qrkd_lab.data import load_images
>>> load_images("digits").image_shape
(1, 8, 8)
"""

from __future__ import annotations

from qrkd_lab.data.fetch import DataError, RemoteFile, data_dir
from qrkd_lab.data.images import Images, VisionData, load_images
from qrkd_lab.data.text import TextData, Tokens, load_text

__all__ = [
    "DataError", "Images", "RemoteFile", "TextData", "Tokens", "VisionData", "data_dir",
    "load_images", "load_text",
]  # fmt: skip
