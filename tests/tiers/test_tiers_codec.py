"""The codec gives back what it was given, byte for byte the same each time, and notices every flipped bit."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from aura.tiers.codec import HEADER_BYTES, Encoded, Header, Kind, decode, encode
from aura.tiers.errors import CorruptObjectError, InvalidPartError

DTYPES = ["bool", "uint8", "int16", "float16", "uint32", "float32", "int64", ">f4", "float64", "complex64"]
arrays = st.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
)
tensors = st.dictionaries(
    st.text('ab"\\é λ_', max_size=8).filter(lambda name: name != "__metadata__"), arrays, max_size=4
)
tables = st.lists(st.tuples(st.integers(-(2**40), 2**40), st.text("abé", max_size=5), st.floats(allow_nan=False))).map(
    lambda rows: pa.table(
        {"n": pa.array([r[0] for r in rows], pa.int64()), "s": [r[1] for r in rows] or pa.array([], pa.string())}
    ).replace_schema_metadata({b"aura": b'{"rows": %d}' % len(rows)})
)


@given(st.binary(max_size=200))
def test_bytes_come_back_as_they_were(part):
    assert decode(encode(part), "k") == part


@given(tensors)
def test_arrays_come_back_with_shape_dtype_and_bits(part):
    back = decode(encode(part), "k")
    assert set(back) == set(part)
    for name, array in part.items():
        assert back[name].dtype == array.dtype.newbyteorder("<")
        assert back[name].shape == array.shape
        np.testing.assert_array_equal(back[name], array)
        assert not back[name].flags.writeable


@given(tables)
def test_tables_come_back_with_their_metadata(part):
    back = decode(encode(part), "k")
    assert back.equals(part, check_metadata=True)


@given(tensors)
def test_equal_arrays_in_another_order_give_equal_bytes(part):
    turned = dict(reversed(part.items()))
    assert encode(turned) == encode(part)


@given(tensors.filter(lambda part: all(a.dtype.name != "complex64" for a in part.values())))
def test_the_safetensors_library_reads_what_we_write(part):
    back = safetensors.numpy.load(bytes(encode(part).payload))
    assert set(back) == set(part)
    for name, array in part.items():
        np.testing.assert_array_equal(back[name], array)


def test_we_read_what_the_safetensors_library_writes():
    part = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(3, np.float16)}
    payload = safetensors.numpy.save(part)
    header = encode(part).header
    back = decode(Encoded(Header(Kind.TENSORS, len(payload), _checksum_of(payload)), payload), "k")
    assert header.kind is Kind.TENSORS
    np.testing.assert_array_equal(back["w"], part["w"])
    np.testing.assert_array_equal(back["b"], part["b"])


def _checksum_of(payload: bytes) -> int:
    import xxhash

    return xxhash.xxh3_64_intdigest(payload, seed=Kind.TENSORS << 56 ^ len(payload))


def test_a_view_that_is_not_contiguous_is_stored_by_value():
    part = {"t": np.arange(12).reshape(3, 4).T[::2]}
    np.testing.assert_array_equal(decode(encode(part), "k")["t"], part["t"])


@settings(max_examples=200)
@given(st.one_of(st.binary(min_size=1, max_size=100), tensors, tables), st.data())
def test_one_flipped_bit_in_the_payload_is_noticed(part, data):
    encoded = encode(part)
    damaged = bytearray(encoded.payload)
    bit = data.draw(st.integers(0, len(damaged) * 8 - 1))
    damaged[bit // 8] ^= 1 << bit % 8
    with pytest.raises(CorruptObjectError, match="'the-key'"):
        decode(Encoded(encoded.header, bytes(damaged)), "the-key")


@given(st.integers(0, HEADER_BYTES * 8 - 1))
def test_one_flipped_bit_in_the_header_is_noticed(bit):
    raw = bytearray(encode(b"value").header.pack())
    raw[bit // 8] ^= 1 << bit % 8
    with pytest.raises(CorruptObjectError, match="'the-key'"):
        Header.unpack(bytes(raw), "the-key")


@given(st.integers(0, 2**32 - 1), st.binary(max_size=20))
def test_a_header_comes_back_as_it_was(number, part):
    header = Header(Kind.BYTES, len(part), encode(part).header.checksum, number)
    assert Header.unpack(header.pack(), "k") == header


@pytest.mark.parametrize("cut", [0, 1, HEADER_BYTES - 1, HEADER_BYTES + 1])
def test_a_header_of_another_length_is_refused(cut):
    with pytest.raises(CorruptObjectError):
        Header.unpack((encode(b"v").header.pack() + b"x")[:cut], "k")


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ("text", "a str"),
        ({"o": np.array([object()])}, "dtype object"),
        ({"s": np.array(["a"])}, "dtype <U1"),
        ({"l": [1, 2]}, "type list"),
        ({3: np.ones(2)}, "array 3"),
        ({"__metadata__": np.ones(2)}, "__metadata__"),
    ],
)
def test_what_cannot_be_stored_is_refused_by_name(part, said):
    with pytest.raises(InvalidPartError, match=said) as caught:
        encode(part, "the-key")
    assert "the-key" in str(caught.value)
