"""A small trained model on the digits images that scikit-learn ships."""

import hashlib
from dataclasses import dataclass

import numpy as np
import pytest
from sklearn.datasets import load_digits

from aura.experts.config import ExpertConfig
from aura.experts.training import train_expert_model


@dataclass(frozen=True)
class LabelledVectors:
    """Vectors with labels and ids."""

    vectors: np.ndarray
    labels: list
    item_ids: list


SMALL = ExpertConfig(experts=4, width=32, hidden=32, epochs=4, batch_size=128, dropout=0.1)


@pytest.fixture(scope="session")
def digits():
    images = load_digits()
    vectors = (images.data / 16).astype(np.float32)
    ids = [hashlib.blake2b(vector.tobytes(), digest_size=16).hexdigest() for vector in vectors]
    return LabelledVectors(vectors, [f"digit {target}" for target in images.target], ids)


@pytest.fixture(scope="session")
def small_config():
    return SMALL


@pytest.fixture(scope="session")
def digit_model(digits):
    return train_expert_model(digits.vectors, digits.labels, item_ids=digits.item_ids, config=SMALL)
