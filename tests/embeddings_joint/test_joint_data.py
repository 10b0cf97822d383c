"""Which items belong together: by group where there are enough groups, else by label."""

import pytest
from joint_material import manifest

from aura.corpus.errors import ItemChangedError
from aura.embeddings.joint.data import MIN_GROUPS, MIN_ITEMS, JointData, JointItem, joint_data
from aura.embeddings.joint.errors import NotTrainableError


def read(uri, item_id):
    return item_id.encode()


def photographs(count):
    rows = []
    for number in range(count):
        rows.append({"item_id": f"p{number}", "modality": "image", "group": f"g{number}", "label": "a"})
        rows.append(
            {"item_id": f"t{number}", "modality": "text", "group": f"g{number}", "text": f"photograph {number}"}
        )
    return rows


def test_groups_decide_where_there_are_enough():
    rows = [*photographs(MIN_GROUPS), {"item_id": "alone", "modality": "image", "label": "a"}]
    data = joint_data(manifest(rows), read)
    assert data.paired_by == "group"
    assert data.modalities == ("text", "image")
    assert len(data.concepts()) == MIN_GROUPS
    assert data.left_out == {"image: belongs to nothing of another modality": 1}
    image = next(item for item in data.items["image"] if item.item_id == "p3")
    text = next(item for item in data.items["text"] if item.item_id == "t3")
    assert (image.content, text.content, image.concept) == (b"p3", "photograph 3", text.concept)


def test_a_label_without_texts_is_its_own_text_and_one_with_texts_has_these():
    rows = [
        {"item_id": "i1", "modality": "image", "label": "cat"},
        {"item_id": "i2", "modality": "image", "label": "dog"},
        {"item_id": "a1", "modality": "audio", "label": "dog", "sublabel": "rex"},
        {"item_id": "t1", "modality": "text", "label": "dog", "text": "a barking animal"},
        {"item_id": "t2", "modality": "text", "label": "fish", "text": "a silent animal"},
    ]
    data = joint_data(manifest(rows), read)
    assert data.paired_by == "label"
    assert {(item.concept, item.content) for item in data.items["text"]} == {
        ("cat", "cat"),
        ("dog", "a barking animal"),
    }
    assert [item.speaker for item in data.items["audio"]] == ["rex"]
    assert data.left_out == {"text: belongs to nothing of another modality": 1}


def test_a_modality_of_which_there_is_too_little_is_left_out_where_two_others_are_left():
    rows = [*photographs(MIN_ITEMS), {"item_id": "a1", "modality": "audio", "group": "g1"}]
    data = joint_data(manifest(rows), read)
    assert data.modalities == ("text", "image")
    assert data.left_out == {f"audio: fewer than {MIN_ITEMS} items": 1}
    few = [*photographs(MIN_GROUPS), {"item_id": "a1", "modality": "audio", "group": "g1"}]
    assert joint_data(manifest(few), read).modalities == ("text", "image", "audio")


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [{"item_id": "t", "modality": "text", "label": "a", "text": "x"}],
        photographs(MIN_GROUPS - 1),
        [{"item_id": f"i{n}", "modality": "image", "label": "only"} for n in range(50)],
    ],
    ids=["nothing", "texts alone", "too few groups", "one label"],
)
def test_what_has_nothing_in_common_says_what_is_needed(rows):
    with pytest.raises(NotTrainableError, match="two modalities that belong together"):
        joint_data(manifest(rows), read)


def test_items_that_changed_or_are_too_many_are_left_out_and_counted():
    rows = [{"item_id": f"i{n}", "modality": "image", "label": "ab"[n % 2]} for n in range(10)]

    def failing(uri, item_id):
        if item_id == "i4":
            raise ItemChangedError("it is another now")
        return b"content"

    data = joint_data(manifest(rows), failing)
    assert data.left_out == {"image: changed since it was listed, or gone": 1}
    assert len(data.items["image"]) == 9
    few = joint_data(manifest(rows), read, max_items=4)
    assert few.left_out == {"image: more than 4 items": 6}
    small = joint_data(manifest(rows), read, max_bytes=6)
    assert small.left_out == {"image: more than 6 bytes in all": 7}


def test_items_that_are_set_aside_or_listed_twice_count_once():
    rows = [{"item_id": f"i{n % 3}", "modality": "image", "label": "ab"[n % 2]} for n in range(6)]
    rows.append({"item_id": None, "modality": "image", "label": "a", "status": "set aside"})
    assert [item.item_id for item in joint_data(manifest(rows), read).items["image"]] == ["i0", "i1", "i2"]


def test_a_missing_column_and_an_unknown_modality_are_named():
    with pytest.raises(ValueError, match="no column 'group'"):
        joint_data(manifest([]).drop_columns(["group"]), read)
    with pytest.raises(ValueError, match="'smell' is unknown"):
        JointData({"smell": (JointItem("i", b"", "c"),)})
