"""Fusing the vectors of what is seen and heard, and what that gains."""

import io
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from joint_material import TINY, digit_data, images, sounds

from aura.embeddings.image import decode_image
from aura.embeddings.joint.data import JointData
from aura.embeddings.joint.degradation import covered_image, noisy_sound
from aura.embeddings.joint.errors import NotTrainableError
from aura.embeddings.joint.fusion import fuse, margins
from aura.embeddings.joint.fusion_gain import CONDITIONS, Condition, FusionReport, fusion_gain
from aura.embeddings.joint.training import train_joint_model

ROWS = arrays(np.float64, (5, 3), elements=st.floats(-1, 1)).filter(lambda a: (np.linalg.norm(a, axis=1) > 0.1).all())


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@given(ROWS, ROWS)
def test_a_fused_vector_has_length_one_and_lies_between(one, other):
    one, other = unit(one), unit(other)
    fused = fuse({"image": one, "audio": other})
    np.testing.assert_allclose(np.linalg.norm(fused, axis=1), 1, rtol=1e-5)
    apart = (one * other).sum(axis=1) > -0.99
    assert ((fused * one).sum(axis=1) >= (one * other).sum(axis=1) - 1e-5)[apart].all()
    np.testing.assert_array_equal(fused, fuse({"audio": other, "image": one}))


def test_an_item_with_one_modality_keeps_its_vector():
    one, other = unit(np.array([[3.0, 4, 0], [1, 0, 0]])), unit(np.array([[0.0, 0, 1], [0, 1, 0]]))
    other[0] = np.nan
    fused = fuse({"image": one, "audio": other})
    np.testing.assert_allclose(fused[0], one[0], rtol=1e-6)
    np.testing.assert_allclose(fused[1], np.array([1, 1, 0]) / np.sqrt(2), rtol=1e-6)
    with pytest.raises(ValueError, match="item 0 has no vector"):
        fuse({"audio": other})


def test_confidence_weighs_and_opposite_vectors_give_the_surer_one():
    one, other = np.array([[1.0, 0]], np.float32), np.array([[0.0, 1]], np.float32)
    fused = fuse({"image": one, "audio": other}, {"image": np.array([3.0]), "audio": np.array([1.0])})
    np.testing.assert_allclose(fused, [[3 / np.sqrt(10), 1 / np.sqrt(10)]], rtol=1e-5)
    assert fuse({"image": one, "audio": -one}, {"image": np.array([1.0]), "audio": np.array([2.0])})[0, 0] == -1
    assert np.isfinite(fuse({"image": one, "audio": -one})).all()
    assert np.isfinite(fuse({"image": one, "audio": other}, {"image": np.zeros(1), "audio": np.zeros(1)})).all()


def test_wrong_shapes_and_confidences_are_named():
    one = np.array([[1.0, 0]], np.float32)
    with pytest.raises(ValueError, match="one shape"):
        fuse({"image": one, "audio": np.ones((2, 2), np.float32)})
    with pytest.raises(ValueError, match="one shape"):
        fuse({})
    with pytest.raises(ValueError, match="'audio' is not given"):
        fuse({"image": one, "audio": one}, {"image": np.ones(1)})
    with pytest.raises(ValueError, match="at least 0"):
        fuse({"image": one}, {"image": -np.ones(1)})


def test_a_margin_is_the_lead_of_the_nearest_prototype():
    prototypes = np.eye(3, dtype=np.float32)
    vectors = np.array([[1, 0, 0], [0.6, 0.8, 0], [np.nan, 0, 0]], np.float32)
    np.testing.assert_allclose(margins(vectors, prototypes), [1, 0.2, 0], atol=1e-6)
    with pytest.raises(ValueError, match="2 prototypes"):
        margins(vectors, prototypes[:1])


def test_noise_and_covers_have_the_stated_size():
    rng = np.random.default_rng(0)
    sound = sounds(1)[0].content
    clean, _ = soundfile.read(io.BytesIO(sound))
    noisy, rate = soundfile.read(io.BytesIO(noisy_sound(sound, 6.0, 8000, rng)))
    assert rate == 8000
    assert 10 * np.log10(np.mean(clean**2) / np.mean((noisy - clean) ** 2)) == pytest.approx(6.0, abs=0.3)
    image = images(1)[0].content
    before, after = (np.asarray(decode_image(content))[..., 0] for content in (image, covered_image(image, 0.25, rng)))
    assert after.shape == before.shape
    grey = round(float(np.asarray(decode_image(image)).mean()))
    assert (after == grey).sum() >= 16
    assert (after != before).sum() <= 16


def test_fusion_is_measured_on_held_out_pairs_by_the_rule_that_validation_chose(joint_model, joint_data_of_digits):
    conditions = (Condition(), Condition(covered=0.5, snr_db=0.0))
    done = []
    report = fusion_gain(
        joint_model, joint_data_of_digits, conditions=conditions, progress=lambda *step: done.append(step)
    )
    assert done == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert report.rule == max(report.validation, key=lambda score: score[1])[0]
    assert report.pairs == joint_model.card.items["audio"].held_out
    assert [str(entry.condition) for entry in report.gains] == [
        "clean image, clean sound",
        "image 50% covered, sound at 0 dB",
    ]
    assert [condition.degrades_one for condition in (*conditions, Condition(covered=0.5))] == [False, False, True]
    for entry in report.gains:
        assert entry.gain == pytest.approx(entry.fused.value - max(entry.image.value, entry.audio.value))
        assert entry.low <= entry.gain + 1e-9
        assert entry.gain <= entry.high + 0.1
        assert entry.chance == pytest.approx(0.1, abs=0.05)
    assert FusionReport.from_json(report.to_json()) == report
    assert report == fusion_gain(joint_model, joint_data_of_digits, conditions=conditions)
    assert len({str(condition) for condition in CONDITIONS}) == len(CONDITIONS)


def test_fusion_needs_the_data_of_the_training_and_three_modalities(joint_model, joint_data_of_digits):
    fewer = JointData({**joint_data_of_digits.items, "image": joint_data_of_digits.items["image"][1:]})
    with pytest.raises(ValueError, match="trained from other items"):
        fusion_gain(joint_model, fewer)
    data = digit_data(image_count=120, takes=0)
    with pytest.raises(NotTrainableError, match="the model has text, image"):
        fusion_gain(train_joint_model(data, config=replace(TINY, steps=1)), data)
