"""deploy/servers.sh, with the distribution's own apt on a package source and a machine of the test's."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from aura.services.java import java_servers

SCRIPT = Path(__file__).resolve().parents[2] / "deploy" / "servers.sh"
TOOLS = (
    *("bash", "sh", "env", "sed", "head", "id", "dirname", "cat", "rm", "tar", "diff", "ldconfig", "start-stop-daemon"),
    *("apt-get", "apt-cache", "dpkg", "dpkg-deb", "dpkg-split", "dpkg-query", "update-alternatives"),
)
INITDB = list(Path("/usr/lib/postgresql").glob("*/bin/initdb"))


def java_of(version: str) -> str:
    """A program that gives this as its version."""
    return f"#!/bin/sh\necho 'openjdk version \"{version}\" 2024-01-16' >&2\n"


class Distribution:
    """A package source of packages with one program each, and the machine that they are installed on."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.machine = home / "machine"
        self.source = home / "source"
        self.tools = home / "tools"
        for folder in (
            *(self.machine / "var/lib/dpkg" / name for name in ("updates", "info")),
            *(home / "apt" / name for name in ("lists/partial", "archives/partial", "parts", "log")),
            *(self.machine / "usr/bin", self.source, self.tools),
        ):
            folder.mkdir(parents=True)
        (self.machine / "var/lib/dpkg/status").touch()
        (self.source / "Packages").touch()
        (home / "sources.list").write_text(f"deb [trusted=yes] file:{self.source} ./\n")
        (home / "apt.conf").write_text(
            f'Dir::State "{home}/apt"; Dir::State::status "{self.machine}/var/lib/dpkg/status";'
            f'Dir::Cache "{home}/apt"; Dir::Log "{home}/apt/log";'
            f'Dir::Etc::sourcelist "{home}/sources.list"; Dir::Etc::sourceparts "{home}/apt/parts";'
            f'Dir::Etc::parts "{home}/apt/parts"; Dir::Etc::preferencesparts "{home}/apt/parts";'
            f'APT::Sandbox::User "root"; Dpkg::Options {{ "--root={self.machine}"; }};'
        )
        for tool in TOOLS:
            (self.tools / tool).symlink_to(shutil.which(tool, path="/usr/sbin:/usr/bin:/sbin:/bin"))

    def offer(self, package: str, program: str, text: str) -> None:
        """Put a package with one program into the source."""
        tree = self.home / package
        (tree / "DEBIAN").mkdir(parents=True)
        (tree / "usr/bin").mkdir(parents=True)
        (tree / "usr/bin" / program).write_text(text)
        (tree / "usr/bin" / program).chmod(0o755)
        fields = f"Package: {package}\nVersion: 1\nArchitecture: all\nMaintainer: nobody\nDescription: {program}\n"
        (tree / "DEBIAN/control").write_text(fields)
        built = self.source / f"{package}.deb"
        subprocess.run(["dpkg-deb", "--build", tree, built], check=True, capture_output=True)
        with (self.source / "Packages").open("a") as index:
            index.write(f"{fields}Filename: ./{built.name}\nSize: {built.stat().st_size}\n")
            index.write(f"SHA256: {hashlib.sha256(built.read_bytes()).hexdigest()}\n\n")

    def run_script(self) -> str:
        """Run the script on this machine; returns what it says."""
        environment = {name: value for name, value in os.environ.items() if name != "JAVA_HOME"}
        done = subprocess.run(
            [SCRIPT],
            env={
                **environment,
                "APT_CONFIG": str(self.home / "apt.conf"),
                "XDG_CACHE_HOME": str(self.home / "cache"),
                "PATH": f"{self.machine}/usr/bin:{self.home}/old:{self.tools}",
            },
            capture_output=True,
            text=True,
            timeout=240,
            check=True,
        )
        return done.stderr

    def has(self, package: str) -> bool:
        """Whether it is installed."""
        return f"Package: {package}\n" in (self.machine / "var/lib/dpkg/status").read_text()


@pytest.fixture
def distribution(tmp_path) -> Distribution:
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        pytest.skip("only root of a machine with apt installs packages")
    if not INITDB:
        pytest.skip("the script would prepare this machine for PostgreSQL, which is not installed")
    return Distribution(tmp_path)


def test_the_java_that_a_release_has_is_installed_and_what_it_lacks_is_said(distribution):
    distribution.offer("openjdk-21-jre-headless", "java", java_of("21.0.2"))
    distribution.offer("default-jre-headless", "java", java_of("21.0.2"))
    told = distribution.run_script()
    assert distribution.has("openjdk-21-jre-headless")
    assert not distribution.has("default-jre-headless")
    assert "Not here and not installed: Maven." in told
    assert "Not here and not installed: Java" not in told
    assert "jars of Kafka and Neo4j" in told


def test_an_old_java_on_the_path_does_not_count(distribution):
    old = distribution.home / "old" / "java"
    old.parent.mkdir()
    old.write_text(java_of("11.0.2"))
    old.chmod(0o755)
    distribution.offer("maven", "mvn", "#!/bin/sh\nexit 1\n")
    told = distribution.run_script()
    assert "Not here and not installed: Java 17 or newer (PATH has 11)." in told
    assert distribution.has("maven")
    distribution.offer("default-jre-headless", "java", java_of("17.0.9"))
    assert "Not here and not installed" not in distribution.run_script()
    assert distribution.has("default-jre-headless")


@pytest.mark.servers
def test_fetching_leaves_the_jars_of_every_java_server_on_this_machine(kafka, neo4j, aura):
    done = aura("services", "fetch")
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == java_servers() == ["kafka", "neo4j"]
    assert all(int(re.search(r"(\d+) jars", line)[1]) > 20 for line in done.stdout.splitlines())


def test_jars_that_cannot_be_fetched_are_named_with_the_reason(aura, tmp_path):
    done = aura("services", "fetch", XDG_CACHE_HOME=str(tmp_path), PATH=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.count("install Maven") == len(java_servers())
    assert "Traceback" not in done.stderr
