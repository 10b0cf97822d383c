"""The digits: the images of scikit-learn as real PNG files, their names, and recordings of them."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest
import soundfile
from PIL import Image
from sklearn.datasets import load_digits

from aura.corpus.digits import DigitsSource
from aura.corpus.errors import CorpusRootError, ItemChangedError, TextItemError
from aura.corpus.media import check_audio, check_image

RECORDINGS = Path(__file__).parents[3] / "shared" / "data" / "fsdd"


def record(directory: Path, *names: str) -> None:
    """Real recordings: a tone for each digit."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in names:
        pitch = 200 + 50 * int(name[0]) + len(name)
        soundfile.write(directory / f"{name}.wav", 0.5 * np.sin(np.arange(800) * pitch / 1_273), 8_000)


def test_every_digit_is_listed_with_its_label_and_reads_back_as_its_pixels():
    bunch = load_digits()
    manifest = DigitsSource().scan()
    rows = manifest.items("image").to_pylist()
    assert manifest.table["uri"].to_pylist()[: len(rows)] == [row["uri"] for row in rows]
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


def test_the_ten_names_are_texts_with_their_digit_as_label():
    names = DigitsSource().scan().items("text").to_pylist()
    assert [(row["uri"], row["label"]) for row in names] == [(f"digits:name/{n}", str(n)) for n in range(10)]
    assert [row["text"] for row in names][:3] == ["zero", "one", "two"]
    with pytest.raises(TextItemError, match="column 'text'"):
        DigitsSource().read("digits:name/7", names[7]["item_id"])


@pytest.mark.parametrize("below", ["", "recordings"])
def test_recordings_are_sounds_with_digit_and_speaker(tmp_path, below):
    record(tmp_path / below, "7_jackson_12", "0_anna-2_3")
    (tmp_path / below / "README.md").write_text("about")
    (tmp_path / below / "noise.wav").write_bytes(b"noise")
    source = DigitsSource(spoken=tmp_path)
    manifest = source.scan()
    sounds = manifest.items("audio").to_pylist()
    assert [(row["uri"], row["label"], row["sublabel"]) for row in sounds] == [
        ("digits:spoken/0_anna-2_3", "0", "anna-2"),
        ("digits:spoken/7_jackson_12", "7", "jackson"),
    ]
    assert manifest.table.num_rows == 1_797 + 10 + 2
    for row in sounds:
        check_audio(source.read(row["uri"], row["item_id"]))


def test_broken_recordings_are_set_aside_with_their_reasons(tmp_path):
    record(tmp_path, "1_a_0", "2_a_0", "5_a_0")
    (tmp_path / "1_a_0.wav").write_bytes((tmp_path / "1_a_0.wav").read_bytes()[:500])
    (tmp_path / "3_a_0.wav").touch()
    (tmp_path / "4_a_0.wav").symlink_to(tmp_path / "2_a_0.wav")
    with (tmp_path / "5_a_0.wav").open("ab") as file:
        os.truncate(file.fileno(), 2**20 + 1)
    manifest = DigitsSource(spoken=tmp_path).scan()
    assert manifest.items("audio")["uri"].to_pylist() == ["digits:spoken/2_a_0"]
    reasons = manifest.set_aside()["reason"].to_pylist()
    assert [reason.split(":")[0] for reason in reasons] == ["undecodable", "empty", "unreadable", "oversized"]


def test_a_directory_without_recordings_is_an_error_that_names_the_setting(tmp_path):
    for directory, fault in (
        (tmp_path / "missing", "cannot be read"),
        (tmp_path, "holds no file like 7_jackson_12.wav"),
    ):
        with pytest.raises(CorpusRootError, match=fault) as caught:
            DigitsSource(spoken=directory).scan()
        assert str(directory) in str(caught.value)
        assert "AURA_CORPUS__SPOKEN_DIGITS" in str(caught.value)


def test_max_items_takes_images_names_and_recordings_in_turn(tmp_path):
    record(tmp_path, *(f"{digit}_{speaker}_{take}" for take in range(2) for speaker in "ba" for digit in range(10)))
    (tmp_path / "1_a_0.wav").write_bytes(b"broken")
    manifest = DigitsSource(max_items=8, spoken=tmp_path).scan()
    usable = manifest.table.filter(pc.equal(manifest.table["status"], "ok"))
    assert usable["uri"].to_pylist() == [
        *("digits:0", "digits:1", "digits:2"),
        *("digits:name/0", "digits:name/1", "digits:name/2"),
        *("digits:spoken/0_a_0", "digits:spoken/2_a_0"),
    ]
    more = DigitsSource(max_items=200, spoken=tmp_path).scan().counts().to_pylist()
    assert [(row["modality"], row["status"], row["rows"]) for row in more] == [
        ("audio", "ok", 39),
        ("audio", "set aside", 1),
        ("image", "ok", 151),
        ("text", "ok", 10),
    ]


def test_max_items_without_recordings_and_progress_that_counts_up_to_it():
    seen: list[tuple[int, int]] = []
    manifest = DigitsSource(max_items=3).scan(lambda done, total: seen.append((done, total)))
    assert manifest.table["uri"].to_pylist() == ["digits:0", "digits:1", "digits:name/0"]
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert DigitsSource().scan().changes_since(manifest).changed == ()
    assert DigitsSource(max_items=30).scan().items("image").num_rows == 20


@pytest.mark.parametrize("uri", ["digits:spoken/../1_a_0", "digits:spoken/1_a_1", "digits:spoken/", "digits:spoken/x"])
def test_a_recording_that_is_not_there_is_refused(tmp_path, uri):
    record(tmp_path, "1_a_0")
    for source in (DigitsSource(), DigitsSource(spoken=tmp_path)):
        with pytest.raises(ItemChangedError, match="scan it again"):
            source.read(uri, "0" * 32)


def test_a_recording_that_changed_is_refused(tmp_path):
    record(tmp_path, "1_a_0")
    with pytest.raises(ItemChangedError, match="the manifest lists 0000"):
        DigitsSource(spoken=tmp_path).read("digits:spoken/1_a_0", "0" * 32)


@pytest.mark.skipif(not RECORDINGS.is_dir(), reason=f"no copy of the Free Spoken Digit Dataset at {RECORDINGS}")
def test_the_whole_data_set_is_read():
    manifest = DigitsSource(spoken=RECORDINGS).scan()
    assert manifest.set_aside().num_rows == 0
    sounds = manifest.items("audio")
    assert len(sounds) > 1_500
    assert set(sounds["label"].to_pylist()) == set("0123456789")


@pytest.mark.parametrize("uri", ["digits:1797", "digits:-1", "digits:x", "digits:", "0"])
def test_a_digit_that_is_not_there_is_refused(uri):
    with pytest.raises(ItemChangedError, match="only digits:0 to digits:1796"):
        DigitsSource().read(uri, "0" * 32)


def test_another_item_id_is_refused():
    with pytest.raises(ItemChangedError, match="the manifest lists 0000"):
        DigitsSource().read("digits:0", "0" * 32)
