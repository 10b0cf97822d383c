"""The compose file, the image and the workflow: against their schemas, and against the rest of the repository."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import yaml

from aura.settings import load_settings, variable_of

PROJECT = Path(__file__).resolve().parents[2]
COMPOSE = PROJECT / "docker-compose.yml"
DOCKERFILE = (PROJECT / "Dockerfile").read_text(encoding="utf-8")
HERE = Path(sys.executable).parent
SERVERS = {"kafka", "neo4j", "redis", "postgres"}
OWN = {"store-owner", "mlflow", "code-location", "dagster-webserver", "dagster-daemon", "dashboard"}
NAMES = ("redis.url", "redis.cluster", "redis.password", "postgres.password", "graph.neo4j_password")
CLUSTER = {"redis-node-1", "redis-node-2", "redis-node-3", "redis-cluster"}


@pytest.fixture(scope="module")
def compose() -> dict:
    return yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def services(compose) -> dict:
    return compose["services"]


@pytest.fixture(scope="module")
def locked_closure():
    spec = importlib.util.spec_from_file_location("locked_closure", PROJECT / "deploy" / "locked_closure.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("vendor.compose-spec", [COMPOSE]),
        ("vendor.github-workflows", sorted((PROJECT / ".github" / "workflows").glob("*.yml"))),
    ],
)
def test_files_for_others_fit_the_schemas_of_others(schema, files):
    assert files
    checked = subprocess.run(
        [HERE / "check-jsonschema", "--builtin-schema", schema, *files], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_servers_the_projects_own_services_and_the_cluster_are_there(services):
    assert set(services) == SERVERS | OWN | CLUSTER


def test_images_are_pinned_and_of_the_version_that_runs_without_containers(services):
    for name, service in services.items():
        assert re.fullmatch(r"[a-z0-9./-]+:\d+\.\d+(\.\d+)?(-[a-z]+)?", service["image"]), name
    for name, artifact in {"kafka": "kafka_2.13", "neo4j": "neo4j"}.items():
        pom = ET.parse(PROJECT / "deploy" / "services" / name / "pom.xml").getroot()
        space = {"m": "http://maven.apache.org/POM/4.0.0"}
        versions = {
            dependency.findtext("m:artifactId", namespaces=space): dependency.findtext("m:version", namespaces=space)
            for dependency in pom.iterfind(".//m:dependency", space)
        }
        assert services[name]["image"].split(":")[1].split("-")[0] == versions[artifact]
    version = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert {services[name]["image"] for name in OWN} == {f"aura:{version}"}
    bases = [line for line in DOCKERFILE.splitlines() if line.startswith("FROM")]
    assert all(re.match(r"FROM [a-z]+:\d+\.\d+\.\d+-", line) for line in bases)


def test_nothing_has_more_rights_than_it_needs(services):
    for name, service in services.items():
        assert not service.get("privileged"), name
        assert "cap_add" not in service, name
        assert service.get("network_mode") != "host", name
        assert service.get("pid") != "host", name
        assert "docker.sock" not in str(service.get("volumes", "")), name
    for name in OWN:
        assert services[name]["cap_drop"] == ["ALL"], name
        assert services[name]["security_opt"] == ["no-new-privileges:true"], name


def test_ports_are_published_on_loopback_only(services):
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert len(published) >= 8
    assert all(port.startswith("127.0.0.1:") for port in published)
    outside = [port.split(":")[1] for port in published]
    assert len(outside) == len(set(outside))


def test_every_long_running_service_has_a_health_check_and_keeps_its_data_in_a_volume(services):
    for name in services.keys() - {"redis-cluster"}:
        assert services[name]["healthcheck"]["test"], name
        kinds = {volume["type"] for volume in services[name]["volumes"]}
        assert "volume" in kinds, name


def test_every_volume_network_and_dependency_that_is_named_exists(compose, services):
    used = set()
    for name, service in services.items():
        assert set(service["networks"]) <= compose["networks"].keys(), name
        for volume in service.get("volumes", []):
            if volume["type"] == "volume":
                used.add(volume["source"])
        for other, condition in service.get("depends_on", {}).items():
            assert condition["condition"] == "service_healthy"
            assert "healthcheck" in services[other], (name, other)
        ipc = service.get("ipc", "")
        if ipc.startswith("service:"):
            assert services[ipc.removeprefix("service:")]["ipc"] == "shareable"
    assert used == compose["volumes"].keys()


def test_services_outside_a_profile_need_none_inside_one(services):
    for name in SERVERS | OWN:
        assert "profiles" not in services[name]
        assert not set(services[name].get("depends_on", {})) & CLUSTER
    assert all(services[name]["profiles"] == ["redis-cluster"] for name in CLUSTER)


def as_given(value: str) -> str:
    """What compose makes of a value when every secret is given and nothing else."""
    return re.sub(r"\$\{[A-Z0-9_]+:(?:-([^}]*)|\?[^}]*)\}", lambda match: match[1] or "given", value)


def test_every_variable_that_is_set_is_a_setting_with_an_accepted_value(services, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in OWN:
        for variable, value in services[name].get("environment", {}).items():
            assert variable.startswith("AURA_"), (name, variable)
            monkeypatch.setenv(variable, as_given(value))
    settings = load_settings()
    assert settings.events.kafka == "kafka:19092"
    assert settings.postgres.password.get_secret_value() == "given"
    assert settings.redis.url == "redis://redis:6379/0"
    assert not settings.redis.cluster


def test_every_secret_must_be_given(services):
    values = re.findall(
        r"^\s+(?:\S*PASSWORD: |REDISCLI_AUTH: |NEO4J_AUTH: neo4j/)(.*)$", COMPOSE.read_text(), re.MULTILINE
    )
    assert len(values) >= 8
    for value in values:
        assert re.fullmatch(r"\$\{(AURA_[A-Z0-9_]+PASSWORD):\?set \1\}", value), value


def test_what_compose_takes_from_outside_are_settings_and_the_corpus():
    outside = set(re.findall(r"(?<!\$)\$\{([A-Z0-9_]+)", COMPOSE.read_text()))
    assert outside - {"CORPUS_DIRECTORY"} <= {variable_of(name) for name in NAMES}


def test_addresses_in_the_settings_name_services_and_their_ports(services):
    settings = services["code-location"]["environment"]
    assert settings["AURA_EVENTS__KAFKA"] == "kafka:19092"
    assert "INSIDE://kafka:19092" in services["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    workspace = yaml.safe_load((PROJECT / "deploy" / "workspace.compose.yaml").read_text())
    server = workspace["load_from"][0]["grpc_server"]
    assert server["host"] in services
    assert f"--port {server['port']}" in services[server["host"]]["command"][-1]
    for variable, service in {
        "AURA_GRAPH__NEO4J": "neo4j",
        "AURA_POSTGRES__ADDRESS": "postgres",
        "AURA_MEASURE__MLFLOW_URI": "mlflow",
    }.items():
        assert f"//{service}:" in settings[variable]


def test_the_programs_that_are_started_are_in_the_environment_with_these_options(services):
    for name in OWN:
        command = services[name]["command"]
        script = command[-1] if command[0] == "sh" else shlex.join(command)
        for part in script.replace("exec ", "").split("&&"):
            words = shlex.split(part)
            assert (HERE / words[0]).is_file(), (name, words[0])


def test_the_image_installs_the_lock_with_its_hashes_and_does_not_run_as_root():
    assert DOCKERFILE.count("--require-hashes") == 2
    assert not re.search(r"pip install(?!.*(--require-hashes|--no-index))", DOCKERFILE)
    last = DOCKERFILE.split("\nFROM ")[-1]
    assert re.search(r"^USER (?!root|0)\S+$", last, re.MULTILINE)
    allowed = [line[1:] for line in (PROJECT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = [
        source
        for line in DOCKERFILE.splitlines()
        if line.startswith("COPY") and "--from" not in line
        for source in line.split()[1:-1]
    ]
    assert set(copied) <= set(allowed)
    assert all((PROJECT / source).exists() for source in copied)


def test_the_locked_closure_has_what_runs_and_leaves_the_tools_out(locked_closure):
    lock = (PROJECT / "requirements.lock").read_text(encoding="utf-8")
    kept = locked_closure.closure(lock, [])
    names = set(locked_closure.blocks(kept))
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"].values()
    asked = [*project["project"]["dependencies"], *(text for extra in extras for text in extra)]
    assert {re.match(r"[A-Za-z0-9._-]+", text)[0].lower() for text in asked} <= names
    assert not names & {"pytest", "ruff", "mypy", "playwright", "uv", "hatchling", "pre-commit"}
    whole = locked_closure.blocks(lock)
    for name, block in locked_closure.blocks(kept).items():
        assert block == whole[name]
        assert "--hash=sha256:" in block


def test_the_locked_closure_is_closed_under_what_is_installed(locked_closure):
    from importlib.metadata import distribution

    from packaging.requirements import Requirement

    lock = (PROJECT / "requirements.lock").read_text(encoding="utf-8")
    names = set(locked_closure.blocks(locked_closure.closure(lock, ["hatchling"])))
    for name in names:
        for text in distribution(name).requires or []:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                assert requirement.name.lower() in names, (name, text)
    with pytest.raises(KeyError, match="no-such-package"):
        locked_closure.closure(lock, ["no-such-package"])


def test_the_wheel_of_the_image_has_the_data_files(tmp_path):
    subprocess.run(
        [HERE / "hatchling", "build", "-t", "wheel", "-d", tmp_path], cwd=PROJECT, check=True, capture_output=True
    )
    import zipfile

    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"aura/services/status.schema.json", "aura/cli.py", "aura_assets/definitions.py", "app/main.py"} <= names
