"""Every command shows how it is called, answers programs as well as people, and ends with the code that it says."""

from __future__ import annotations

import inspect
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from aura.cli import app, main
from aura.settings import SECRETS, load_settings, variable_of
from aura.terminal import AsJson, AsJsonLines, completing, working

AURA = Path(sys.executable).with_name("aura")
PROJECT = Path(__file__).resolve().parents[2]
EXAMPLE = re.compile(r"`(aura [^`]+)`|^(?:Examples?:)?\s+(aura \S.*)$|^Example: (aura \S.*)$", re.MULTILINE)
"""A command line in backticks, or on a line of its own."""
PLACEHOLDER = re.compile(r"[A-Z]{3,}$")
SILENT = {
    "report", "up", "sources add", "sources remove", "tiers serve", "services up", "services down", "services logs",
    "services fetch", "services dagster-home", "services env",
}  # fmt: skip
"""Commands that do something, or print what is not AURA's or is a script; all others print a table or a value."""


def walk(command, path):
    """Every command below this one, with its name in words and the group that it is in."""
    for name, found in command.commands.items():
        if hasattr(found, "commands"):
            yield from walk(found, (*path, name))
        else:
            yield (*path, name), found


ROOT = get_command(app)
COMMANDS = {" ".join(path): command for path, command in walk(ROOT, ())}
GROUPS = [name for name, command in ROOT.commands.items() if hasattr(command, "commands")]


def examples_of(command):
    found = [next(filter(None, each)) for each in EXAMPLE.findall(command.help)]
    return [each for each in found if not any(map(PLACEHOLDER.match, shlex.split(each)))]


def parse(words):
    """The name of the command that these words call, after it has taken the rest of them; nothing runs."""
    name = next((" ".join(words[:count]) for count in (1, 2) if " ".join(words[:count]) in COMMANDS), None)
    assert name is not None, f"{words} call no command"
    COMMANDS[name].make_context(name, words[len(name.split()) :])
    return name


@pytest.fixture
def home(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("AURA_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AURA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


def run(*arguments, code=0):
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == code, (done.output, done.exception)
    return done


def lines(*arguments):
    return [json.loads(line) for line in run(*arguments).stdout.splitlines()]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_has_an_example_that_it_takes(name):
    called = [parse(shlex.split(example)[1:]) for example in examples_of(COMMANDS[name])]
    assert name in called


@pytest.mark.parametrize("document", ["README.md", *(f"docs/{path.name}" for path in (PROJECT / "docs").glob("*.md"))])
def test_what_a_document_calls_can_be_called(document):
    text = (PROJECT / document).read_text(encoding="utf-8")
    for line in re.findall(r'^    (?:eval "\$\()?\.venv/bin/aura (.+?)(?:\)")?$', text, re.MULTILINE):
        parse(shlex.split(line, comments=True))


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - SILENT))
def test_what_prints_a_table_or_a_value_prints_json_too(name):
    assert "--json" in {option for parameter in COMMANDS[name].params for option in parameter.opts}


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - SILENT))
def test_json_is_asked_for_in_one_of_two_ways(name):
    said = {parameter.help for parameter in COMMANDS[name].params if "--json" in parameter.opts}
    assert said <= {get_args(kind)[1].help for kind in (AsJson, AsJsonLines)}


def test_the_commands_without_json_are_there():
    assert COMMANDS.keys() >= SILENT


