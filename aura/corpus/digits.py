"""The ten digits as one can see, read and hear them: handwritten images, their names, and spoken recordings.

Images: the 1,797 grayscale images of 8x8 pixels that scikit-learn ships, as the PNG files they would be. Data:
E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998, the test
set as in `sklearn.datasets.load_digits`.

Recordings: a copy of the Free Spoken Digit Dataset (Z. Jackson and others, CC BY-SA 4.0), where there is one.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np
from PIL import Image

from aura.corpus.errors import CorpusRootError, ItemChangedError, TextItemError
from aura.corpus.manifest import CorpusManifest
from aura.corpus.media import check_audio
from aura.corpus.rows import ManifestRow, SetAsideError, content_id, set_aside_row, text_row, until_usable
from aura.corpus.tree import read_bounded

_IMAGE = "digits:"
_NAME = "digits:name/"
_SPOKEN = "digits:spoken/"
_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_DARKEST = 16
_RECORDING = re.compile(r"(?P<digit>[0-9])_(?P<speaker>[A-Za-z0-9-]+)_(?P<take>[0-9]+)")
_SETTING = "AURA_CORPUS__SPOKEN_DIGITS"

MAX_RECORDING_BYTES = 2**20
"""Largest recording: a minute at 8 kHz; the data set's longest is 2.3 s."""


@dataclass(frozen=True)
class DigitsSource:
    """The digits as a source; label = the digit.

    Uris: "digits:<index>" for an image, "digits:name/7" for the name of a digit, "digits:spoken/7_jackson_12" for a
    recording, whose sublabel is the speaker. Recordings are files `{digit}_{speaker}_{take}.wav` in the directory
    `spoken` or in its sub-directory "recordings"; without such a directory there are only images and names.

    `max_items` keeps that many usable items: images, names and recordings take turns until each is at its end. The
    digits run from 0 to 9 in each of them, the recordings by take and speaker, so that every digit has its share.
    """

    name: str = "digits"
    max_items: int | None = None
    spoken: Path | None = None

    def scan(self, progress: Callable[[int, int], None] | None = None) -> CorpusManifest:
        """List the images in the order of the data set, then the names, then the recordings by take and speaker.

        Raises:
            CorpusRootError: the directory of the recordings is none, or holds none.
        """
        recordings = [] if self.spoken is None else _recordings(self.spoken)
        listed = len(_data()[1]) + len(_NAMES) + len(recordings)
        total = min(listed, self.max_items or listed)
        rows = []
        for row in until_usable(_in_turn(_images(), _names(), _sounds(recordings)), total):
            rows.append(row)
            if progress is not None:
                progress(len(rows), total)
        return CorpusManifest.from_rows(self.name, sorted(rows, key=lambda row: (_SPOKEN in row.uri, _NAME in row.uri)))

    def read(self, uri: str, item_id: str) -> bytes:
        """The PNG bytes of one image, or the WAV bytes of one recording.

        Raises:
            TextItemError: the uri is the name of a digit.
            ItemChangedError: there is no such item, or it is not the one that the manifest lists.
        """
        if uri.startswith(_NAME):
            raise TextItemError(f"{uri!r} of source {self.name!r} is text: take it from the manifest's column 'text'")
        content = self._recording(uri) if uri.startswith(_SPOKEN) else self._image(uri)
        if content_id(content) != item_id:
            raise ItemChangedError(f"{uri!r} is now {content_id(content)}, the manifest lists {item_id}; scan it again")
        return content

    def _image(self, uri: str) -> bytes:
        pixels, _ = _data()
        index = uri.removeprefix(_IMAGE)
        if not uri.startswith(_IMAGE) or not index.isdecimal() or int(index) >= len(pixels):
            raise ItemChangedError(
                f"source {self.name!r} has no {uri!r}, only {_IMAGE}0 to {_IMAGE}{len(pixels) - 1}; scan it again"
            )
        return _png(pixels[int(index)])

    def _recording(self, uri: str) -> bytes:
        name = uri.removeprefix(_SPOKEN)
        if self.spoken is None or not _RECORDING.fullmatch(name):
            raise ItemChangedError(
                f"source {self.name!r} has no {uri!r} in the directory {self.spoken} ({_SETTING}); scan it again"
            )
        try:
            return read_bounded(_directory(self.spoken) / f"{name}.wav", MAX_RECORDING_BYTES)
        except SetAsideError as error:
            raise ItemChangedError(f"{uri!r} of source {self.name!r} is gone ({error}); scan it again") from error


def _in_turn(*kinds: Iterator[ManifestRow]) -> Iterator[ManifestRow]:
    return (row for row in chain.from_iterable(zip_longest(*kinds)) if row is not None)


def _images() -> Iterator[ManifestRow]:
    for index, (pixels, digit) in enumerate(zip(*_data(), strict=True)):
        content = _png(pixels)
        yield ManifestRow(f"{_IMAGE}{index}", "image", content_id(content), str(digit), size=len(content))


def _names() -> Iterator[ManifestRow]:
    return (text_row(f"{_NAME}{digit}", name, label=str(digit)) for digit, name in enumerate(_NAMES))


def _sounds(recordings: list[Path]) -> Iterator[ManifestRow]:
    for path in recordings:
        uri, (digit, speaker, _) = f"{_SPOKEN}{path.stem}", path.stem.split("_")
        try:
            content = read_bounded(path, MAX_RECORDING_BYTES)
            if not content:
                yield set_aside_row(uri, "empty", modality="audio", size=0)
                continue
            check_audio(content)
        except SetAsideError as error:
            yield set_aside_row(uri, str(error), modality="audio")
        else:
            yield ManifestRow(uri, "audio", content_id(content), digit, speaker, size=len(content))


def _recordings(spoken: Path) -> list[Path]:
    """The files of the recordings by take and speaker, the digits in turn."""
    directory = _directory(spoken)
    try:
        found = [(_RECORDING.fullmatch(path.stem), path) for path in directory.iterdir() if path.suffix == ".wav"]
    except OSError as error:
        raise CorpusRootError(
            f"the directory of spoken digits {spoken} cannot be read ({error.strerror}); set {_SETTING} to a copy of "
            f"the Free Spoken Digit Dataset, or to nothing for images and names alone"
        ) from error
    order = {
        path: (int(match["take"]), match["speaker"], match["digit"], path.name)
        for match, path in found
        if match is not None
    }
    if not order:
        raise CorpusRootError(
            f"the directory of spoken digits {spoken} holds no file like 7_jackson_12.wav, nor does its sub-directory "
            f"recordings; set {_SETTING} to a copy of the Free Spoken Digit Dataset, or to nothing"
        )
    return sorted(order, key=order.__getitem__)


def _directory(spoken: Path) -> Path:
    inside = spoken.expanduser() / "recordings"
    return inside if inside.is_dir() else inside.parent


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
