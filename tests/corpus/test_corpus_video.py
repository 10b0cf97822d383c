"""Videos as frames and a sound, with every kind of broken video as a real file."""

from __future__ import annotations

import io
import random
import struct
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile
from corpus_videos import RATE, red_at, video
from PIL import Image

from aura.corpus import video as limits
from aura.corpus.directory import DirectorySource
from aura.corpus.errors import ItemChangedError
from aura.corpus.manifest import CorpusManifest
from aura.corpus.media import check_audio, check_image
from aura.corpus.rows import SetAsideError
from aura.corpus.video import MAX_FRAMES, video_frames, video_sound
from aura.corpus.video_containers import container_format
from aura.corpus.video_items import video_rows

pytest.importorskip("av", reason="the extra aura[video] is not installed")

WRITTEN = [
    ("mp4", "libx264", "aac"),
    ("mp4", "libx265", "libmp3lame"),
    ("mov", "mpeg4", "pcm_s16le"),
    ("matroska", "libx264", "flac"),
    ("matroska", "libsvtav1", "libopus"),
    ("webm", "libvpx-vp9", "libopus"),
    ("webm", "libvpx", "libopus"),
    ("avi", "mpeg4", "libmp3lame"),
    ("avi", "libx264", "pcm_s16le"),
]


@pytest.fixture(autouse=True)
def _nothing_kept():
    video_frames.cache_clear()
    video_sound.cache_clear()


def scan(root: Path, **options: int) -> CorpusManifest:
    return DirectorySource("here", root, **options).scan()


def usable(manifest: CorpusManifest) -> dict[str, str | None]:
    return {row["uri"]: row["group"] for row in manifest.table.to_pylist() if row["status"] == "ok"}


def reasons(manifest: CorpusManifest) -> dict[str, str]:
    return {row["uri"]: row["reason"] for row in manifest.set_aside().to_pylist()}


def opened(content: bytes) -> np.ndarray:
    check_image(content)
    with Image.open(io.BytesIO(content)) as image:
        assert image.mode == "RGB"
        return np.asarray(image)


def set_aside(content: bytes) -> str:
    with pytest.raises(SetAsideError) as caught:
        list(video_rows("a", content, None))
    return str(caught.value)


@pytest.mark.parametrize(("container", "codec", "sound"), WRITTEN)
def test_a_video_is_the_frames_in_the_middle_of_every_two_seconds_and_its_sound(container, codec, sound):
    content = video(container, codec, sound, frames=60)
    frames = video_frames(content)
    assert len(frames) == 3
    for frame, middle in zip(frames, (1, 3, 5), strict=True):
        assert abs(frame.milliseconds / 1000 - middle) <= 2 / RATE
        pixels = opened(frame.content)
        assert pixels.shape == (48, 64, 3)
        # AVI has no presentation times, so that FFmpeg guesses them; the encoders choose how exact colours are.
        off = 2 if container == "avi" else 0
        number = round(frame.milliseconds * RATE / 1000)
        assert red_at(number - off) - 12 < pixels[..., 0].mean() < red_at(number + off) + 12
        assert pixels[..., 1:].mean() < 12
    heard = video_sound(content)
    check_audio(heard.content)
    samples, rate = soundfile.read(io.BytesIO(heard.content))
    assert (rate, samples.ndim) == (48_000, 1)
    assert abs(len(samples) / rate - 6) < 0.1
    loudest = np.abs(np.fft.rfft(samples[: 48_000 * 2])).argmax() / 2
    assert loudest == pytest.approx(440, abs=1)


