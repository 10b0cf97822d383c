"""The command line tells a newcomer what it is, and a mistake what to do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

AURA = Path(sys.executable).parent / "aura"


@pytest.fixture
def aura(tmp_path):
    def run(*arguments, **environment):
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AURA_")}
        return subprocess.run(
            [AURA, *arguments],
            cwd=tmp_path,
            env={**inherited, "COLUMNS": "80", **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_the_first_help_says_what_it_is_and_how_to_begin(aura):
    said = aura("--help").stdout
    assert "To begin" in said
    for command in ("settings", "status", "sources", "services", "events", "graph", "tiers", "up"):
        assert command in said
    assert aura("--version").stdout.strip() == "0.1.0"


def test_every_name_of_a_setting_is_whole_on_a_narrow_terminal_and_in_a_pipe(aura):
    for arguments in (("settings",), ("settings", "--names")):
        said = aura(*arguments).stdout
        assert "embeddings.hub_timeout_seconds" in said
        assert "measure.otlp_token" in said


def test_the_names_are_listed_while_a_setting_is_wrong(aura):
    wrong = {"AURA_EXPERTS__EXPRETS": "4"}
    refused = aura("settings", **wrong)
    assert refused.returncode == 1
    assert "aura settings --names" in refused.stderr
    assert "experts.experts" in aura("settings", "--names", **wrong).stdout


def test_outside_of_a_project_the_stack_says_which_directory_it_wants(aura):
    refused = aura("up")
    assert refused.returncode == 1
    assert "--project" in refused.stderr


def test_to_look_makes_no_store(aura, tmp_path):
    refused = aura("tiers", "ls")
    assert refused.returncode == 1
    assert "make demo" in refused.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_built_in_source_that_was_removed_comes_back(aura):
    assert aura("sources", "remove", "digits").returncode == 0
    assert "digits" not in aura("sources", "list").stdout
    assert aura("sources", "add", "digits").returncode == 0
    assert "digits" in aura("sources", "list").stdout
    refused = aura("sources", "add", "novels")
    assert refused.returncode == 1
    assert "novels" in refused.stderr
