"""A video file as the items that it holds: frames as PNG images and its sound as a WAV file, decoded by FFmpeg.

Belongs here: which frames stand for a video, decoding them without decoding the rest, limits. Does not: containers
(`aura.corpus.video_containers`), uris and manifest rows.

Needs PyAV (the extra aura[video]), whose wheel carries FFmpeg. The same file gives the same bytes with the same build
of it on processors of the same kind.
"""

from __future__ import annotations

import io
import itertools
import wave
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from PIL import Image

from aura.corpus.rows import SetAsideError
from aura.corpus.video_containers import container_format

if TYPE_CHECKING:
    from av.audio.codeccontext import AudioCodecContext
    from av.codec.context import CodecContext
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.codeccontext import VideoCodecContext
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_Context = TypeVar("_Context", bound="CodecContext")

FRAME_SECONDS = 2
"""One frame is taken per so many seconds, in the middle of them; most shots last longer."""
MAX_FRAMES = 16
"""Most frames of one video, so that a long one does not drown the others; spread over all of it."""
MAX_FRAME_PIXELS = 2**19
"""A larger frame is scaled down to this: 965 x 543 of a wide screen, above the 512 x 512 that the largest image models
see. The frames of a video are 24 MiB at most."""
MAX_PICTURE_PIXELS = 2**24
"""A video of larger pictures is set aside; 5120 x 2880 still passes. A decoder holds up to 17 of them."""
MAX_PACKETS = 2**19
"""Most packets of a file: 90 minutes of 30 pictures and 47 blocks of sound a second have 415,800."""
MAX_DECODED_PIXELS = 2**34
"""Most pixels decoded for one video: 8,000 pictures of 1920 x 1080, where 16 frames need 4,000 if a stream can be
entered every 250."""
MAX_SOUND_SAMPLES = 2**24
"""The sound is cut here, after 5.8 minutes at 48 kHz, where its WAV file has 32 MiB."""

# fmt: off
_DECODERS = frozenset((
    "h264", "hevc", "libdav1d", "av1", "vp8", "libvpx", "vp9", "libvpx-vp9", "mpeg4", "msmpeg4v1", "msmpeg4v2",
    "msmpeg4", "mpeg1video", "mpeg2video", "h263", "mjpeg", "theora", "prores", "dnxhd", "ffv1", "huffyuv", "rawvideo",
    "png", "vc1", "wmv3", "aac", "mp2", "mp2float", "mp3", "mp3float", "opus", "libopus", "vorbis", "flac", "alac",
    "ac3", "eac3", "amrnb", "amrwb", "adpcm_ima_wav", "adpcm_ima_qt", "adpcm_ms", "pcm_u8", "pcm_s8", "pcm_s16le",
    "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_s32le", "pcm_s32be", "pcm_f32le", "pcm_f32be", "pcm_f64le",
    "pcm_f64be", "pcm_alaw", "pcm_mulaw",
))
# fmt: on
"""What cameras, phones and browsers write; FFmpeg's hundreds of others are seldom used and seldom tested."""


@dataclass(frozen=True)
class Frame:
    """One frame: its presentation time and its PNG bytes."""

    milliseconds: int
    content: bytes


@dataclass(frozen=True)
class Sound:
    """The sound as the bytes of a WAV file (one channel, 16 bit, own rate), cut after `cut_seconds` if that is set."""

    content: bytes
    cut_seconds: float | None = None


