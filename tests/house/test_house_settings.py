"""Settings: where a value comes from, and what a wrong one says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from aura.settings import SettingsError, find_home, load_settings
from aura.settings_listing import describe

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"


@pytest.fixture(autouse=True)
def _clean(monkeypatch, tmp_path):
    for name in ("AURA_HOME", "AURA_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def row(name):
    return next(row for row in describe(load_settings()) if row.name == name)


def test_a_setting_that_nobody_sets_has_its_default():
    assert row("experts.experts").value == "8"
    assert row("experts.experts").origin == "default"


def test_the_file_beats_the_default_and_the_environment_beats_the_file(tmp_path, monkeypatch):
    (tmp_path / "aura.toml").write_text("[experts]\nexperts = 4\nseed = 7\n", encoding="utf-8")
    monkeypatch.setenv("AURA_EXPERTS__SEED", "9")
    settings = load_settings()
    assert (settings.experts.experts, settings.experts.seed) == (4, 9)
    assert row("experts.experts").origin == "file"
    assert row("experts.seed").origin == "environment"


def test_sizes_are_read_and_shown_in_words(monkeypatch):
    monkeypatch.setenv("AURA_TIERS__PROCESS_BYTES", "8MiB")
    assert load_settings().tiers.process_bytes == 8 * 2**20
    assert row("tiers.process_bytes").value == "8.0MiB"


def test_a_wrong_value_is_named_with_its_variable(monkeypatch):
    monkeypatch.setenv("AURA_EXPERTS__EXPERTS", "many")
    with pytest.raises(SettingsError, match=r"AURA_EXPERTS__EXPERTS.*'many'"):
        load_settings()


@pytest.mark.parametrize("variable", ["AURA_EXPERT", "AURA_EXPERTS__EXPRETS"])
def test_an_unknown_variable_is_refused(monkeypatch, variable):
    monkeypatch.setenv(variable, "1")
    with pytest.raises(SettingsError, match="EXP"):
        load_settings()


def test_what_notebooks_read_of_the_environment_is_no_unknown_variable(monkeypatch):
    read = set().union(*(re.findall(r"AURA_\w+", path.read_text(encoding="utf-8")) for path in NOTEBOOKS.glob("*.py")))
    assert "AURA_NOTEBOOK_SOURCE" in read
    for variable in read - {"AURA_HOME"}:
        monkeypatch.setenv(variable, "notes")
    load_settings()


def test_an_unknown_name_in_the_file_is_refused(tmp_path):
    (tmp_path / "aura.toml").write_text("[tiers]\nproces_bytes = 1\n", encoding="utf-8")
    with pytest.raises(SettingsError, match="proces_bytes"):
        load_settings()


def test_a_file_that_is_not_toml_is_refused(tmp_path):
    (tmp_path / "aura.toml").write_text("[tiers", encoding="utf-8")
    with pytest.raises(SettingsError, match=r"aura\.toml"):
        load_settings()


def test_a_named_file_that_is_missing_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("AURA_CONFIG", str(tmp_path / "absent.toml"))
    with pytest.raises(SettingsError, match=r"absent\.toml"):
        load_settings()


def test_a_secret_is_masked(monkeypatch):
    monkeypatch.setenv("AURA_MEASURE__OTLP_TOKEN", "s3cret")
    assert "s3cret" not in row("measure.otlp_token").value
    assert row("measure.otlp_token").origin == "environment"


def test_a_secret_in_the_file_is_refused(tmp_path):
    (tmp_path / "aura.toml").write_text('[measure]\notlp_token = "s3cret"\n', encoding="utf-8")
    with pytest.raises(SettingsError, match="AURA_MEASURE__OTLP_TOKEN"):
        load_settings()


def test_every_setting_has_a_description():
    assert all(row.description for row in describe(load_settings()))


def test_every_folder_of_a_project_finds_its_home(tmp_path):
    (tmp_path / ".aura").mkdir()
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    assert find_home(deep) == tmp_path / ".aura"
    assert load_settings().home == tmp_path / ".aura"


@pytest.mark.parametrize(
    ("variable", "value"),
    [("AURA_REDIS__URL", "redis://u:hunter2@h"), ("AURA_REDIS", '{"password": "hunter2", "urk": "x"}')],
)
def test_a_rejected_value_that_may_hold_a_password_is_not_repeated(monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert "redis" in str(refused.value)
    assert "hunter2" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_the_digest_follows_the_sections_that_are_named_and_no_others(monkeypatch):
    before = load_settings()
    monkeypatch.setenv("AURA_TOPOLOGY__LANDMARKS", "7")
    after = load_settings()
    assert before.digest(["topology"]) != after.digest(["topology"])
    assert before.digest(["experts"]) == after.digest(["experts"])


def test_the_digest_of_a_single_setting_follows_that_setting_alone(monkeypatch):
    before = load_settings()
    monkeypatch.setenv("AURA_EXPERTS__CLUSTERS", "7")
    after = load_settings()
    assert before.digest(["experts.clusters"]) != after.digest(["experts.clusters"])
    assert before.digest(["experts.seed"]) == after.digest(["experts.seed"])


def test_parameters_are_the_named_settings_as_text(monkeypatch):
    monkeypatch.setenv("AURA_EXPERTS__CLUSTERS", "7")
    monkeypatch.setenv("AURA_EVENTS__KAFKA_PASSWORD", "hunter2")
    settings = load_settings()
    assert settings.parameters(["experts.clusters"]) == {"experts.clusters": "7"}
    language = settings.parameters(["language", "experts.seed"])
    assert language["language.preset"] == "small"
    assert language["language.steps"] == "none"
    assert "experts.seed" in language
    assert "hunter2" not in str(settings.parameters(["events"]))


def test_a_warm_pool_in_redis_needs_a_server(monkeypatch):
    monkeypatch.setenv("AURA_TIERS__WARM_POOL", "redis")
    with pytest.raises(SettingsError, match="AURA_REDIS__URL"):
        load_settings()
    monkeypatch.setenv("AURA_REDIS__URL", "redis://127.0.0.1:1/0")
    assert load_settings().tiers.warm_pool == "redis"
