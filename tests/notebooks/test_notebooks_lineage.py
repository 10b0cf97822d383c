"""What the graph says a notebook was made from."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from aura_assets.build import ASSETS
from aura_assets.notebooks import FOLDER

NOTEBOOKS = {
    asset.key.to_user_string(): asset for asset in ASSETS if set(asset.group_names_by_key.values()) == {"notebooks"}
}
MEASURED = {asset.key.to_user_string() for asset in ASSETS} - NOTEBOOKS.keys()
LOADED = re.compile(r'\bload\("(\w+)"')


def read_by(name):
    return {key.to_user_string() for key in NOTEBOOKS[name].dependency_keys}


def test_the_costs_are_those_of_every_asset_that_is_no_notebook():
    assert read_by("costs_notebook") == MEASURED


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_a_notebook_follows_from_what_it_loads(path: Path):
    loaded = set(LOADED.findall(path.read_text(encoding="utf-8")))
    assert loaded <= read_by(f"{path.stem}_notebook")
