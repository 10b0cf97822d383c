"""Real videos, written by PyAV: what is on the screen and in the sound is known for every moment."""

from __future__ import annotations

import io
from fractions import Fraction

import numpy as np

RATE = 10
"""Frames per second."""


def red_at(frame: int) -> int:
    """How red the whole picture of a frame is; green and blue are not there."""
    return 40 + 3 * frame % 210


def video(
    container: str = "mp4",
    codec: str | None = "libx264",
    sound: str | None = "aac",
    *,
    frames: int = 40,
    size: tuple[int, int] = (64, 48),
    pixels: str = "yuv420p",
    times: list[int] | None = None,
    channels: int = 1,
    options: dict[str, str] | None = None,
) -> bytes:
    """A video of `frames` pictures, each of one colour, with a tone of 440 Hz as long as they last.

    `times` are the presentation times of the frames in units of 1 / `RATE` s, one after the other if None; `options`
    are those of the video encoder.
    """
    import av

    file = io.BytesIO()
    times = list(range(frames)) if times is None else times
    with av.open(file, "w", format=container) as out:
        pictures = None
        if codec is not None:
            pictures = out.add_stream(codec, rate=RATE, options=options or {})
            pictures.width, pictures.height = size
            pictures.pix_fmt = pixels
        tone = None if sound is None else out.add_stream(sound, rate=48_000, layout=["mono", "stereo"][channels - 1])
        if pictures is not None:
            for number, time in enumerate(times):
                frame = av.VideoFrame.from_ndarray(picture(size, number), format="rgb24")
                frame.pts, frame.time_base = time, Fraction(1, RATE)
                out.mux(pictures.encode(frame))
            out.mux(pictures.encode())
        if tone is not None:
            samples = 0.5 * np.sin(2 * np.pi * 440 * np.arange(48_000 * len(times) // RATE) / 48_000)
            both = np.repeat((samples * 32_767).astype(np.int16), channels)[None]
            frame = av.AudioFrame.from_ndarray(both, format="s16", layout=["mono", "stereo"][channels - 1])
            frame.sample_rate, frame.pts = 48_000, 0
            out.mux(tone.encode(frame))
            out.mux(tone.encode())
    return file.getvalue()


def picture(size: tuple[int, int], number: int) -> np.ndarray:
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    pixels[..., 0] = red_at(number)
    return pixels
