"""Peak memory while a corpus streams through an encoder, in a process of its own: flat from N to 4 N items.

Windows of 256 items come from a generator, each is encoded and its vectors are dropped, as a caller that writes them
away would do. What counts is the largest resident set that the kernel saw.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from report import Figure, figure, tell

from embedding_figures.images import save_clip

WINDOW = 256
FIRST = {"texts": 512, "images": 256}
GOAL = 1.1

STREAM = """
import sys
sys.path.insert(0, sys.argv[4])
kind, directory, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
if kind == "texts":
    from embedding_figures.text import python_texts
    from aura.embeddings.text import open_text_encoder
    encoder, items = open_text_encoder(device="cpu"), python_texts(512)
else:
    from embedding_figures.images import pictures
    from aura.embeddings.image import open_image_encoder
    encoder, items = open_image_encoder(directory, device="cpu"), pictures(64)
windows = ([items[i % len(items)] for i in range(at, min(at + WINDOW, count))] for at in range(0, count, WINDOW))
encoded = sum(len(encoder.encode(window).vectors) for window in windows)
assert encoded == count, encoded
# What `getrusage` tells includes the process that started this one.
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(int(peak.split()[1]) / 1024)
""".replace("WINDOW", str(WINDOW))


def figures(data: Path | None, runs: int) -> list[Figure]:
    """All rows about memory."""
    del data, runs
    found: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="aura-memory-") as home:
        save_clip(Path(home))
        for kind, first in FIRST.items():
            peaks = []
            for count in (first, 4 * first):
                tell(f"peak memory of {count} {kind}")
                peaks.append(peak(kind, home, count))
                found.append(figure(f"peak memory, {count} {kind}", [peaks[-1]], "MiB"))
            grown = [peaks[1] / peaks[0]]
            found.append(figure(f"peak memory, 4 times the {kind}", grown, "ratio", against=f"{first}", goal=GOAL))
    return found


def peak(kind: str, directory: str, count: int) -> float:
    """MiB of the largest resident set of a process that encodes a stream."""
    here = str(Path(__file__).resolve().parents[1])
    command = [sys.executable, "-c", STREAM, kind, directory, str(count), here]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode:
        raise RuntimeError(f"the stream of {kind} failed: {finished.stderr[-2000:]}")
    return float(finished.stdout.split()[-1])