@lru_cache(maxsize=1)
def video_frames(content: bytes) -> tuple[Frame, ...]:
    """The frames that stand for a video, by time; none if the file has no video.

    The last video's are kept, so that reading one frame after the other decodes it once.

    Raises:
        SetAsideError: PyAV is missing, or the video is damaged or beyond the limits.
    """
    with _opened(content) as container:
        stream = next((one for one in container.streams.video if not _is_cover(one)), None)
        if stream is None:
            return ()
        context = _ready(stream.codec_context, {"max_pixels": str(MAX_PICTURE_PIXELS)})
        if not 0 < context.width * context.height <= MAX_PICTURE_PIXELS:
            # FFmpeg has forgotten the size that it refused, or never found one.
            size = f"{context.width} x {context.height}" if context.width else "an unknown number of"
            raise SetAsideError(f"undecodable: decompression bomb ({size} pixels, the limit is {MAX_PICTURE_PIXELS})")
        packets = list(_packets(container, stream.index, len(content)))
        base = Fraction(stream.time_base or 1)
        frames: dict[int, Frame] = {}
        for time, frame in _decoded(context, packets, _spread(packets, base)):
            milliseconds = round(time * base * 1000)
            frames.setdefault(milliseconds, Frame(milliseconds, _png(frame)))
    if not frames:
        raise SetAsideError("empty: no video frames")
    return tuple(frames.values())


@lru_cache(maxsize=1)
def video_sound(content: bytes) -> Sound | None:
    """The sound of a video as one channel, None if it has none; the last video's is kept.

    Raises:
        SetAsideError: PyAV is missing, or the sound is damaged or beyond the limits.
    """
    with _opened(content) as container:
        stream = next(iter(container.streams.audio), None)
        if stream is None:
            return None
        context = _ready(stream.codec_context, {})
        packets = _packets(container, stream.index, len(content))
        pieces, samples, rate = [], 0, 0
        for piece, own_rate in _samples(context, packets):
            pieces.append(piece)
            samples, rate = samples + len(piece), own_rate
            if samples > MAX_SOUND_SAMPLES:
                break
    if not samples:
        raise SetAsideError("empty: no audio frames")
    cut = MAX_SOUND_SAMPLES / rate if samples > MAX_SOUND_SAMPLES else None
    return Sound(_wav(np.concatenate(pieces)[:MAX_SOUND_SAMPLES], rate), cut)


@contextmanager
def _opened(content: bytes) -> Iterator[InputContainer]:
    """The container; whatever FFmpeg finds wrong inside the block is the reason to set the video aside."""
    name = container_format(content)
    try:
        import av
    except ImportError as error:
        raise SetAsideError("video is not read without PyAV; install the extra aura[video]") from error
    # FFmpeg decodes a picture already where it opens a file.
    limits = {"codec_whitelist": ",".join(sorted(_DECODERS)), "max_pixels": str(MAX_PICTURE_PIXELS)}
    try:
        with av.open(
            io.BytesIO(content), "r", name, options=limits, metadata_errors="replace", io_open=_refuse
        ) as container:
            yield container
    except (av.FFmpegError, ValueError, ArithmeticError, LookupError, TypeError, MemoryError) as error:
        raise SetAsideError(f"undecodable: broken video ({getattr(error, 'strerror', error)})") from error


def _refuse(url: str, *_: object) -> None:
    raise ValueError(f"it refers to {url}")


def _is_cover(stream: VideoStream) -> bool:
    from av.stream import Disposition

    return bool(stream.disposition & Disposition.attached_pic)


def _ready(context: _Context, options: dict[str, str]) -> _Context:
    """A decoder that may be used, before it is opened.

    A stream whose codec FFmpeg does not have is without a decoder, which the type does not say.
    """
    name = getattr(context, "name", "that it was written with")
    if name not in _DECODERS:
        raise SetAsideError(f"undecodable: the codec {name} is not read")
    context.options = options
    # One picture more in memory for each thread, on a machine of 64 cores too.
    context.thread_count = 1
    return context


def _packets(container: InputContainer, stream: int, size: int) -> Iterator[Packet[Any]]:
    """The packets of one stream; all of the file's are counted, and the bytes, since an index may point in circles."""
    held = 0
    for number, packet in enumerate(container.demux()):
        held += packet.size
        if number > MAX_PACKETS:
            raise SetAsideError(f"oversized: more than {MAX_PACKETS} packets")
        if held > 2 * size:
            raise SetAsideError("undecodable: broken video (its packets are larger than the file)")
        if packet.is_corrupt:
            raise SetAsideError(f"undecodable: broken video (packet {number} is cut)")
        if packet.stream_index == stream and packet.size:
            yield packet


