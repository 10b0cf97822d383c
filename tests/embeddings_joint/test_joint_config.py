"""Settings of a joint training: a wrong one is named, with what to give in its place."""

from __future__ import annotations

import math

import pytest

from aura.embeddings.joint.config import JointConfig

WRONG = {
    "width": (63, "a multiple of twice the 4 heads"),
    "heads": (0, "at least 1"),
    "learning_rate": (math.nan, "a finite number above 0"),
    "weight_decay": (-0.1, "a finite number from 0"),
    "averaging": (1.0, "a number from 0 to below 1"),
    "held_out_share": (0.0, "a number above 0 and below 1"),
    "validation_share": (0.8, "a number above 0 that leaves items beside the 0.2 held out"),
    "pairs": ((("text", "image"), ("text", "image")), "some of .*, each once"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_setting_is_named_with_what_to_give(name):
    value, expected = WRONG[name]
    with pytest.raises(ValueError, match=f"JointConfig.{name} is .*; give {expected}$"):
        JointConfig(**{name: value})
