"""The recipe of Neo4j Community 5.26, the long-term line that Java 17 runs: one small JVM, Bolt on loopback only."""

from __future__ import annotations

from collections.abc import Mapping

from aura.services.java import class_path, java
from aura.services.recipe import Launch, Place, Recipe, missing_extra
from aura.settings import LOOPBACK

_TITLE = "Neo4j"
# The heap keys of neo4j.conf are read by the distribution's launcher only, hence the options here; the module options
# are the ones that its documentation asks for.
_JVM = (
    *("-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.awt.headless=true"),
    *(
        f"--add-opens=java.base/{package}=ALL-UNNAMED"
        for package in ("java.nio", "java.io", "sun.nio.ch", "java.util.concurrent")
    ),
    *("-Dlog4j2.disable.jmx=true", "-Dio.netty.tryReflectionSetAccessible=true", "-Dfile.encoding=UTF-8"),
)
_CALL_SECONDS = 5.0
VERSION_QUERY = "CALL dbms.components() YIELD versions RETURN versions[0]"

_CONFIGURATION = """\
server.default_listen_address={host}
server.bolt.listen_address={host}:{client}
server.bolt.advertised_address={host}:{client}
server.http.enabled=false
server.https.enabled=false
dbms.security.auth_enabled=false
dbms.usage_report.enabled=false
internal.dbms.bolt.netty_server_shutdown_quiet_period=0
internal.dbms.bolt.netty_server_shutdown_timeout=2s
server.memory.pagecache.size=64m
db.tx_log.preallocate=false
db.tx_log.rotation.retention_policy=1 files
server.directories.data={data}
server.directories.logs={directory}/logs
server.directories.run={directory}/run
server.directories.plugins={directory}/plugins
server.directories.import={directory}/import
"""


def _prepare(place: Place) -> Launch:
    runtime, jars = java(_TITLE), class_path("neo4j")
    configuration = place.directory / "conf"
    for folder in (configuration, *(place.directory / name for name in ("logs", "run", "plugins", "import"))):
        folder.mkdir(exist_ok=True)
    (configuration / "neo4j.conf").write_text(
        _CONFIGURATION.format(host=LOOPBACK, directory=place.directory, data=place.data, client=place.port),
        encoding="utf-8",
    )
    arguments = (f"--home-dir={place.directory}", f"--config-dir={configuration}", "--console-mode")
    return Launch((runtime, *_JVM, "-cp", jars, "org.neo4j.server.CommunityEntryPoint", *arguments))


def _answer(place: Place) -> str:
    from aura.graph.errors import GraphUnavailableError
    from aura.graph.neo4j_connection import Neo4jConnection

    try:
        connection = Neo4jConnection(_address(place), user=None, password=None, timeout_seconds=_CALL_SECONDS)
    except GraphUnavailableError as error:
        raise missing_extra(_TITLE) from error
    try:
        rows = connection.run("read", lambda query: query(VERSION_QUERY))
    finally:
        connection.close()
    return str(rows[0][0])


def _address(place: Place) -> str:
    return f"bolt://{place.host_and_port}"


def _variables(place: Place) -> Mapping[str, str]:
    return {"AURA_GRAPH__NEO4J": _address(place)}


NEO4J = Recipe(
    name="neo4j",
    title=_TITLE,
    port_setting="services.neo4j_port",
    prepare=_prepare,
    answer=_answer,
    address=_address,
    variables=_variables,
    start_seconds=180.0,
    stop_seconds=40.0,
)
