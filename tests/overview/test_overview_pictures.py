"""Every picture that is promised is drawn by a function that exists, of an asset that exists."""

from __future__ import annotations

import importlib
import inspect

import pytest

from aura.overview.pictures import PICTURES
from aura_assets.build import ASSETS

MADE = {key.to_user_string() for asset in ASSETS for key in asset.keys}
FUNCTIONS = sorted({picture.function for pictures in PICTURES.values() for picture in pictures})


def test_pictures_are_of_assets_that_exist():
    assert set(PICTURES) <= MADE


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_picture_takes_a_value_and_gives_bytes(function):
    module, _, name = function.partition(":")
    signature = inspect.signature(getattr(importlib.import_module(module), name))
    required = [each for each in signature.parameters.values() if each.default is inspect.Parameter.empty]
    assert len(required) == 1
    assert signature.return_annotation in {"bytes", bytes}
