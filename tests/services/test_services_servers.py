"""The native servers: started for real, killed, paused, and found again with their data."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import textwrap
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from services_data import read, write

from aura.services.java import class_path
from aura.services.process import identify, signal_all
from aura.services.recipe import MissingSoftwareError, ServerError
from aura.services.recipes import RECIPES
from aura.services.server import Server

ALL = [
    pytest.param("kafka", marks=pytest.mark.slow),
    pytest.param("neo4j", marks=pytest.mark.slow),
    "redis",
    "postgres",
]
PROJECT = Path(__file__).resolve().parents[2]
JAVA = ["kafka", "neo4j"]


@pytest.mark.servers
@pytest.mark.parametrize("name", ALL)
def test_a_killed_server_and_a_stopped_one_come_back_on_their_port_with_their_data(name, servers):
    server = servers(name)
    address, first = server.address, server.identity
    write(server, "kept through all of it")

    server.kill()
    assert not server.running
    with pytest.raises(Exception):  # noqa: B017, PT011 - each client has its own error for a refused connection
        server.answer()
    server.start()
    assert server.address == address
    assert server.identity != first
    assert read(server) == "kept through all of it"

    server.stop()
    assert not server.running
    server.start()
    assert server.address == address
    assert read(server) == "kept through all of it"


@pytest.mark.servers
@pytest.mark.parametrize("name", ["redis", "postgres"])
def test_a_paused_server_answers_nothing_until_it_is_resumed(name, servers):
    server = servers(name)
    server.pause()
    assert server.running
    answered = threading.Event()

    def ask() -> None:
        while not answered.is_set():
            with suppress(Exception):
                server.answer()
                answered.set()

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    assert not answered.wait(0.5)
    server.resume()
    assert answered.wait(30)


@pytest.mark.servers
def test_a_paused_server_can_be_stopped_cleanly(servers):
    server = servers("redis")
    server.pause()
    server.stop()
    assert not server.running
    assert any("bye bye" in line for line in server.last_lines(10))


@pytest.mark.servers
def test_a_kill_reaches_every_process_of_the_server(servers):
    server = servers("postgres")
    import psutil

    everybody = [psutil.Process(server.identity.pid), *psutil.Process(server.identity.pid).children(recursive=True)]
    assert len(everybody) > 3
    server.kill()
    psutil.wait_procs(everybody, timeout=30)
    assert [process for process in everybody if process.is_running() and process.status() != "zombie"] == []


@pytest.mark.servers
def test_a_server_starts_once_however_many_ask_for_it(servers):
    server = servers("redis")
    before = server.identity
    same = Server(server.recipe, server.directory, tethered=False)
    same.start()
    assert same.identity == server.identity == before
    assert same.address == server.address


@pytest.mark.servers
def test_a_running_server_keeps_its_port_and_says_so_when_another_is_asked_for(servers):
    server = servers("redis")
    port = server.place.port
    other = Server(server.recipe, server.directory, port=port + 1, tethered=False)
    with pytest.raises(ServerError, match=rf"runs on port {port}, but AURA_SERVICES__REDIS_PORT={port + 1}"):
        other.start()
    assert server.running
    assert server.answer()
    server.stop()
    other.start()
    try:
        assert other.place.port == port + 1
    finally:
        other.kill()


@pytest.mark.servers
def test_a_taken_port_is_named_with_the_setting_that_changes_it(servers_home):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = Server(RECIPES["redis"], servers_home / "taken", port=port, tethered=True)
        with pytest.raises(ServerError, match=rf"port {port} .* set AURA_SERVICES__REDIS_PORT"):
            server.start()
    assert not server.running


@pytest.mark.servers
def test_a_server_that_ends_while_it_starts_shows_the_end_of_its_log(servers):
    server = servers("redis")
    server.stop()
    (server.place.data / "appendonlydir").rename(server.place.data / "away")
    (server.place.data / "appendonlydir").write_text("not a directory")
    with pytest.raises(ServerError, match=r"ended while it started(.|\n)*appendonlydir"):
        server.start()
    assert not server.running


@pytest.mark.servers
def test_servers_die_with_the_process_that_holds_them_even_if_that_is_killed(servers_home):
    script = textwrap.dedent(
        """
        import sys, time
        from pathlib import Path
        from aura.services.recipes import RECIPES
        from aura.services.server import Server

        server = Server(RECIPES["redis"], Path(sys.argv[1]), tethered=True)
        server.start()
        print(server.identity.pid, flush=True)
        time.sleep(600)
        """
    )
    directory = servers_home / "tethered"
    holder = subprocess.Popen([sys.executable, "-c", script, directory], stdout=subprocess.PIPE, text=True)
    pid = int(holder.stdout.readline())
    assert identify(pid) is not None
    holder.kill()
    holder.wait()
    waiting = threading.Event()
    for _ in range(200):
        if identify(pid) is None:
            break
        waiting.wait(0.1)
    assert identify(pid) is None


@pytest.mark.servers
def test_a_strangers_process_with_a_recorded_number_is_left_alone(servers):
    server = servers("redis")
    record = server.directory / "process.json"
    text = record.read_text()
    server.kill()
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as stranger:
        import json

        record.write_text(json.dumps({**json.loads(text), "pid": stranger.pid}))
        assert not server.running
        server.stop()
        server.kill()
        assert stranger.poll() is None
        signal_all(identify(stranger.pid), signal.SIGKILL)


@pytest.mark.servers
def test_the_installation_script_has_nothing_to_do_where_everything_is_there(kafka, postgres):
    done = subprocess.run([PROJECT / "deploy" / "servers.sh"], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == done.stderr == ""


@pytest.mark.parametrize("name", JAVA)
def test_a_machine_without_java_gets_the_remedy(name, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(MissingSoftwareError, match=r"needs Java.*Install Java 17 or newer \(deploy/servers.sh"):
        Server(RECIPES[name], tmp_path / name, tethered=True).start()


@pytest.mark.parametrize("name", JAVA)
def test_an_old_java_gets_the_remedy(name, tmp_path, monkeypatch):
    old = tmp_path / "bin" / "java"
    old.parent.mkdir()
    old.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\" 2019-01-15' >&2\n")
    old.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(MissingSoftwareError, match=r"needs Java 17.*11\.0\.2.*set JAVA_HOME"):
        Server(RECIPES[name], tmp_path / name, tethered=True).start()


@pytest.mark.servers
def test_jars_that_were_fetched_once_are_not_asked_for_again(tmp_path, monkeypatch, kafka):
    before = class_path("kafka")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert class_path("kafka") == before


@pytest.mark.servers
def test_jars_that_have_not_been_fetched_need_maven_and_say_so(tmp_path, monkeypatch):
    import shutil

    java = shutil.which("java")
    if java is None:
        pytest.skip("Java is not installed")
    (tmp_path / "java").symlink_to(java)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(MissingSoftwareError, match="install Maven"):
        Server(RECIPES["kafka"], tmp_path / "kafka", tethered=True).start()
