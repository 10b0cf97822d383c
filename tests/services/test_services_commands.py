"""`aura services`, run as a person runs it: in processes that end while the servers stay."""

from __future__ import annotations

import socket

import pytest

pytestmark = pytest.mark.servers


@pytest.mark.slow
def test_up_leaves_servers_running_that_later_commands_find_and_down_stops_them(aura, reachable_home):
    up = aura("services", "up", "redis", "postgres")
    assert up.returncode == 0, up.stderr
    assert "started in" in up.stdout

    status = aura("services", "status")
    assert status.returncode == 0, status.stderr
    lines = {line.split()[1]: line for line in status.stdout.splitlines() if line.startswith("│")}
    assert "running" in lines["redis"]
    assert "running" in lines["postgres"]
    assert "stopped" in lines["kafka"]
    assert "stopped" in lines["neo4j"]

    again = aura("services", "up", "redis")
    assert "was running" in again.stdout

    logs = aura("services", "logs", "redis", "postgres", "-n", "50")
    assert "Ready to accept connections" in logs.stdout
    assert "database system is ready to accept connections" in logs.stdout
    assert str(reachable_home / "services" / "redis" / "server.log") in logs.stdout

    down = aura("services", "down")
    assert down.returncode == 0, down.stderr
    assert down.stdout.count("stopped") == 2
    assert down.stdout.count("was not running") == 2
    twice = aura("services", "down")
    assert twice.returncode == 0, twice.stderr
    assert twice.stdout.count("was not running") == 4


def test_the_exported_variables_are_settings_that_point_at_the_servers(aura):
    assert aura("services", "up", "redis", "postgres").returncode == 0
    told = aura("services", "env").stdout.splitlines()
    assert "# kafka does not run: aura services up kafka" in told
    exported = dict(line.removeprefix("export ").split("=", 1) for line in told if line.startswith("export "))
    assert set(exported) == {
        "AURA_REDIS__URL",
        "AURA_POSTGRES__ADDRESS",
        "AURA_POSTGRES__USER",
        "AURA_POSTGRES__PASSWORD",
    }
    settings = aura("settings", **exported)
    assert settings.returncode == 0, settings.stderr
    assert exported["AURA_REDIS__URL"] in settings.stdout
    assert exported["AURA_POSTGRES__PASSWORD"] not in settings.stdout


def test_a_server_is_found_again_on_the_port_of_its_first_start(aura):
    first = aura("services", "up", "redis").stdout
    aura("services", "down", "redis")
    second = aura("services", "up", "redis").stdout
    address = next(word for word in first.split() if word.startswith("redis://"))
    assert address in second


def test_a_taken_port_fails_that_server_alone(aura):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        up = aura("services", "up", "redis", "postgres", AURA_SERVICES__REDIS_PORT=str(port))
    assert up.returncode == 1
    assert f"cannot have its port {port}" in up.stderr
    assert "AURA_SERVICES__REDIS_PORT" in up.stderr
    assert "Traceback" not in up.stderr
    assert "postgres  postgresql://" in up.stdout


def test_an_unknown_server_is_answered_with_those_there_are(aura):
    up = aura("services", "up", "oracle")
    assert up.returncode == 2
    assert "kafka, neo4j, redis, postgres" in up.stderr


@pytest.mark.slow
def test_a_home_that_the_database_account_cannot_reach_still_gets_a_database(aura, reachable_home):
    import os
    import shutil
    from pathlib import Path

    if os.geteuid() != 0:
        pytest.skip("only root starts PostgreSQL under another account")
    reachable_home.chmod(0o700)
    up = aura("services", "up", "postgres")
    assert up.returncode == 0, up.stderr
    data = (reachable_home / "services" / "postgres" / "data").resolve()
    try:
        assert data.is_relative_to(Path("/var/lib/aura"))
        assert aura("services", "down", "postgres").returncode == 0
        assert aura("services", "up", "postgres").returncode == 0
    finally:
        aura("services", "down", "postgres")
        shutil.rmtree(data.parent)
