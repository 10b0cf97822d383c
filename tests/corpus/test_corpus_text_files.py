"""Decoding text files and the visible text of HTML."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aura.corpus.rows import SetAsideError
from aura.corpus.text_files import decode, visible_text


def test_a_byte_order_mark_is_not_part_of_the_text():
    assert decode("\ufeffgrüße".encode()) == "grüße"


def test_latin_1_is_refused_with_the_place_of_the_first_wrong_byte():
    with pytest.raises(SetAsideError, match=r"not UTF-8 \(byte 2 is 0xfc\)"):
        decode("grüße".encode("latin-1"))


def test_a_binary_file_that_happens_to_be_utf8_is_no_text():
    with pytest.raises(SetAsideError, match="NUL bytes"):
        decode(b"\x7fELF\0\0\0")


def test_html_keeps_what_a_reader_sees():
    html = """<!DOCTYPE html><html><head><title>Tiers</title><style>p { color: red }</style></head>
    <!-- not this --><body><p>The <b>warm</b>est   tier</p><p>is<br>shared</p>
    <script>alert("no")</script><template>nor this</template><noscript>nor that</noscript></body>"""
    assert visible_text(html).splitlines() == ["Tiers", "The warmest tier", "is", "shared"]


def test_html_entities_become_their_characters():
    assert visible_text("<p>a &lt; b &amp;&eacute;</p>") == "a < b &é"


def test_a_page_of_scripts_has_no_text():
    assert visible_text("<script>let x = 1</script>") == ""


@pytest.mark.parametrize("tag", ["div", "b"])
def test_deeply_nested_html_is_read(tag):
    assert visible_text(f"<{tag}>" * 20_000 + "deep") == "deep"
    assert visible_text("<noscript>" * 20_000 + "hidden") == ""


@pytest.mark.parametrize("piece", ["<a ", "<a b='", "</a ", "<? ", "<![CDATA[>"])
def test_html_that_would_be_read_again_and_again_is_set_aside(piece):
    with pytest.raises(SetAsideError, match="100000 tags that are not closed"):
        visible_text(piece * 100_000)


@pytest.mark.parametrize("opening", ["<!-- ", "<script>", "<STYLE>"])
def test_what_is_opened_and_never_closed_hides_the_rest_as_in_a_browser(opening):
    assert visible_text("seen" + opening * 100_000) == "seen"


def test_a_few_less_than_signs_in_text_and_attributes_do_no_harm():
    assert visible_text('<p title="a<b">if a < b and c <d then <b>stop</b></p>').startswith("if a < b and c")


@given(st.text(alphabet="<>/!-ab [&;\"'=script", max_size=60))
def test_any_markup_gives_a_text_or_a_reason(markup):
    with suppress(SetAsideError):
        text = visible_text(markup)
        assert text == text.strip()
