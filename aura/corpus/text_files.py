"""From the bytes of a text file to its text: UTF-8 and the visible text of HTML.

Belongs here: decoding. Does not: tables of texts (`aura.corpus.tables`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from bs4 import BeautifulSoup, Tag
from bs4.element import CData, NavigableString
from bs4.exceptions import ParserRejectedMarkup

from aura.corpus.rows import SetAsideError

_CODE = re.compile(r"<!--.*?(?:-->|\Z)|<(script|style)\b.*?(?:</\1\s*>|\Z)", re.DOTALL | re.IGNORECASE)
_UNCLOSED = re.compile(r"<(?=[a-z/!?])(?:!\[|[^<>]*+(?=<|\Z))", re.IGNORECASE)
_MAX_RESCANNED = 2**25
"""For each tag that is never closed, Python's HTML parser reads on to the end of the file: 20,000 times `<a `, that is
60 KB, takes half a minute, and this many characters about 5 s (Python 3.11.7, one busy core of two)."""

_UNSEEN = frozenset({"template", "noscript"})
_TEXT = (NavigableString, CData)  # exactly these: comments and declarations are subclasses
# fmt: off
_BLOCKS = frozenset((
    "address", "article", "aside", "blockquote", "br", "caption", "dd", "div", "dl", "dt", "figcaption", "figure",
    "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "li", "main", "nav", "ol", "option", "p",
    "pre", "section", "table", "td", "th", "title", "tr", "ul",
))
# fmt: on


def decode(content: bytes) -> str:
    """The text of UTF-8 bytes, without a byte order mark.

    Raises:
        SetAsideError: the bytes are not UTF-8, or hold NUL as only binary files do.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SetAsideError(f"undecodable: not UTF-8 (byte {error.start} is 0x{content[error.start]:02x})") from error
    if "\0" in text:
        raise SetAsideError("undecodable: holds NUL bytes, so it is no text")
    return text


def visible_text(html: str) -> str:
    """What a reader sees of an HTML document: one line per block, runs of spaces collapsed, no scripts or styles.

    Raises:
        SetAsideError: the parser rejects the markup, or would read it again and again.
    """
    markup = _CODE.sub("", html)
    unclosed = sum(1 for _ in _UNCLOSED.finditer(markup))
    if unclosed * len(markup) > _MAX_RESCANNED:
        raise SetAsideError(f"undecodable: broken HTML ({unclosed} tags that are not closed)")
    try:
        document = BeautifulSoup(markup, "html.parser")
    except ParserRejectedMarkup as error:
        raise SetAsideError(f"undecodable: broken HTML ({error})") from error
    lines = (" ".join(line.split()) for line in "".join(_pieces(document)).splitlines())
    return "\n".join(line for line in lines if line)


def _pieces(document: BeautifulSoup) -> Iterator[str]:
    """The strings of a document in order, with line feeds where a block starts or ends; one pass however deep it is."""
    above: list[Tag] = [document]
    unseen = 0
    for element in document.descendants:
        while above[-1] is not element.parent:
            left = above.pop()
            unseen -= left.name in _UNSEEN
            if left.name in _BLOCKS:
                yield "\n"
        if isinstance(element, Tag):
            above.append(element)
            unseen += element.name in _UNSEEN
            if element.name in _BLOCKS:
                yield "\n"
        elif type(element) in _TEXT and not unseen:
            yield str(element)
