"""Training: the same bits each time, resumed or not; the split; what cannot be trained."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from aura.experts.config import ExpertConfig
from aura.experts.dataset import NotTrainableError, held_out_mask, prepare
from aura.experts.model import ExpertModelError
from aura.experts.training import CheckpointPlan, train_expert_model


class KilledError(Exception):
    """Stands for the process going away between two epochs."""


def kill_after(epoch):
    def progress(done, total):
        if done == epoch:
            raise KilledError

    return progress


def same_bits(one, other):
    parts, others = one.to_parts(), other.to_parts()
    assert parts.keys() == others.keys()
    for name, part in parts.items():
        if isinstance(part, bytes):
            assert part == others[name]
        else:
            assert part.keys() == others[name].keys()
            assert all(part[key].tobytes() == others[name][key].tobytes() for key in part)
    return True


def train(digits, config, **options):
    return train_expert_model(digits.vectors, digits.labels, item_ids=digits.item_ids, config=config, **options)


def test_both_networks_learn_the_digits_and_the_card_says_how_well(digit_model, digits):
    scores = digit_model.card.scores
    assert scores.switch.low > 0.8
    assert scores.dense.low > 0.8
    assert scores.majority.value < 0.2
    assert scores.switch.low < scores.switch.value < scores.switch.high
    assert digit_model.card.split.training + digit_model.card.split.held_out == len(digits.labels)
    assert [record.epoch for record in digit_model.card.history] == [1, 2, 3, 4]
    assert digit_model.card.history[-1].switch_held_out == scores.switch.value


def test_the_accuracy_on_the_card_is_what_the_networks_give(digit_model, digits, small_config):
    data = prepare(digits.vectors, digits.labels, digits.item_ids, small_config)
    vectors = torch.from_numpy(data.held_out_vectors)
    with torch.no_grad():
        switch = digit_model.to_module()(vectors)[0].argmax(dim=1).numpy() == data.held_out_targets
        dense = digit_model.dense_module()(vectors).argmax(dim=1).numpy() == data.held_out_targets
    scores = digit_model.card.scores
    assert (switch.sum(), dense.sum()) == (scores.switch.correct, scores.dense.correct)
    assert scores.only_switch_correct == (switch & ~dense).sum()


def test_training_twice_gives_the_same_bits_whatever_the_order_of_rows_and_the_ambient_state(
    digit_model, digits, small_config
):
    order = np.random.default_rng(0).permutation(len(digits.labels))
    torch.manual_seed(123)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    again = train_expert_model(
        digits.vectors[order],
        [digits.labels[row] for row in order],
        item_ids=[digits.item_ids[row] for row in order],
        config=small_config,
    )
    assert same_bits(digit_model, again)
    assert torch.equal(before, torch.get_rng_state())
    assert threads == torch.get_num_threads()
    assert not torch.are_deterministic_algorithms_enabled()


def test_another_seed_gives_another_model_on_the_same_split(digit_model, digits, small_config):
    other = train(digits, replace(small_config, seed=1, epochs=1))
    assert other.card.split == digit_model.card.split
    assert other.card.data_digest == digit_model.card.data_digest
    assert not np.array_equal(other.router["switch.router.weight"], digit_model.router["switch.router.weight"])


@pytest.mark.parametrize("kill", [(1, 1), (3, 2)])
def test_a_killed_training_resumes_to_the_same_bits(digit_model, digits, small_config, tmp_path, kill):
    killed_after, every = kill
    plan = CheckpointPlan(tmp_path / "training.safetensors", every_epochs=every)
    with pytest.raises(KilledError):
        train(digits, small_config, checkpoint=plan, progress=kill_after(killed_after))
    done = []
    resumed = train(digits, small_config, checkpoint=plan, progress=lambda epoch, total: done.append((epoch, total)))
    assert done[0] == ((killed_after // every) * every + 1, 4)
    assert same_bits(digit_model, resumed)
    assert [path.name for path in tmp_path.iterdir()] == ["training.safetensors"]


def test_the_state_of_another_configuration_is_not_resumed(digit_model, digits, small_config, tmp_path):
    plan = CheckpointPlan(tmp_path / "training.safetensors")
    train(digits, replace(small_config, seed=5, epochs=1), checkpoint=plan)
    done = []
    model = train(digits, small_config, checkpoint=plan, progress=lambda epoch, total: done.append(epoch))
    assert done == [1, 2, 3, 4]
    assert same_bits(digit_model, model)


def test_a_damaged_state_is_named(digits, small_config, tmp_path):
    path = tmp_path / "training.safetensors"
    path.write_bytes(b"\x10\x00")
    with pytest.raises(ExpertModelError, match=r"training\.safetensors"):
        train(digits, small_config, checkpoint=CheckpointPlan(path))


def test_rows_without_a_label_and_rare_labels_are_left_out_and_counted(digits, small_config):
    labels = [None] * 30 + ["rare"] * 5 + digits.labels[35:]
    split = prepare(digits.vectors, labels, digits.item_ids, small_config).split
    assert (split.unlabelled, split.rare, split.rare_labels) == (30, 5, 1)
    assert split.training + split.held_out == len(labels) - 35


def test_an_item_keeps_its_side_when_others_come(digits):
    targets = np.array([int(label[-1]) for label in digits.labels])
    early = held_out_mask(digits.item_ids[:900], targets[:900], 0.2)
    late = held_out_mask(digits.item_ids, targets, 0.2)
    assert (early != late[:900]).sum() <= 2 * len(set(digits.labels))
    assert 0.17 < late.mean() < 0.23
    for label in range(10):
        assert 0.1 < late[targets == label].mean() < 0.3


def test_every_label_has_items_on_both_sides():
    targets = np.repeat(np.arange(50), 2)
    held_out = held_out_mask([f"item {number}" for number in range(100)], targets, 0.2)
    assert np.bincount(targets[held_out], minlength=50).tolist() == [1] * 50


def test_one_label_cannot_be_trained(digits, small_config):
    with pytest.raises(NotTrainableError, match="lower min_label_items"):
        prepare(digits.vectors[:50], ["only"] * 50, digits.item_ids[:50], small_config)


def test_too_few_items_cannot_be_trained(digits):
    with pytest.raises(NotTrainableError, match="larger corpus or fewer experts"):
        prepare(digits.vectors[:6], ["a", "b"] * 3, digits.item_ids[:6], ExpertConfig(min_label_items=2))


def test_vectors_that_are_not_finite_are_named(digits, small_config):
    vectors = digits.vectors.copy()
    vectors[7, 3] = np.nan
    with pytest.raises(ValueError, match="the first in row 7"):
        prepare(vectors, digits.labels, digits.item_ids, small_config)


def test_a_column_of_another_length_is_refused(digits, small_config):
    with pytest.raises(ValueError, match="give one per vector"):
        prepare(digits.vectors, digits.labels[:-1], digits.item_ids, small_config)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("experts", 1), ("dropout", 1.0), ("held_out_share", 0.0), ("learning_rate", float("nan")), ("threads", 0)],
)
def test_a_wrong_setting_is_named(setting, value):
    with pytest.raises(ValueError, match=f"ExpertConfig.{setting}"):
        ExpertConfig(**{setting: value})