def test_the_frame_is_the_one_on_the_screen_at_that_time_and_the_same_every_time():
    content = video(frames=37, options={"g": "8", "bf": "2", "qp": "1"})
    frames = video_frames(content)
    assert [frame.milliseconds for frame in frames] == [900, 2_700]
    for frame in frames:
        assert opened(frame.content)[..., 0].mean() == pytest.approx(red_at(frame.milliseconds // 100), abs=2)
    video_frames.cache_clear()
    assert video_frames(content) == frames


@pytest.mark.parametrize(
    ("container", "codec", "options"),
    [
        ("mp4", "libx264", {"g": "4"}),
        ("mp4", "libx264", {"g": "1000", "sc_threshold": "0"}),
        ("mp4", "libx264", {"x264-params": "open-gop=1:keyint=25:bframes=3:scenecut=0"}),
        ("mp4", "libx264", {"x264-params": "intra-refresh=1:keyint=25:bframes=0"}),
        ("mp4", "libx265", {"x265-params": "open-gop=1:keyint=25:bframes=4:scenecut=0:log-level=none"}),
        ("webm", "libvpx-vp9", {"g": "25", "lag-in-frames": "16", "auto-alt-ref": "1"}),
        ("matroska", "libsvtav1", {"g": "25"}),
        ("avi", "mpeg4", {"g": "12", "bf": "2"}),
    ],
)
def test_entering_in_the_middle_gives_the_pixels_of_decoding_from_the_start(container, codec, options):
    import av

    content = video(container, codec, None, frames=200, options=options)
    with av.open(io.BytesIO(content)) as whole:
        shown = {round(frame.pts * frame.time_base * 1000): frame for frame in whole.decode(video=0)}
        expected = {time: shown[time].to_ndarray(format="rgb24") for time in shown}
    frames = video_frames(content)
    assert len(frames) == 10
    for frame in frames:
        assert np.abs(opened(frame.content).astype(int) - expected[frame.milliseconds]).max() <= 3


def test_a_long_video_has_no_more_frames_than_the_limit_spread_over_all_of_it():
    frames = video_frames(video(frames=2_000, size=(16, 16), sound=None))
    assert len(frames) == MAX_FRAMES
    gaps = np.diff([frame.milliseconds for frame in frames])
    assert gaps.min() >= 12_300
    assert gaps.max() <= 12_700


def test_one_frame_is_a_video():
    assert [frame.milliseconds for frame in video_frames(video(frames=1, sound=None))] == [0]


def test_a_variable_frame_rate_is_sampled_by_time():
    times = [*range(10), *range(40, 60, 5), 100]
    frames = video_frames(video("matroska", "libx264", None, times=times))
    # At 1, 3, 5, 7 and 9 s, where a picture stays until the next comes.
    assert [frame.milliseconds for frame in frames] == [900, 5_000, 5_500]


@pytest.mark.parametrize(
    ("codec", "pixels"),
    [("libx264", "yuv444p10le"), ("ffv1", "bgr0"), ("ffv1", "gray"), ("libx264", "yuv422p"), ("mjpeg", "yuvj420p")],
)
def test_every_pixel_format_becomes_rgb(codec, pixels):
    (frame,) = video_frames(video("matroska", codec, None, frames=3, pixels=pixels))
    red = opened(frame.content)[0, 0, 0]
    assert red == pytest.approx(red_at(1) if pixels != "gray" else 0.3 * red_at(1), abs=6)


@pytest.mark.parametrize("size", [(1_000, 600), (1_920, 1_080), (4_000, 16)])
def test_a_large_frame_is_scaled_down_in_its_proportions(size):
    (frame,) = video_frames(video(frames=1, size=size, sound=None))
    height, width, _ = opened(frame.content).shape
    assert width * height <= limits.MAX_FRAME_PIXELS
    if size[0] * size[1] > limits.MAX_FRAME_PIXELS:
        assert width * height > 0.98 * limits.MAX_FRAME_PIXELS
        assert width / height == pytest.approx(size[0] / size[1], rel=0.01)
    else:
        assert (width, height) == size


def turned(content: bytes) -> bytes:
    """The MP4 file with the matrix of a camera held upright: the picture is to be turned clockwise by 90 degrees."""
    changed = bytearray(content)
    matrix = changed.index(b"tkhd") + 4 + 40
    one = 1 << 16
    struct.pack_into(">9i", changed, matrix, 0, one, 0, -one, 0, 0, 48 * one, 0, 1 << 30)
    return bytes(changed)


def test_a_turned_camera_is_turned_back():
    import av

    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as out:
        stream = out.add_stream("libx264", rate=RATE, options={"qp": "1"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        pixels = np.zeros((48, 64, 3), np.uint8)
        pixels[:24, :32] = 255
        out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        out.mux(stream.encode())
    (frame,) = video_frames(turned(file.getvalue()))
    upright = opened(frame.content)
    assert upright.shape == (64, 48, 3)
    # Top left has gone to top right.
    assert upright[:30, 26:].min() > 200
    assert upright[34:].max() < 50


def test_several_channels_are_mixed_to_one():
    heard = video_sound(video(sound="pcm_s16le", container="mov", channels=2))
    assert soundfile.info(io.BytesIO(heard.content)).channels == 1


def test_the_items_of_a_video_are_one_group_and_read_back(tmp_path):
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "a.mp4").write_bytes(video(frames=60))
    source = DirectorySource("here", tmp_path)
    manifest = source.scan()
    uris = [f"films/a.mp4#{part}" for part in ("frame=0.900", "frame=2.900", "frame=4.900", "audio")]
    assert usable(manifest) == dict.fromkeys(uris, "films/a.mp4")
    assert manifest.items("image").num_rows == 3
    for modality in ("image", "audio"):
        for item in manifest.items(modality).to_pylist():
            assert item["label"] == "films"
            assert len(source.read(item["uri"], item["item_id"])) == item["bytes"]


def test_reading_one_frame_after_the_other_decodes_the_video_once(tmp_path):
    (tmp_path / "a.mp4").write_bytes(video(frames=100))
    source = DirectorySource("here", tmp_path)
    items = source.scan().items("image").to_pylist()
    video_frames.cache_clear()
    for item in items:
        source.read(item["uri"], item["item_id"])
    assert video_frames.cache_info().misses == 1
    assert video_frames.cache_info().hits == len(items) - 1


def test_an_item_of_a_video_that_changed_is_not_read(tmp_path):
    (tmp_path / "a.mp4").write_bytes(video())
    source = DirectorySource("here", tmp_path)
    item, *_ = source.scan().items("image").to_pylist()
    for content, fault in [
        (video(frames=30), "has no 'frame="),
        (video(size=(48, 48)), "is now [0-9a-f]{32}"),
        (b"no video", "none of MP4"),
    ]:
        (tmp_path / "a.mp4").write_bytes(content)
        with pytest.raises(ItemChangedError, match=fault):
            source.read(item["uri"], item["item_id"])
    (tmp_path / "a.mp4").write_bytes(video())
    with pytest.raises(ItemChangedError, match="has no ''"):
        source.read("a.mp4", item["item_id"])


def test_a_text_of_the_same_stem_joins_the_group_of_the_video(tmp_path):
    (tmp_path / "a.mp4").write_bytes(video(frames=10))
    (tmp_path / "a.txt").write_text("what is to be seen")
    assert usable(scan(tmp_path)) == dict.fromkeys(["a.mp4#audio", "a.mp4#frame=0.400", "a.txt"], "a")


def test_two_videos_of_one_stem_are_two_groups_and_one_item_is_none(tmp_path):
    (tmp_path / "a.mp4").write_bytes(video(frames=10))
    (tmp_path / "a.webm").write_bytes(video("webm", "libvpx", "libopus", frames=10))
    (tmp_path / "b.mp4").write_bytes(video(frames=10, sound=None))
    assert set(usable(scan(tmp_path)).values()) == {"a.mp4", "a.webm", None}
    assert usable(scan(tmp_path))["b.mp4#frame=0.400"] is None


def test_a_row_of_a_table_names_a_video(tmp_path):
    (tmp_path / "a.mp4").write_bytes(video(frames=10))
    (tmp_path / "rows.csv").write_text("text,video,label\na film,a.mp4,red\n")
    rows = scan(tmp_path).table.to_pylist()
    assert {(row["group"], row["label"]) for row in rows} == {("rows.csv#0", "red")}
    assert len(rows) == 3


def test_max_items_bounds_the_items_of_a_video(tmp_path):
    (tmp_path / "a.mp4").write_bytes(video(frames=100))
    assert list(usable(scan(tmp_path, max_items=2))) == ["a.mp4#frame=0.900", "a.mp4#frame=2.900"]


def test_sound_alone_and_pictures_alone_are_listed(tmp_path):
    (tmp_path / "heard.mp4").write_bytes(video(codec=None, frames=10))
    (tmp_path / "seen.mp4").write_bytes(video(sound=None, frames=10))
    manifest = scan(tmp_path)
    assert list(usable(manifest)) == ["heard.mp4#audio", "seen.mp4#frame=0.400"]
    assert reasons(manifest) == {}


def test_without_pyav_a_video_is_set_aside_with_the_remedy(tmp_path, monkeypatch):
    content = video(frames=10)
    (tmp_path / "a.mp4").write_bytes(content)
    (tmp_path / "b.txt").write_text("text")
    monkeypatch.setitem(sys.modules, "av", None)
    manifest = scan(tmp_path)
    assert list(usable(manifest)) == ["b.txt"]
    assert reasons(manifest) == {"a.mp4": "video is not read without PyAV; install the extra aura[video]"}


@pytest.mark.parametrize(("container", "codec", "sound"), WRITTEN)
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.95])
def test_a_cut_video_is_truncated(container, codec, sound, kept):
    content = video(container, codec, sound, frames=30)
    assert "undecodable: truncated video" in set_aside(content[: int(kept * len(content))])


def test_empty_foreign_and_playlist_files_are_set_aside(tmp_path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.avi").write_text("no video")
    (tmp_path / "list.mkv").write_text("#EXTM3U\n#EXTINF:1,\nhttp://localhost/a.ts\n")
    (tmp_path / "large.mov").write_bytes(b"x" * 2_000)
    kinds = "undecodable: none of MP4, QuickTime, Matroska, WebM, AVI"
    found = reasons(scan(tmp_path, max_bytes=1_000))
    assert found.pop("large.mov").startswith("oversized")
    assert found == {"empty.mp4": "empty", "list.mkv": kinds, "text.avi": kinds}


def test_the_container_counts_and_not_the_suffix(tmp_path):
    (tmp_path / "a.mp4").write_bytes(video("matroska", frames=10, sound=None))
    assert list(usable(scan(tmp_path))) == ["a.mp4#frame=0.400"]


def test_a_camera_makers_trailer_does_not_make_a_video_truncated():
    content = video(frames=10)
    assert container_format(content + b"\0\0\0\x08SEFH" + b"\xff" * 50) == "mov"
    assert video_frames(content + b"\0\0\0\x08SEFH" + b"\xff" * 50) == video_frames(content)


def test_a_matroska_file_of_unknown_length_passes():
    content = bytearray(video("matroska", frames=10))
    size = content.index(b"\x18\x53\x80\x67") + 4
    content[size : size + 8] = b"\x01" + b"\xff" * 7
    assert container_format(bytes(content)) == "matroska"
    assert len(video_frames(bytes(content))) == 1


def test_pictures_beyond_the_limit_are_a_bomb_and_the_sound_stays(monkeypatch):
    monkeypatch.setattr(limits, "MAX_PICTURE_PIXELS", 1_000)
    content = video(frames=10)
    rows = {row.uri: row.reason for row in video_rows("a.mp4", content, None)}
    assert rows == {
        "a.mp4#frames": "undecodable: decompression bomb (64 x 48 pixels, the limit is 1000)",
        "a.mp4#audio": None,
    }
    assert "decompression bomb" in set_aside(video(frames=10, sound=None))


@pytest.mark.parametrize(("container", "codec"), [("mp4", "libx264"), ("matroska", "mjpeg"), ("avi", "mpeg4")])
def test_a_real_bomb_is_refused(container, codec):
    pixels = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    content = video(container, codec, None, frames=1, size=(8_100, 2_100), pixels=pixels)
    assert len(content) < 10**6
    assert "decompression bomb" in set_aside(content)


def test_pictures_that_grow_on_the_way_are_refused(monkeypatch):
    small, large = (
        video("matroska", "mjpeg", None, frames=30, size=size, pixels="yuvj420p") for size in ((64, 48), (640, 480))
    )
    monkeypatch.setattr(limits, "MAX_PICTURE_PIXELS", 64 * 48)
    with pytest.raises(SetAsideError, match="decompression bomb"):
        video_frames(large)
    grown = swap_pictures(small, large)
    assert "undecodable" in set_aside(grown)


def swap_pictures(start: bytes, end: bytes) -> bytes:
    """An MJPEG file whose later pictures are those of another one, of another size than its header says."""
    import av

    file = io.BytesIO()
    with av.open(io.BytesIO(start)) as first, av.open(io.BytesIO(end)) as second, av.open(file, "w", "matroska") as out:
        stream = out.add_stream_from_template(first.streams.video[0])
        for source, half in ((first, range(10)), (second, range(10, 30))):
            for number, packet in enumerate(source.demux(video=0)):
                if number in half and packet.size:
                    packet.stream = stream
                    out.mux(packet)
    return file.getvalue()


def test_limits_of_work_are_reasons(monkeypatch):
    content = video(frames=40)
    monkeypatch.setattr(limits, "MAX_DECODED_PIXELS", 10 * 64 * 48)
    with pytest.raises(SetAsideError, match="2 frames need more than 30720 decoded pixels"):
        video_frames(content)
    monkeypatch.setattr(limits, "MAX_PACKETS", 30)
    assert set_aside(content) == "oversized: more than 30 packets"


def test_a_long_sound_is_cut_and_says_so(monkeypatch):
    monkeypatch.setattr(limits, "MAX_SOUND_SAMPLES", 96_000)
    content = video(frames=40)
    rows = {row.uri: row.reason for row in video_rows("a.mp4", content, None)}
    assert rows["a.mp4#audio"] is None
    assert rows["a.mp4#audio-rest"] == "oversized: the sound is cut after 2.0 s"
    assert soundfile.info(io.BytesIO(video_sound(content).content)).frames == 96_000


def test_a_codec_that_is_not_read_is_named():
    assert "undecodable: the codec snow is not read" in set_aside(
        video("avi", "snow", None, frames=3, options={"strict": "-2"})
    )


@pytest.mark.parametrize(("container", "codec", "sound"), WRITTEN)
def test_a_damaged_video_gives_items_or_a_reason_and_nothing_else_escapes(container, codec, sound):
    content = video(container, codec, sound, frames=25)
    chance = random.Random(0)
    for _ in range(40):
        changed = bytearray(content)
        for _ in range(chance.randint(1, 6)):
            changed[int(chance.random() ** chance.choice([1, 3]) * len(changed))] = chance.choice(
                [0, 255, chance.randrange(256)]
            )
        with suppress(SetAsideError):
            for row in video_rows("a", bytes(changed), None):
                assert (row.item_id is None) == (row.reason is not None)
