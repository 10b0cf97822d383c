"""The recipe of Apache Kafka: one KRaft node, broker and controller in one small JVM.

Durability: a process that is killed loses nothing that it acknowledged, since the page cache outlives it; the power
failing can, on one node. See the operations page of Kafka's documentation on `log.flush.interval.messages`.
"""

from __future__ import annotations

import base64
import os
import subprocess
import uuid
from collections.abc import Mapping
from typing import Any

from aura.services.java import class_path, java
from aura.services.recipe import Launch, Place, Recipe, ServerError, missing_extra
from aura.settings import LOOPBACK

_TITLE = "Apache Kafka"
_JVM = ("-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.awt.headless=true")
_FORMAT_SECONDS = 120
_METADATA_SECONDS = 5

# Everything is one of its kind: one broker, three partitions where a default is asked for, small buffers and segments.
_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://{host}:{client},CONTROLLER://{host}:{controller}
advertised.listeners=PLAINTEXT://{host}:{client}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
log.dirs={data}
num.partitions=3
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=3
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=3
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=4000
broker.heartbeat.interval.ms=1000
num.network.threads=2
num.io.threads=2
background.threads=2
log.cleaner.dedupe.buffer.size=2097152
log.segment.bytes=16777216
log.index.size.max.bytes=1048576
"""

_LOGGING = """\
status=warn
shutdownHook=disable
appender.console.type=Console
appender.console.name=console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%d{ISO8601} %p %c{1}: %m%n
rootLogger.level=info
rootLogger.appenderRef.console.ref=console
"""


def _prepare(place: Place) -> Launch:
    runtime, jars = java(_TITLE), class_path("kafka")
    properties = place.directory / "server.properties"
    properties.write_text(_PROPERTIES.format(host=LOOPBACK, data=place.data, **place.ports), encoding="utf-8")
    logging = place.directory / "log4j2.properties"
    logging.write_text(_LOGGING, encoding="utf-8")
    program = (runtime, *_JVM, f"-Dlog4j2.configurationFile={logging}", "-cp", jars)
    if not (place.data / "meta.properties").is_file():
        _format((*program, "kafka.tools.StorageTool", "format", "-c", str(properties)))
    return Launch((*program, "kafka.Kafka", str(properties)))


def _format(command: tuple[str, ...]) -> None:
    cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
    done = subprocess.run(  # noqa: S603
        # "=": an identifier may begin with a dash.
        [*command, f"--cluster-id={cluster}", "--ignore-formatted"],
        capture_output=True,
        text=True,
        timeout=_FORMAT_SECONDS,
        check=False,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    )
    if done.returncode != 0:
        raise ServerError(f"{_TITLE} cannot format its data directory: {(done.stdout + done.stderr).strip()[-800:]}")


def _answer(place: Place) -> str:
    try:
        from confluent_kafka.admin import AdminClient
    except ImportError as error:
        raise missing_extra(_TITLE) from error
    # Refused connections while the broker starts are expected: they are not worth a line on the terminal.
    quiet: dict[str, Any] = {"log_level": 0, "error_cb": lambda _: None}
    client = AdminClient({"bootstrap.servers": place.host_and_port, **quiet})
    metadata = client.list_topics(timeout=_METADATA_SECONDS)
    if 1 not in metadata.brokers:
        raise ServerError("the broker has not registered with its controller yet")
    return ""


def _address(place: Place) -> str:
    return place.host_and_port


def _variables(place: Place) -> Mapping[str, str]:
    return {"AURA_EVENTS__KAFKA": _address(place)}


KAFKA = Recipe(
    name="kafka",
    title=_TITLE,
    port_setting="services.kafka_port",
    prepare=_prepare,
    answer=_answer,
    address=_address,
    variables=_variables,
    ports=("client", "controller"),
    start_seconds=120.0,
    stop_seconds=30.0,
)
