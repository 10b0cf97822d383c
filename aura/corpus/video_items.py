"""The items of a video file: their uris, their rows, and how one is found again.

Belongs here: "clip.mp4#frame=1.500" for the frame at 1.5 s and "clip.mp4#audio" for the sound. Does not: decoding
(`aura.corpus.video`) and groups (`aura.corpus.groups`).
"""

from __future__ import annotations

from collections.abc import Iterator

from aura.corpus.rows import ManifestRow, Modality, SetAsideError, content_id, set_aside_row
from aura.corpus.video import Frame, Sound, video_frames, video_sound

_AUDIO = "audio"


def video_rows(uri: str, content: bytes, label: str | None) -> Iterator[ManifestRow]:
    """The frames by time and the sound of a video, or of the two the one that can be used and why the other cannot.

    Raises:
        SetAsideError: neither can be used.
    """
    frames, frames_fault = _frames_or_fault(content)
    sound, sound_fault = _sound_or_fault(content)
    if not frames and sound is None:
        faults = dict.fromkeys(fault for fault in (frames_fault, sound_fault) if fault)
        raise SetAsideError("; ".join(faults) or "empty: neither video frames nor sound")
    for frame in frames:
        yield _row(f"{uri}#{_fragment(frame)}", "image", frame.content, label)
    if frames_fault is not None:
        yield set_aside_row(f"{uri}#frames", frames_fault, modality="image")
    if sound is not None:
        yield _row(f"{uri}#{_AUDIO}", "audio", sound.content, label)
        if sound.cut_seconds is not None:
            reason = f"oversized: the sound is cut after {sound.cut_seconds:.1f} s"
            yield set_aside_row(f"{uri}#{_AUDIO}-rest", reason, modality="audio")
    if sound_fault is not None:
        yield set_aside_row(f"{uri}#{_AUDIO}", sound_fault, modality="audio")


def video_item(content: bytes, fragment: str) -> bytes:
    """The bytes of the item that is called `fragment` in a video.

    Raises:
        SetAsideError: the video has no such item, or cannot be decoded.
    """
    if fragment == _AUDIO:
        sound = video_sound(content)
        found = None if sound is None else sound.content
    else:
        found = next((frame.content for frame in video_frames(content) if _fragment(frame) == fragment), None)
    if found is None:
        raise SetAsideError(f"the video has no {fragment!r}")
    return found


def _fragment(frame: Frame) -> str:
    return f"frame={frame.milliseconds / 1000:.3f}"


def _frames_or_fault(content: bytes) -> tuple[tuple[Frame, ...], str | None]:
    try:
        return video_frames(content), None
    except SetAsideError as error:
        return (), str(error)


def _sound_or_fault(content: bytes) -> tuple[Sound | None, str | None]:
    try:
        return video_sound(content), None
    except SetAsideError as error:
        return None, str(error)


def _row(uri: str, modality: Modality, content: bytes, label: str | None) -> ManifestRow:
    return ManifestRow(uri, modality, content_id(content), label, size=len(content))
