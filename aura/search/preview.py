"""What a person is shown of an item that was found: the beginning of a text, a small picture, the shape of a sound.

Belongs here: fetching the content and drawing it, for terminals and for notebooks. Does not: finding.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc
import soundfile
from numpy.typing import NDArray
from PIL import Image
from rich.style import Style
from rich.text import Text

from aura.corpus.errors import CorpusError
from aura.corpus.manifest import OK, CorpusManifest
from aura.corpus.sources import Source
from aura.embeddings.image import decode_image
from aura.search.searcher import Hit

TEXT_CHARACTERS = 160
PICTURE_COLUMNS = 16
"""Characters across; each is two pixels high."""

MAX_HEARD_BYTES = 2**20
"""Larger sounds are drawn and not put into a notebook, which would carry them along."""

BARS = "▁▂▃▄▅▆▇█"
BAR_COUNT = 24
SHADES = " ░▒▓█"


@dataclass(frozen=True)
class Preview:
    """An item's content, small.

    Attributes:
        hit: What was found.
        text: The beginning of a text, or for others a few words: their size or length, or why there is no content.
        picture: A small image, None where there is none.
        loudness: [BAR_COUNT] of a sound from 0 to 1, empty for others.
        sound: The bytes of a sound, for listening.
    """

    hit: Hit
    text: str
    picture: Image.Image | None = None
    loudness: Sequence[float] = ()
    sound: bytes | None = None

    def drawn(self, *, colours: bool = True) -> Text:
        """For a terminal, with or without colours."""
        if self.picture is not None:
            draw = half_blocks if colours else shaded
            return Text.assemble(draw(self.picture, PICTURE_COLUMNS), "\n" + self.text)
        if self.loudness:
            bars = "".join(BARS[round(level * (len(BARS) - 1))] for level in self.loudness)
            return Text.assemble((bars, "cyan"), "\n" + self.text)
        return Text(self.text)

    def html(self) -> str:
        """For a notebook."""
        words = html.escape(self.text)
        if self.picture is not None:
            buffer = io.BytesIO()
            self.picture.save(buffer, format="PNG")
            return f'<img alt="" src="{_data("image/png", buffer.getvalue())}" style="height:64px"><br>{words}'
        if self.sound is not None:
            return f'<audio controls preload="none" src="{_data("audio/wav", self.sound)}"></audio><br>{words}'
        return words


def preview(hit: Hit, manifest: CorpusManifest, source: Source) -> Preview:
    """Fetch what was found.

    Args:
        hit: What was found.
        manifest: What the source held when it was listed.
        source: Where images and sounds are read.
    """
    if hit.modality == "fused":
        members = _rows(manifest, "group", hit.uri)
        return Preview(hit, printable(", ".join(f"{row['modality']} {row['uri']}" for row in members)))
    rows = _rows(manifest, "item_id", hit.item_id)
    if not rows:
        return Preview(hit, "gone since it was embedded")
    if hit.modality == "text":
        return Preview(hit, _shortened(rows[0]["text"]))
    try:
        content = source.read(rows[0]["uri"], hit.item_id)
    except CorpusError as error:
        return Preview(hit, printable(f"cannot be read: {error}"))
    return _picture(hit, content) if hit.modality == "image" else _sound(hit, content)


def half_blocks(picture: Image.Image, columns: int) -> Text:
    """Draw with characters whose upper half has one colour and whose lower half another."""
    pixels = _pixels(picture, columns)
    drawn = Text()
    for top, bottom in zip(pixels[::2], pixels[1::2], strict=True):
        for above, below in zip(top.tolist(), bottom.tolist(), strict=True):
            drawn.append("▀", Style(color=_colour(above), bgcolor=_colour(below)))
        drawn.append("\n")
    drawn.right_crop(1)
    return drawn


def shaded(picture: Image.Image, columns: int) -> Text:
    """Draw with characters of five shades, of which brightness is all that is left."""
    grey = _pixels(picture.convert("L"), columns).astype(np.uint16)
    levels = (grey[::2] + grey[1::2]) * (len(SHADES) - 1) // (2 * 255)
    return Text("\n".join("".join(SHADES[level] for level in line) for line in levels.tolist()))


def _pixels(picture: Image.Image, columns: int) -> NDArray[np.uint8]:
    """The picture so many pixels across, and an even number high; at most twice as high as wide."""
    rows = max(1, round(columns * picture.height / picture.width / 2)) * 2
    return np.asarray(picture.resize((columns, min(rows, 2 * columns)), Image.Resampling.BOX))


def _rows(manifest: CorpusManifest, column: str, value: str) -> list[dict[str, str]]:
    table = manifest.table
    rows: list[dict[str, str]] = table.filter(
        pc.and_(pc.equal(table["status"], OK), pc.equal(table[column], value))
    ).to_pylist()
    return rows


def printable(text: str) -> str:
    """A text without what a terminal would obey: control characters become a replacement character."""
    return "".join(each if each.isprintable() else "\ufffd" for each in " ".join(text.split()))


def _shortened(text: str) -> str:
    plain = printable(text)
    return plain if len(plain) <= TEXT_CHARACTERS else plain[: TEXT_CHARACTERS - 1] + "…"


def _picture(hit: Hit, content: bytes) -> Preview:
    image = decode_image(content)
    words = f"{image.width} x {image.height} pixels"
    image.thumbnail((256, 256))
    return Preview(hit, words, picture=image)


def _sound(hit: Hit, content: bytes) -> Preview:
    with soundfile.SoundFile(io.BytesIO(content)) as sound:
        rate, samples = sound.samplerate, sound.read(dtype="float32", always_2d=True).mean(axis=1)
    pieces = [piece for piece in np.array_split(samples, BAR_COUNT) if len(piece)]
    loudness = np.array([np.sqrt(np.mean(np.square(piece))) for piece in pieces])
    loudest = loudness.max(initial=0)
    shape = (loudness / loudest if loudest else loudness).tolist()
    heard = content if len(content) <= MAX_HEARD_BYTES else None
    return Preview(hit, f"{len(samples) / rate:.2f} s at {rate} Hz", loudness=shape, sound=heard)


def _colour(pixel: Sequence[int]) -> str:
    return f"#{pixel[0]:02x}{pixel[1]:02x}{pixel[2]:02x}"


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
