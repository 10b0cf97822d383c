"""The figures: right on hand-made vectors, above chance after training, beside what simple classifiers reach."""

import numpy as np
import pytest
from joint_material import FSDD, TINY, digit_data, spoken_digits

from aura.embeddings.joint.config import JointConfig
from aura.embeddings.joint.errors import NotTrainableError
from aura.embeddings.joint.evaluation import Embedded, Share, retrievals, zero_shot
from aura.embeddings.joint.fusion_gain import fusion_gain
from aura.embeddings.joint.plots import plot_recall, plot_speakers, plot_training
from aura.embeddings.joint.speakers import leave_one_speaker_out, speakers_of
from aura.embeddings.joint.split import HeldOut
from aura.embeddings.joint.training import train_joint_model
from aura.embeddings.joint.unheard import UnheardSpeakers

PNG = b"\x89PNG\r\n\x1a\n"


def unit(rows):
    vectors = np.array(rows, np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_recall_and_rank_of_vectors_that_can_be_counted_by_hand():
    texts = Embedded(unit([[1, 0], [0, 1]]), np.array([0, 1]))
    images = Embedded(unit([[1, 0.1], [1, 0.4], [0.6, 1], [1, 0.2]]), np.array([0, 0, 1, 1]))
    forward, back = retrievals({"text": texts, "image": images}, frozenset({("text", "image")}))
    assert (forward.query, forward.gallery, forward.trained) == ("text", "image", True)
    assert forward.recall_at_1 == Share.of(2, 2)
    assert forward.mean_rank == 1
    assert (forward.chance_recall_at_1, forward.chance_mean_rank) == (0.5, pytest.approx(5 / 3))
    assert back.recall_at_1 == Share.of(3, 4)
    assert back.mean_rank == 1.25
    assert (back.chance_recall_at_1, back.chance_mean_rank) == (0.5, 1.5)
    assert zero_shot(images, texts) == Share.of(3, 4)


def test_a_model_that_gives_everything_the_same_vector_finds_nothing():
    same = Embedded(np.ones((6, 3), np.float32) / np.sqrt(3, dtype=np.float32), np.array([0, 0, 1, 1, 2, 2]))
    for entry in retrievals({"text": same, "image": same}, frozenset()):
        assert entry.recall_at_1.value == 0
        assert not entry.trained


def test_queries_without_a_partner_do_not_count():
    one = Embedded(unit([[1, 0], [0, 1]]), np.array([0, 7]))
    other = Embedded(unit([[1, 0]]), np.array([0]))
    assert retrievals({"image": one, "audio": other}, frozenset())[0].recall_at_1 == Share.of(1, 1)
    assert retrievals({"image": one, "audio": Embedded(other.vectors, np.array([5]))}, frozenset()) == ()


def test_a_share_has_the_interval_of_wilson():
    share = Share.of(8, 10)
    # Newcombe 1998, Statistics in Medicine 17, table I method 3, has intervals of this kind.
    assert (share.low, share.high) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))
    with pytest.raises(ValueError, match="11 of 10"):
        Share.of(11, 10)


def test_a_short_training_is_above_chance_in_every_direction(joint_model):
    evaluation = joint_model.card.evaluation
    assert len(evaluation.retrieval) == 6
    for entry in evaluation.retrieval:
        assert entry.recall_at_1.value > 3 * entry.chance_recall_at_1
        assert entry.mean_rank < entry.chance_mean_rank
    for naming in evaluation.naming:
        assert naming.zero_shot.low > naming.chance == 0.1
        assert [name for name, _ in naming.supervised] == ["logistic regression", "nearest neighbour"]
        assert all(share.total == naming.zero_shot.total and share.low > 0.1 for _, share in naming.supervised)
    assert evaluation.recall("image", "text") == evaluation.naming[0].zero_shot.value
    with pytest.raises(KeyError, match="smell"):
        evaluation.recall("image", "smell")


def test_every_speaker_is_left_out_once(joint_data_of_digits):
    steps = []
    unheard = leave_one_speaker_out(joint_data_of_digits, TINY, progress=lambda *done: steps.append(done))
    assert [entry.speaker for entry in unheard.speakers] == ["ann", "bob", "cleo"]
    assert all(entry.sounds == 80 for entry in unheard.speakers)
    assert steps == [(step, 24) for step in range(1, 25)]
    assert unheard.mean_recall("audio", "text") == pytest.approx(
        np.mean([entry.evaluation.recall("audio", "text") for entry in unheard.speakers])
    )
    assert UnheardSpeakers.from_json(unheard.to_json()) == unheard
    assert plot_speakers(unheard).startswith(PNG)


def test_leaving_speakers_out_goes_on_after_a_kill(joint_data_of_digits, tmp_path):
    def killed_in_the_second(done, total):
        if done == 13:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        leave_one_speaker_out(joint_data_of_digits, TINY, checkpoints=tmp_path, progress=killed_in_the_second)
    steps = []
    resumed = leave_one_speaker_out(
        joint_data_of_digits, TINY, checkpoints=tmp_path, progress=lambda done, _: steps.append(done)
    )
    # The first training was done; the second had not come to its first checkpoint.
    assert steps == list(range(9, 25))
    assert resumed.speakers == leave_one_speaker_out(joint_data_of_digits, TINY).speakers


def test_leaving_speakers_out_needs_three_of_them():
    with pytest.raises(NotTrainableError, match="this source has 0"):
        leave_one_speaker_out(digit_data(image_count=120, takes=0), TINY)


def test_pictures_are_drawn(joint_model):
    assert plot_recall(joint_model.card.evaluation).startswith(PNG)
    assert plot_training(joint_model.card).startswith(PNG)
    without = train_joint_model(digit_data(image_count=120, takes=0), config=TINY)
    assert plot_recall(without.card.evaluation).startswith(PNG)


@pytest.mark.slow
@pytest.mark.skipif(not FSDD.is_dir(), reason=f"the recordings of spoken digits are not in {FSDD}")
def test_spoken_digits_are_found_by_name_and_image_and_the_other_way_round():
    data, test = spoken_digits()
    config = JointConfig(steps=500)
    model = train_joint_model(data, config=config, held_out=HeldOut(item_ids=test))
    evaluation = model.card.evaluation
    assert dict(evaluation.items)["audio"] == len(test)
    assert evaluation.recall("image", "text") >= 0.9
    assert evaluation.recall("audio", "text") >= 0.8
    assert evaluation.recall("audio", "image") >= 0.75
    assert evaluation.recall("image", "audio") >= 0.75
    report = fusion_gain(model, data, held_out=HeldOut(item_ids=test))
    worse = [entry for entry in report.gains if entry.condition.covered == 0.5 and entry.condition.snr_db == 0]
    assert all(entry.gain > 0 for entry in worse)
    assert len(speakers_of(data)) >= 3
