"""Training: the same bits each time, killed or not, on what there is, and with a reason where there is too little."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from joint_material import TINY, digit_data, images, names, sounds

from aura.embeddings.joint.card import JointCard
from aura.embeddings.joint.checkpoint import read_checkpoint
from aura.embeddings.joint.config import JointConfig
from aura.embeddings.joint.data import JointData, JointItem
from aura.embeddings.joint.errors import JointModelError, NotTrainableError
from aura.embeddings.joint.features import BEGIN, END, tokens_of
from aura.embeddings.joint.model import JointModel
from aura.embeddings.joint.sizes import FeatureSettings
from aura.embeddings.joint.split import HeldOut
from aura.embeddings.joint.towers import text_tower
from aura.embeddings.joint.training import CheckpointPlan, train_joint_model

DATA = digit_data(image_count=120, takes=4)


class KilledError(Exception):
    """Stands for the end of the process, between two steps."""


def kill_at(step):
    def progress(done, total):
        if done == step:
            raise KilledError

    return progress


def same(one, other):
    assert one.card.to_json() == other.card.to_json()
    assert sorted(one.weights) == sorted(other.weights)
    assert all(one.weights[name].tobytes() == other.weights[name].tobytes() for name in one.weights)
    assert one.fingerprint == other.fingerprint


@pytest.mark.parametrize("threads", [1, 2])
def test_the_same_data_and_settings_give_the_same_bytes_whatever_happened_before(threads):
    config, threads_before = replace(TINY, threads=threads), torch.get_num_threads()
    one = train_joint_model(DATA, config=config)
    torch.manual_seed(99)
    shuffled = JointData({modality: tuple(reversed(items)) for modality, items in DATA.items.items()})
    same(one, train_joint_model(shuffled, config=config))
    assert torch.get_num_threads() == threads_before


def test_another_seed_gives_another_model_on_the_same_split():
    one, other = (train_joint_model(DATA, config=replace(TINY, seed=seed)) for seed in (0, 1))
    assert one.fingerprint != other.fingerprint
    assert one.card.data_digest == other.card.data_digest


@pytest.mark.parametrize(("every", "killed_at"), [(1, 5), (3, 7), (3, 8)])
def test_a_killed_training_goes_on_to_the_same_bytes(tmp_path, every, killed_at):
    plan = CheckpointPlan(tmp_path / "states" / "training.safetensors", every_steps=every)
    with pytest.raises(KilledError):
        train_joint_model(DATA, config=TINY, checkpoint=plan, progress=kill_at(killed_at))
    steps = []
    resumed = train_joint_model(DATA, config=TINY, checkpoint=plan, progress=lambda done, _: steps.append(done))
    assert steps == list(range((8 if killed_at == 8 else killed_at - killed_at % every) + 1, 9))
    same(resumed, train_joint_model(DATA, config=TINY))


SCRIPT = """
import os, sys
from pathlib import Path
from joint_material import TINY, digit_data
from aura.embeddings.joint.training import CheckpointPlan, train_joint_model

def progress(done, total):
    if done == 5:
        os.kill(os.getpid(), 9)

