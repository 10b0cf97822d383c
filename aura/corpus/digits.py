"""The handwritten digits that scikit-learn ships, as the files they would be: 1,797 grayscale PNG images of 8x8 pixels.

Data: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998,
the test set as in `sklearn.datasets.load_digits`.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image

from aura.corpus.errors import ItemChangedError
from aura.corpus.manifest import CorpusManifest
from aura.corpus.rows import ManifestRow, content_id

_SCHEME = "digits:"
_DARKEST = 16


@dataclass(frozen=True)
class DigitsSource:
    """The digit images as a source; uri "digits:<index>", label = the digit."""

    name: str = "digits"
    max_items: int | None = None

    def scan(self, progress: Callable[[int, int], None] | None = None) -> CorpusManifest:
        """List the first `max_items` images in the order of the data set, whose digits run from 0 to 9 in turn."""
        pixels, digits = _data()
        total = min(len(digits), self.max_items or len(digits))
        rows = []
        for index in range(total):
            content = _png(pixels[index])
            label = str(digits[index])
            rows.append(ManifestRow(f"{_SCHEME}{index}", "image", content_id(content), label, size=len(content)))
            if progress is not None:
                progress(index + 1, total)
        return CorpusManifest.from_rows(self.name, rows)

    def read(self, uri: str, item_id: str) -> bytes:
        """The PNG bytes of one image.

        Raises:
            ItemChangedError: there is no such image, or it is not the one that the manifest lists.
        """
        pixels, _ = _data()
        index = uri.removeprefix(_SCHEME)
        if not uri.startswith(_SCHEME) or not index.isdecimal() or int(index) >= len(pixels):
            raise ItemChangedError(
                f"source {self.name!r} has no {uri!r}, only {_SCHEME}0 to {_SCHEME}{len(pixels) - 1}; scan it again"
            )
        content = _png(pixels[int(index)])
        if content_id(content) != item_id:
            raise ItemChangedError(f"{uri!r} is now {content_id(content)}, the manifest lists {item_id}; scan it again")
        return content


@cache
def _data() -> tuple[np.ndarray, np.ndarray]:
    """Grayscale images uint8[n, 8, 8], white ink on black, and their digits int64[n]."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return np.rint(bunch.images * (255 / _DARKEST)).astype(np.uint8), bunch.target


def _png(pixels: np.ndarray) -> bytes:
    """Encode one image with stored (uncompressed) blocks, whose bytes are the same with every zlib."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=0)
    return buffer.getvalue()
