"""A joint model of digits, trained once."""

import pytest
from joint_material import SMALL, digit_data

from aura.embeddings.joint.training import train_joint_model


@pytest.fixture(scope="session")
def joint_data_of_digits():
    return digit_data()


@pytest.fixture(scope="session")
def joint_model(joint_data_of_digits):
    return train_joint_model(joint_data_of_digits, config=SMALL)