def _time(packet: Packet[Any]) -> int | None:
    return packet.dts if packet.pts is None else packet.pts


def _spread(packets: Sequence[Packet[Any]], base: Fraction) -> list[int]:
    """The presentation times of the frames on the screen in the middle of equal parts of the video."""
    times = sorted({time for time in map(_time, packets) if time is not None})
    if not times:
        return []
    length = times[-1] - times[0]
    count = min(MAX_FRAMES, max(1, -(-length * base // FRAME_SECONDS)))
    middles = (times[0] + Fraction(length * (2 * part + 1), 2 * count) for part in range(count))
    return sorted({times[bisect_right(times, middle) - 1] for middle in middles})


def _decoded(
    context: VideoCodecContext, packets: Sequence[Packet[Any]], times: Sequence[int]
) -> Iterator[tuple[int, VideoFrame]]:
    """The frame at each time, or the next that there is, with its own time.

    Decoding starts at the last entry before a time, unless it is beyond that entry already.
    """
    places = {_time(packet): place for place, packet in enumerate(packets)}
    entries = [(_time(packet), place) for place, packet in enumerate(packets) if packet.is_keyframe]
    decoded: Iterator[tuple[int, int, VideoFrame]] = iter(())
    done, shown, pixels = -1, times[0] - 1 if times else 0, 0
    for time in times:
        before = (place for at, place in entries if at is not None and at <= time and place <= places[time])
        entry = max(before, default=0)
        if entry > done:
            context.flush_buffers()
            decoded = _decode(context, packets, entry)
        while shown < time:
            following = next(decoded, None)
            if following is None:
                return
            done, shown, frame = following
            pixels += frame.width * frame.height
            if pixels > MAX_DECODED_PIXELS:
                raise SetAsideError(
                    f"oversized: {len(times)} frames need more than {MAX_DECODED_PIXELS} decoded pixels"
                )
        if frame.is_corrupt:
            raise SetAsideError(f"undecodable: broken video (the frame at {float(frame.time):.3f} s is damaged)")
        yield shown, frame


def _decode(
    context: VideoCodecContext, packets: Sequence[Packet[Any]], entry: int
) -> Iterator[tuple[int, int, VideoFrame]]:
    """The frames from one entry on: the place of the last packet that was decoded for it, its time, and the frame."""
    for place in itertools.count(entry):
        packet = packets[place] if place < len(packets) else None
        for frame in context.decode(packet):
            if frame.pts is not None:
                yield place, frame.pts, frame
        if packet is None:
            return


def _png(frame: VideoFrame) -> bytes:
    """A frame as RGB, scaled down to the limit and turned as the camera says, in stored (uncompressed) blocks."""
    from av.video.reformatter import Interpolation

    scale = min(1.0, (MAX_FRAME_PIXELS / (frame.width * frame.height)) ** 0.5)
    width = max(1, int(frame.width * scale))
    height = min(max(1, int(frame.height * scale)), max(1, MAX_FRAME_PIXELS // width))
    exact = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
    pixels = frame.reformat(width, height, "rgb24", interpolation=exact).to_ndarray()
    buffer = io.BytesIO()
    turned = np.rot90(pixels, round(frame.rotation / 90))
    Image.fromarray(np.ascontiguousarray(turned)).save(buffer, format="PNG", compress_level=0)
    return buffer.getvalue()


def _samples(context: AudioCodecContext, packets: Iterator[Packet[Any]]) -> Iterator[tuple[np.ndarray, int]]:
    """Pieces of the sound as int16[n], mixed to one channel, each with the number of samples a second."""
    from av.audio.resampler import AudioResampler

    mixer = AudioResampler(format="s16", layout="mono")
    for packet in itertools.chain(packets, (None,)):
        for frame in context.decode(packet):
            for mixed in mixer.resample(frame):
                yield mixed.to_ndarray().reshape(-1), mixed.sample_rate


def _wav(samples: np.ndarray, rate: int) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(rate)
        sound.writeframes(samples.astype("<i2").tobytes())
    return buffer.getvalue()
