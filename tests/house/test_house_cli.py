"""The command line tells a newcomer what it is, and a mistake what to do."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from aura.cli import main

AURA = Path(sys.executable).parent / "aura"


@dataclass(frozen=True)
class Ended:
    """What a command said, and the code that it ended with."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def aura(tmp_path, monkeypatch, capsys):
    """The command line in an empty directory, without settings of the environment."""
    for name in [name for name in os.environ if name.startswith("AURA_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)

    def run(*arguments, **environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["aura", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return Ended(ended.value.code, said.out, said.err)

    return run


def test_the_first_help_says_what_it_is_and_how_to_begin(aura):
    said = aura("--help").stdout
    assert "To begin" in said
    for command in ("settings", "status", "sources", "services", "events", "graph", "tiers", "up"):
        assert command in said
    assert aura("--version").stdout.strip() == "0.1.0"


def test_every_name_of_a_setting_is_whole_on_a_narrow_terminal_and_in_a_pipe(tmp_path):
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AURA_")}
    for arguments in (("settings",), ("settings", "--names")):
        said = subprocess.run(
            [AURA, *arguments],
            cwd=tmp_path,
            env={**inherited, "COLUMNS": "80"},
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        ).stdout
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