@pytest.mark.parametrize("name", ["", *GROUPS, *COMMANDS])
def test_help_fits_a_narrow_terminal_and_loses_nothing(name, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", 60)
    said = run(*name.split(), "--help").stdout
    assert max(map(len, said.splitlines())) <= 60
    whole = " ".join(said.split())
    if name in COMMANDS:
        for parameter in COMMANDS[name].params:
            for option in (*parameter.opts, *parameter.secondary_opts):
                assert option in whole
        for example in examples_of(COMMANDS[name]):
            assert " ".join(example.split()) in whole


def test_the_breaks_of_a_docstring_are_none_in_a_wide_terminal():
    for command in COMMANDS.values():
        for paragraph in command.help.split("\n\n"):
            assert "\n" not in paragraph or re.search(r"\n\s", paragraph), paragraph


def test_help_loads_neither_torch_nor_dagster():
    code = """
import sys
from aura.cli import main
sys.argv = ["aura", "--help"]
try:
    main()
except SystemExit as ended:
    print(ended.code, *sorted({name.split(".")[0] for name in sys.modules}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    ended, *loaded = done.stdout.splitlines()[-1].split()
    assert ended == "0"
    heavy = {"torch", "dagster", "transformers", "sklearn", "matplotlib", "mlflow", "streamlit", "gudhi", "PIL", "bs4"}
    assert not set(loaded) & heavy


def test_settings_are_json_with_their_types_and_without_a_secret(home, monkeypatch):
    for name in SECRETS:
        monkeypatch.setenv(variable_of(name), "hunter2")
    printed = run("settings", "--json").stdout
    assert "hunter2" not in printed
    rows = {row["name"]: row for row in map(json.loads, printed.splitlines())}
    assert {rows[name]["value"] for name in SECRETS} == {"**********"}
    assert rows["tiers.process_bytes"]["value"] == int(load_settings().tiers.process_bytes)
    assert (rows["home"]["value"], rows["home"]["origin"]) == (str(home), "environment")
    assert rows["embeddings.text_model"]["value"] is None
    named = lines("settings", "--names", "--json")
    assert {row["name"] for row in named} == rows.keys()
    assert all(row.keys() == {"name", "description"} for row in named)


def test_sources_and_servers_are_json(home, tmp_path):
    (tmp_path / "notes").mkdir()
    run("sources", "add", "notes", str(tmp_path / "notes"))
    kinds = {row["name"]: (row["kind"], row["path"]) for row in lines("sources", "list", "--json")}
    assert kinds["notes"] == ("directory", str(tmp_path / "notes"))
    assert kinds["digits"] == ("digits", None)
    (redis,) = lines("services", "status", "redis", "--json")
    assert (redis["server"], redis["state"], redis["address"], redis["error"]) == ("redis", "stopped", None, None)


@pytest.mark.parametrize(
    "arguments",
    [
        ("nothing",),
        ("settings", "--nothing"),
        ("graph", "path", "Planet:mars", "Tier:L1"),
        ("graph", "neighbours", "Tier:L1", "--direction", "up"),
        ("graph", "impact", "Tier:L1", "--limit", "0"),
        ("events", "tail", "nowhere"),
        ("events", "lag", "watchers", "--topic", "nowhere"),
        ("events", "rebuild", "nothing"),
        ("services", "up", "oracle"),
        ("tiers", "ls", "--tier", "L9"),
        ("tiers", "replay", "no-such-file"),
        ("search", "words", "--in", "nowhere"),
    ],
)
def test_a_wrong_command_line_ends_with_2_and_touches_nothing(arguments, home):
    said = run(*arguments, code=2)
    assert said.stdout == ""
    assert "Traceback" not in said.stderr
    assert not home.exists()


@pytest.mark.parametrize(
    ("file", "arguments"),
    [
        ("sources.json", ("sources", "list", "--json")),
        ("events/log.db", ("events", "tail", "alerts", "--json")),
        ("graph/graph.db", ("graph", "counts", "--json")),
        ("store", ("tiers", "ls", "--json")),
    ],
)
def test_what_is_damaged_is_named_in_a_sentence_and_the_code_is_1(home, file, arguments, monkeypatch, capsys):
    damaged = home / file
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(b"no database" * 1000)
    monkeypatch.setattr(sys, "argv", ["aura", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert ended.value.code == 1
    assert said.out == ""
    assert said.err.startswith("error ")
    assert str(home) in said.err


def complete(line, **environment):
    """What a shell is offered for the last word of a line."""
    variables = {"_AURA_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": line, **environment}
    done = CliRunner().invoke(app, [], prog_name="aura", env=variables)
    assert done.stderr == ""
    return set(re.findall(r'"([^"]*)"(?::|\s|\)|$)', done.stdout))


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("aura events tail corpus", {"corpus.items", "corpus.items.dead"}),
        ("aura events lag watchers --topic dri", {"drift", "drift.dead"}),
        ("aura events lag projection.c", {"projection.corpus_state"}),
        ("aura events rebuild open", {"open_alerts"}),
        ("aura tiers move key L", {"L0", "L1", "L2", "L3"}),
        ("aura services up re", {"redis"}),
        ("aura sources remove dig", {"digits"}),
        ("aura search words --source py", {"python-docs"}),
        ("aura search words --in im", {"images"}),
        ("aura graph neighbours Tier:L1 --direction i", {"in"}),
        ("aura tiers replay trace --policy s3", {"s3-fifo"}),
        ("aura tiers replay trace --format int", {"int32", "int64"}),
    ],
)
def test_names_are_completed(line, offered, home):
    assert complete(line) == offered


def test_the_installed_command_completes(home):
    variables = {"_AURA_COMPLETE": "complete_bash", "COMP_WORDS": "aura services up re", "COMP_CWORD": "3"}
    done = subprocess.run([AURA], env=os.environ | variables, capture_output=True, text=True, check=False, timeout=120)
    assert (done.stdout.split(), done.stderr) == (["redis"], "")


def test_completion_is_silent_where_names_cannot_be_had(home):
    assert complete("aura sources remove ", AURA_TIERS__NO_SUCH_SETTING="1") == set()

    def fails():
        raise RuntimeError("no names")

    assert completing(fails)("a") == []
    assert list(inspect.signature(completing(fails)).parameters) == ["incomplete"]


def test_nothing_is_said_of_progress_where_stderr_is_no_terminal(capfd):
    with working("Reading ...") as tell:
        tell("Writing ...", 0.5)
    assert capfd.readouterr() == ("", "")


def test_progress_is_on_the_terminal_of_stderr_and_what_is_printed_meanwhile_on_stdout():
    import pty

    code = """
from aura.terminal import *
with working('Reading [x] ...') as tell:
    print_json({'a': 1})
    tell('Writing [y] ...', 0.25)
"""
    primary, secondary = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            stdout=subprocess.PIPE,
            stderr=secondary,
            env={**os.environ, "TERM": "xterm"},
            text=True,
            timeout=120,
            check=True,
        )
        shown = os.read(primary, 1 << 16).decode()
    finally:
        os.close(primary)
        os.close(secondary)
    assert done.stdout == '{"a": 1}\n'
    assert "Reading [x] ..." in shown
    assert re.search(r"Writing \[y\] \.\.\. .*25%", shown)
