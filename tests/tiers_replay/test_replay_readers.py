"""Trace files are read as their formats say, and a damaged one says where."""

from __future__ import annotations

import gzip
import json
import lzma
from pathlib import Path

import numpy as np
import pytest

from aura.tiers.replay.readers import TraceError, read_trace
from aura.tiers.replay.trace import Trace

ROUTES = """# route_trace v1
# layer=0 expert_bytes=300 dense_bytes=1
# layer=1 expert_bytes=200 dense_bytes=1
turn,phase,step,layer,slot,expert,weight,residency,expert_bytes
0,0,0,0,0,7,0.5,0,300
0,0,0,0,1,8,0.5,0,300
0,0,1,0,0,7,0.5,0,300
0,0,0,1,0,7,0.5,0,200
0,1,0,0,0,7,0.5,1,0
0,1,0,1,0,9,0.5,1,0
0,1,1,0,0,7,0.5,1,0
"""


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def keys(*pairs: tuple[int, int]) -> list[int]:
    return [layer << 32 | expert for layer, expert in pairs]


def test_an_expert_is_one_access_per_batch_and_a_prefill_batch_spans_the_steps(tmp_path):
    trace = read_trace(written(tmp_path / "small.route.csv", ROUTES))
    assert trace.name == "small"
    assert trace.ids.tolist() == keys((0, 7), (0, 8), (1, 7), (0, 7), (1, 9), (0, 7))
    assert trace.sizes.tolist() == [300, 300, 200, 300, 200, 300]


def test_decoding_leaves_the_prefill_out(tmp_path):
    trace = read_trace(written(tmp_path / "small.route.csv", ROUTES), layout="decoding")
    assert trace.ids.tolist() == keys((0, 7), (1, 9), (0, 7))


def test_the_blocks_of_requests_follow_each_other(tmp_path):
    lines = [json.dumps({"timestamp": 0, "hash_ids": blocks}) for blocks in ([0, 1, 2], [], [0, 3])]
    trace = read_trace(written(tmp_path / "blocks.jsonl", "\n".join(lines) + "\n"))
    assert trace.ids.tolist() == [0, 1, 2, 0, 3]
    assert trace.sizes is None


@pytest.mark.parametrize(("dtype", "most"), [(">i8", 2**62), (">i4", 2**31), (">i8", 5000), (">i4", 500)])
@pytest.mark.parametrize(("suffix", "compress"), [("", bytes), (".xz", lzma.compress), (".gz", gzip.compress)])
def test_the_width_of_binary_keys_is_found_by_which_recur(tmp_path, dtype, most, suffix, compress):
    random = np.random.default_rng(7)
    ids = random.choice(random.integers(-most if most > 5000 else 0, most, 300), 4000).astype(dtype)
    trace = read_trace(written(tmp_path / f"binary.trace{suffix}", compress(ids.tobytes())))
    assert trace.ids.tolist() == ids.tolist()


def test_text_has_keys_with_or_without_sizes(tmp_path):
    assert read_trace(written(tmp_path / "a.txt", "# made by hand\n5\n6\n\n5\n")).ids.tolist() == [5, 6, 5]
    sized = read_trace(written(tmp_path / "b.txt", "5,10\n6,20\n"))
    assert (sized.ids.tolist(), sized.sizes.tolist()) == ([5, 6], [10, 20])


@pytest.mark.parametrize("layout", ["int64", "text", "blocks", "routes"])
def test_a_limit_ends_the_reading_before_what_comes_later(tmp_path, layout):
    contents = {
        "int64": np.arange(9, dtype=">i8").tobytes() + b"rest",
        "text": "0\n1\n2\nbroken\n",
        "blocks": '{"hash_ids": [0, 1, 2]}\nbroken\n',
        "routes": ROUTES + "broken\n",
    }
    trace = read_trace(written(tmp_path / "trace", contents[layout]), layout=layout, limit=3)
    assert len(trace) == 3


@pytest.mark.parametrize(
    ("content", "layout", "says"),
    [
        (ROUTES + "0,1,2,0\n", None, "line 12: 4 fields, expected 9"),
        (
            ROUTES + "0,1,2,0,0,x,0.5,1,0\n",
            None,
            "line 12: '0,1,2,0,0,x,0.5,1,0' does not begin with six whole numbers",
        ),
        (ROUTES + "0,1,2,5,0,1,0.5,1,0\n", None, "line 12: layer 5 has no line"),
        ("# route_trace v1\nturn,phase\n", None, "line 2: the columns do not begin with turn,phase,step"),
        ("# route_trace v1\n# layer=0 expert_bytes=many\n", None, "line 2: .* no whole number"),
        ("# route_trace v1\n# layer=0 expert_bytes=0\n", None, "line 2: the experts of layer 0 have 0 bytes"),
        ('{"hash_ids": [1]}\n{"hash_ids": [1\n', None, "line 2: not JSON"),
        ('{"hash_ids": [1]}\n{"blocks": [1]}\n', None, 'line 2: no whole numbers under "hash_ids"'),
        ('{"hash_ids": [1.5]}\n', None, 'line 1: no whole numbers under "hash_ids"'),
        ("1\ntwo\n", None, "line 2: 'two' is not"),
        ("1,0\n", None, "line 1: '1,0' is not .* positive bytes"),
        ("1,2,3\n", None, "line 1"),
        ("1\n2,5\n", None, "gives a size for 1 of 2 accesses"),
        (f"{2**70}\n", None, "does not fit 64 bits"),
        (b"\xff\xfe\n", "text", "line 1: not UTF-8"),
        (b"\x00" * 20, "int64", "4 bytes after byte 16 are no key of 8 bytes"),
        ("", None, "is empty"),
        ("# nothing\n", None, "holds no access"),
    ],
)
def test_a_damaged_trace_is_refused_with_its_file_and_place(tmp_path, content, layout, says):
    path = written(tmp_path / "damaged.trace", content)
    with pytest.raises(TraceError, match=says) as caught:
        read_trace(path, layout=layout)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(("suffix", "compress"), [(".xz", lzma.compress), (".gz", gzip.compress)])
def test_a_truncated_compressed_trace_is_refused(tmp_path, suffix, compress):
    data = compress(np.random.default_rng(1).bytes(40_000))
    with pytest.raises(TraceError, match="compressed data cannot be read"):
        read_trace(written(tmp_path / f"cut.trace{suffix}", data[: len(data) // 2]))


def test_a_missing_file_is_an_error_of_the_system(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent"):
        read_trace(tmp_path / "absent")


def test_a_trace_knows_its_objects_and_when_each_is_used_next():
    trace = Trace("hand", np.array([3, 5, 3, 4, 5]), np.array([10, 20, 10, 7, 20]))
    assert (trace.unique, trace.footprint) == (3, 37)
    assert trace.next_uses().tolist() == [2, 4, 5, 5, 5]


@pytest.mark.parametrize("sizes", [[1, 2], [[1, 1, 1]], [1, 0, 1]])
def test_a_trace_refuses_sizes_that_do_not_fit_its_keys(sizes):
    with pytest.raises(ValueError, match="trace hand"):
        Trace("hand", np.array([1, 2, 3]), np.array(sizes))
