"""The digit images of scikit-learn as real PNG files."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from aura.corpus.digits import DigitsSource
from aura.corpus.errors import ItemChangedError
from aura.corpus.media import check_image


def test_every_digit_is_listed_with_its_label_and_reads_back_as_its_pixels():
    bunch = load_digits()
    manifest = DigitsSource().scan()
    rows = manifest.table.to_pylist()
    assert [row["label"] for row in rows] == [str(digit) for digit in bunch.target]
    assert rows[17]["uri"] == "digits:17"
    for index in (0, 17, len(rows) - 1):
        content = DigitsSource().read(rows[index]["uri"], rows[index]["item_id"])
        check_image(content)
        with Image.open(io.BytesIO(content)) as image:
            assert image.mode == "L"
            np.testing.assert_allclose(np.asarray(image), bunch.images[index] * 255 / 16, atol=0.5)
        assert rows[index]["bytes"] == len(content)


def test_a_digit_has_the_same_bytes_everywhere():
    first = DigitsSource(max_items=1).scan().table["item_id"].to_pylist()
    assert first == ["4e4b10d4b05091c3d745bced152dff2d"]


def test_max_items_takes_the_first_and_progress_counts_them():
    seen: list[tuple[int, int]] = []
    manifest = DigitsSource(max_items=3).scan(lambda done, total: seen.append((done, total)))
    assert manifest.table["uri"].to_pylist() == ["digits:0", "digits:1", "digits:2"]
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert DigitsSource().scan().changes_since(manifest).changed == ()


@pytest.mark.parametrize("uri", ["digits:1797", "digits:-1", "digits:x", "digits:", "0"])
def test_a_digit_that_is_not_there_is_refused(uri):
    with pytest.raises(ItemChangedError, match="only digits:0 to digits:1796"):
        DigitsSource().read(uri, "0" * 32)


def test_another_item_id_is_refused():
    with pytest.raises(ItemChangedError, match="the manifest lists 0000"):
        DigitsSource().read("digits:0", "0" * 32)
