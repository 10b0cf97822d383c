"""The split: stable, fair to every concept, and by speaker or by choice where that is asked for."""

import numpy as np
import pytest
from joint_material import digit_data

from aura.embeddings.joint.data import JointData, JointItem
from aura.embeddings.joint.split import HeldOut, Side, split


def side_of(data, sides, modality):
    return {item.item_id: side for item, side in zip(data.items[modality], sides[modality].tolist(), strict=True)}


def test_an_item_keeps_its_side_when_others_come():
    few, many = digit_data(image_count=200, takes=0), digit_data(image_count=400, takes=0)
    before = side_of(few, split(few, 0.2, 0.1), "image")
    after = side_of(many, split(many, 0.2, 0.1), "image")
    moved = sum(before[item] != after[item] for item in before)
    # Of each of the ten digits the lowest and the highest hash have a side of their own.
    assert moved <= 2 * 10
    assert np.isclose(np.mean([side == Side.HELD_OUT for side in after.values()]), 0.2, atol=0.06)


def test_every_concept_has_training_and_held_out_items_and_few_texts_are_names():
    data = digit_data(image_count=120)
    sides = split(data, 0.2, 0.1)
    for modality in ("image", "audio"):
        for concept in data.concepts():
            own = {
                side
                for item, side in zip(data.items[modality], sides[modality].tolist(), strict=True)
                if item.concept == concept
            }
            assert {Side.TRAINING, Side.HELD_OUT} <= own
    assert set(sides["text"].tolist()) == {Side.NAME}


def test_a_held_out_speaker_is_held_out_whole_and_alone():
    data = digit_data(image_count=60)
    usual, sides = split(data, 0.2, 0.1), split(data, 0.2, 0.1, HeldOut(speaker="bob"))
    for item, side in zip(data.items["audio"], sides["audio"].tolist(), strict=True):
        assert (side == Side.HELD_OUT) == (item.speaker == "bob")
    assert (sides["image"] == usual["image"]).all()
    assert (sides["audio"] == Side.VALIDATION).any()


def test_chosen_items_are_held_out_in_place_of_hashed_ones():
    data = digit_data(image_count=60)
    chosen = frozenset(item.item_id for item in data.items["image"][::7])
    sides = split(data, 0.2, 0.1, HeldOut(item_ids=chosen))
    assert {item for item, side in side_of(data, sides, "image").items() if side == Side.HELD_OUT} == chosen
    assert (sides["audio"] == split(data, 0.2, 0.1)["audio"]).all()


@pytest.mark.parametrize("held_out", [None, HeldOut(speaker="s3")])
def test_items_of_a_group_stay_together(held_out):
    numbers = range(100)
    data = JointData(
        {
            "text": tuple(JointItem(f"t{n}", str(n), f"g{n}") for n in numbers),
            "audio": tuple(JointItem(f"a{n}", b"", f"g{n}", f"s{n % 5}") for n in numbers),
        },
        "group",
    )
    sides = split(data, 0.2, 0.1, held_out)
    by_group = [
        {item.concept: side for item, side in zip(data.items[modality], sides[modality].tolist(), strict=True)}
        for modality in data.modalities
    ]
    assert by_group[0] == by_group[1]
    share = np.mean([side == Side.HELD_OUT for side in by_group[0].values()])
    assert 0.1 < share < 0.35
    if held_out:
        assert {group for group, side in by_group[0].items() if side == Side.HELD_OUT} == {
            f"g{n}" for n in range(3, 100, 5)
        }