plan = CheckpointPlan(Path(sys.argv[1]), every_steps=2)
train_joint_model(digit_data(image_count=120, takes=4), config=TINY, checkpoint=plan, progress=progress)
"""


@pytest.mark.slow
def test_a_process_that_is_killed_leaves_a_state_to_go_on_from(tmp_path):
    path = tmp_path / "training.safetensors"
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(path)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL
    assert read_checkpoint(path).progress.steps == 4
    resumed = train_joint_model(DATA, config=TINY, checkpoint=CheckpointPlan(path, every_steps=2))
    same(resumed, train_joint_model(DATA, config=TINY))


def test_the_state_of_another_training_is_replaced_and_another_file_refused(tmp_path):
    plan = CheckpointPlan(tmp_path / "training.safetensors")
    train_joint_model(DATA, config=replace(TINY, seed=5), checkpoint=plan)
    same(train_joint_model(DATA, config=TINY, checkpoint=plan), train_joint_model(DATA, config=TINY))
    plan.path.write_bytes(b"no state")
    with pytest.raises(JointModelError, match="not a whole safetensors file"):
        train_joint_model(DATA, config=TINY, checkpoint=plan)


def test_without_sounds_texts_and_images_are_trained_and_sounds_reported_absent():
    card = train_joint_model(digit_data(image_count=120, takes=0), config=TINY).card
    assert card.modalities == ("text", "image")
    assert card.absent == ("audio",)
    assert card.pairs == (("text", "image"),)
    assert {(entry.query, entry.gallery) for entry in card.evaluation.retrieval} == {
        ("text", "image"),
        ("image", "text"),
    }


def test_a_pair_left_out_is_not_trained_and_still_measured():
    config = replace(TINY, pairs=(("text", "image"), ("image", "audio")))
    card = train_joint_model(DATA, config=config).card
    trained = {(entry.query, entry.gallery): entry.trained for entry in card.evaluation.retrieval}
    assert len(trained) == 6
    assert not trained["audio", "text"]
    assert not trained["text", "audio"]
    assert all(trained[pair] for pair in trained if set(pair) != {"audio", "text"})
    assert all(len(record.pairs) == 2 for record in card.history)


def test_images_and_texts_of_one_group_are_trained_on_without_labels():
    photographs = images(120)
    data = JointData(
        {
            "image": tuple(replace(item, concept=f"g{n}") for n, item in enumerate(photographs)),
            "text": tuple(
                JointItem(f"t{n}", f"digit {item.concept}, number {n}", f"g{n}") for n, item in enumerate(photographs)
            ),
        },
        "group",
    )
    card = train_joint_model(data, config=TINY).card
    assert card.evaluation.naming == ()
    assert card.items["text"].held_out == card.items["image"].held_out > 0
    assert card.evaluation.retrieval[0].chance_recall_at_1 == pytest.approx(1 / card.items["text"].held_out)


def test_broken_items_are_left_out_and_counted():
    broken = (
        JointItem("broken-image", b"\x89PNG and no more", "3"),
        JointItem("broken-sound", b"RIFF", "3", "ann"),
    )
    data = JointData(
        {
            "text": names(),
            "image": (*images(120), broken[0]),
            "audio": (*sounds(4), broken[1]),
        }
    )
    model = train_joint_model(data, config=TINY)
    assert (model.card.items["image"].unreadable, model.card.items["audio"].unreadable) == (1, 1)
    whole = train_joint_model(DATA, config=TINY)
    assert all((model.weights[name] == whole.weights[name]).all() for name in whole.weights)


@pytest.mark.parametrize(
    ("items", "reason"),
    [
        ({"text": names(), "image": images(10)}, "10 items of modality image to train on"),
        ({"text": names()}, "two modalities"),
        ({"text": names(), "image": tuple(replace(item, content=b"no image") for item in images(50))}, "can be read"),
        ({"text": names(), "image": tuple(replace(item, concept="odd") for item in images(50))}, "2 are needed"),
    ],
    ids=["few", "one modality", "unreadable", "nothing in common"],
)
def test_too_little_to_train_on_is_said_in_plain_words(items, reason):
    with pytest.raises(NotTrainableError, match=reason):
        train_joint_model(JointData(items), config=TINY)


@pytest.mark.parametrize(
    "wrong",
    [
        {"width": 10},
        {"pairs": ()},
        {"pairs": (("image", "text"),)},
        {"steps": 0},
        {"learning_rate": 0.0},
        {"validation_share": 0.9},
        {"averaging": 1.0},
    ],
    ids=str,
)
def test_settings_out_of_range_are_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        JointConfig(**wrong)


def test_the_text_tower_pools_at_the_end_token_whatever_the_bytes_are():
    settings = FeatureSettings(24, 8, 1, 8000, 16, 40)
    tower = text_tower(settings, TINY).eval()
    assert tower.config.eos_token_id == END != 2
    for text in ("one", "ÿÿÿÿ \x7f", "zz"):
        tokens = torch.from_numpy(tokens_of(text, settings.text_length))[None]
        end = int((tokens[0] == END).nonzero()[0, 0])
        with torch.no_grad():
            states = tower.text_model(input_ids=tokens).last_hidden_state
            expected = tower.text_projection(states[:, end])
            torch.testing.assert_close(tower(input_ids=tokens).text_embeds, expected)
        changed = tokens.clone()
        changed[0, end - 1] = ord("q")
        assert not torch.allclose(tower(input_ids=changed).text_embeds, expected), "the last byte has no influence"


def test_tokens_begin_and_end_and_cut_what_is_too_long():
    assert tokens_of("ab", 6).tolist() == [BEGIN, 97, 98, END, 256, 256]
    assert tokens_of("abcdefgh", 6).tolist() == [BEGIN, 97, 98, 99, 100, END]
    assert tokens_of("", 4).tolist() == [BEGIN, END, 256, 256]


def test_a_model_survives_parts_and_files(joint_model, tmp_path):
    same(JointModel.from_parts(joint_model.to_parts()), joint_model)
    joint_model.save(tmp_path / "model")
    loaded = JointModel.load(tmp_path / "model")
    same(loaded, joint_model)
    assert loaded.cost == joint_model.cost
    assert {path.name for path in (tmp_path / "model").iterdir()} == {"model.safetensors", "card.json", "cost.json"}
    joint_model.save(tmp_path / "again")
    for path in (tmp_path / "model").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def test_results_are_read_without_loading_torch():
    light = ("card", "config", "data", "evaluation", "fusion", "fusion_gain", "model", "plots", "registration")
    imports = "; ".join(f"import aura.embeddings.joint.{name}" for name in (*light, "unheard"))
    heavy = "{'torch', 'transformers', 'sklearn', 'mlflow', 'matplotlib'}"
    code = f"import sys; {imports}; print(*{heavy} & set(sys.modules))"
    printed = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=True, capture_output=True
    )
    assert printed.stdout.split() == []


def test_parts_that_are_no_model_are_refused(joint_model):
    parts = joint_model.to_parts()
    with pytest.raises(JointModelError, match="card, cost and weights"):
        JointModel.from_parts({"card": parts["card"]})
    with pytest.raises(JointModelError, match="not the card"):
        JointModel.from_parts({**parts, "card": b"{}"})
    fewer = dict(list(joint_model.weights.items())[1:])
    with pytest.raises(JointModelError, match="do not fit the card"):
        JointModel.from_parts({**parts, "weights": fewer}).to_module()


def test_the_card_says_what_was_trained_and_how(joint_model):
    card = JointCard.from_json(joint_model.card.to_json())
    assert card == joint_model.card
    assert card.parameters == sum(
        array.size
        for name, array in joint_model.weights.items()
        if "pixel_" not in name and "embed_positions" not in name
    )
    assert card.items["text"].names == 10
    assert card.items["audio"].speakers == 3
    assert card.features.image_size == 8
    assert (card.features.image_channels, card.features.rate) == (1, 8000)
    assert joint_model.cost.cpu_s > 0
    losses = [record.loss for record in card.history]
    assert np.mean(losses[-5:]) < 0.5 * losses[0]


def test_a_speaker_can_be_held_out():
    card = train_joint_model(DATA, config=TINY, held_out=HeldOut(speaker="cleo")).card
    assert card.items["audio"].held_out == 40
    assert card.evaluation.held_out == "all items of cleo"
