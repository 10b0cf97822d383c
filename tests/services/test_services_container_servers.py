"""What the compose file tells the servers: settings that they know, and passwords where nobody else sees them."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from redis import Redis
from redis.exceptions import AuthenticationError
from redis.exceptions import ConnectionError as RedisConnectionError

from aura.services.java import class_path, java
from aura.services.recipe import MissingSoftwareError
from aura.services.redis_server import redis_binary

PROJECT = Path(__file__).resolve().parents[2]
IMAGE_CONTROLS = {"NEO4J_ACCEPT_LICENSE_AGREEMENT", "NEO4J_AUTH", "NEO4J_PLUGINS"}
"""What the entrypoint of Neo4j's image keeps for itself; any other NEO4J_* becomes a line of neo4j.conf."""
HARD_PASSWORD = "a\"b\\c $HOME `id` 'd"


@pytest.fixture(scope="module")
def services() -> dict:
    return yaml.safe_load((PROJECT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]


def neo4j_settings(environment: dict[str, str]) -> dict[str, str]:
    """The lines of neo4j.conf that the image makes of these variables."""
    names = {name for name in environment if name.startswith("NEO4J_")} - IMAGE_CONTROLS
    return {name.removeprefix("NEO4J_").replace("_", ".").replace("..", "_"): environment[name] for name in names}


@pytest.fixture
def validated(tmp_path):
    """Neo4j's own check of a configuration."""
    try:
        program = [java("Neo4j"), "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", class_path("neo4j")]
    except MissingSoftwareError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))

    def validate(settings: dict[str, str]) -> subprocess.CompletedProcess[str]:
        (tmp_path / "conf").mkdir(exist_ok=True)
        lines = "".join(f"{name}={value}\n" for name, value in settings.items())
        (tmp_path / "conf" / "neo4j.conf").write_text(lines)
        return subprocess.run(
            [*program, "org.neo4j.server.startup.Neo4jAdminCommand", "server", "validate-config"],
            env={**os.environ, "NEO4J_HOME": str(tmp_path), "NEO4J_CONF": str(tmp_path / "conf")},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return validate


def test_what_neo4js_image_does_not_keep_for_itself_is_named_like_a_setting(services):
    settings = neo4j_settings(services["neo4j"]["environment"])
    assert len(settings) >= 4
    assert all(re.fullmatch(r"[a-z]+(\.[a-z_]+)+", name) for name in settings)


@pytest.mark.servers
def test_neo4j_accepts_every_setting_that_its_container_is_given(services, validated):
    settings = neo4j_settings(services["neo4j"]["environment"])
    accepted = validated(settings)
    assert accepted.returncode == 0, accepted.stdout + accepted.stderr
    refused = validated(settings | neo4j_settings({"NEO4J_PASSWORD": "secret"}))
    assert refused.returncode != 0
    assert "No declared setting with name: PASSWORD" in refused.stdout


def secrets_in_arguments(words: list[str], secrets: set[str]) -> list[str]:
    """The variables with a secret that become arguments of a program, among the words of a command.

    What compose fills in itself is one always. In a script it is none where it is assigned to a variable, goes through
    the shell's own printf, or is in the text that a program reads from its standard input.
    """
    found = re.findall(r"(?<!\$)\$\{?(\w*PASSWORD\w*)", " ".join(words))
    for word in words:
        script = re.sub(r"<<(\w+)\n.*?\n\1\n", "\n", word, flags=re.DOTALL)
        script = re.sub(r'\bprintf %s "\$\$\w+" \|', "", script)
        assigned = re.findall(r'(?:^|\s)(\w+)=(?="?\$\$)', script)
        script = re.sub(r'(^|\s)\w+="\$\$\w+"', r"\1", script)
        found += [name for name in re.findall(r"\$\$\{?(\w+)", script) if name in secrets | set(assigned)]
    return found


def secret_variables(service: dict) -> set[str]:
    """The variables of a service that hold a password."""
    return {name for name, value in service.get("environment", {}).items() if "PASSWORD" in name or "PASSWORD" in value}


def test_no_password_is_an_argument_of_a_program(services):
    for name, service in services.items():
        for words in (service.get("command", []), service.get("healthcheck", {}).get("test", [])):
            assert not secrets_in_arguments(words, secret_variables(service)), (name, words)


@pytest.mark.parametrize(
    "words",
    [
        ["valkey-server", "--requirepass", "${AURA_REDIS__PASSWORD:?set it}"],
        ["sh", "-c", 'exec valkey-server --requirepass "$$REDIS_PASSWORD"'],
        ["CMD-SHELL", "cypher-shell -u neo4j -p \"$${REDIS_PASSWORD}\" 'RETURN 1'"],
        ["sh", "-c", 'P="$$REDIS_PASSWORD" valkey-cli ping; valkey-cli -a "$$P" ping'],
        ["sh", "-c", "REDISCLI_AUTH=${AURA_REDIS__PASSWORD} valkey-cli ping"],
    ],
)
def test_a_password_among_arguments_is_found(words):
    assert secrets_in_arguments(words, {"REDIS_PASSWORD"})


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


@pytest.mark.servers
@pytest.mark.parametrize("name", ["redis", "redis-node-1"])
def test_the_command_of_a_redis_container_asks_for_the_password_and_shows_it_to_nobody(services, name, tmp_path):
    port = free_port()
    (tmp_path / "valkey-server").symlink_to(redis_binary())
    *shell, script = services[name]["command"]
    here = f"dir {tmp_path}\nbind 127.0.0.1\nport {port}\ncluster-port {free_port()}\n"
    assert script.count("dir /data\n") == 1
    environment = services[name]["environment"] | {"REDIS_PASSWORD": HARD_PASSWORD}
    with subprocess.Popen(
        [*shell, script.replace("$$", "$").replace("dir /data\n", here)],
        env={**os.environ, **environment, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        stdout=subprocess.DEVNULL,
    ) as server:
        try:
            with Redis(port=port, password=HARD_PASSWORD, socket_timeout=10, decode_responses=True) as client:
                for _ in range(200):
                    try:
                        assert client.ping()
                        break
                    except RedisConnectionError:
                        time.sleep(0.05)
                told = client.config_get("appendonly", "cluster-enabled", "save")
                assert told == {"appendonly": "yes", "cluster-enabled": environment["REDIS_CLUSTER"], "save": ""}
                assert client.config_get("primaryauth") == {"primaryauth": HARD_PASSWORD}
            with Redis(port=port, socket_timeout=10) as stranger, pytest.raises(AuthenticationError):
                stranger.ping()
            arguments = Path("/proc", str(server.pid), "cmdline").read_bytes()
            assert b"valkey-server" in arguments
            assert b'a"b' not in arguments
        finally:
            server.kill()
