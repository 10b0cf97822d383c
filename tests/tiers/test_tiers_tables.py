"""Tables as parts of a value: what is said of one that is not as expected."""

from __future__ import annotations

import pyarrow as pa
import pytest

from aura.tiers.tables import ValueSchemaError, checked_table

EXPECTED = pa.schema([pa.field("item", pa.int64(), nullable=False), ("label", pa.string())])
INT64 = pa.array([1], pa.int64())
TEXT = pa.array(["a"], pa.string())


def test_a_table_of_the_expected_columns_is_given_back():
    table = pa.table([INT64, TEXT], schema=EXPECTED)
    assert checked_table(table, EXPECTED, "the items") is table


@pytest.mark.parametrize(
    ("table", "told"),
    [
        (pa.table({"label": TEXT}), "the items lacks item: int64 not null"),
        (pa.table([INT64, TEXT, TEXT], schema=EXPECTED.append(pa.field("more", pa.string()))), "has besides more"),
        (pa.table({"item": INT64, "label": TEXT}), "has item: int64 instead of item: int64 not null"),
        (
            pa.table([TEXT, INT64], schema=pa.schema(list(EXPECTED)[::-1])),
            "in the order label, item instead of item",
        ),
        (pa.table([INT64, TEXT, TEXT], schema=EXPECTED.append(EXPECTED.field(1))), "in the order item, label, label"),
    ],
)
def test_what_differs_is_named_and_nothing_else(table, told):
    with pytest.raises(ValueSchemaError) as refused:
        checked_table(table, EXPECTED, "the items")
    assert told in str(refused.value)
    assert str(refused.value).count("label: string") == 0
