"""What is asked of Kafka, Redis, Neo4j and PostgreSQL, each through its own client.

Client libraries are imported when a probe is made, not when it runs: the figure is the server's time.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from aura.services.kafka_features import metadata_version
from aura.services.neo4j_server import VERSION_QUERY
from aura.services.probe import Probe, ProbeError, connect, not_configured, unusable
from aura.settings import Settings
from aura.settings_sections import PostgresSettings, RedisSettings

PROBE_TOPIC = "aura.status"
_PROBE_TOPIC_CONFIG = {"retention.ms": "3600000", "segment.bytes": "1048576"}
_PROBE_KEY_SECONDS = 60
_EXTRA = "Install the extra: pip install 'aura[servers]'."
_DEFAULT_PORTS = {"redis": 6379, "bolt": 7687, "neo4j": 7687, "postgresql": 5432, "kafka": 9092}


def _reach(address: str, call_seconds: float, scheme: str) -> None:
    """Raise the plain error of the network, if there is one, rather than the client's words for it."""
    at = urlsplit(address)
    connect(at.hostname or "", at.port or _DEFAULT_PORTS[scheme], call_seconds).close()


def kafka_probe(settings: Settings) -> Probe:
    """Metadata, then a message produced to the probe topic with all acknowledgements and consumed again."""
    events, operation = settings.events, "metadata; one message produced and consumed"
    if events.kafka is None:
        return not_configured("kafka", "events.kafka is not set: the embedded log is used")
    remedy = "Start it (`aura services up kafka`) or correct events.kafka (AURA_EVENTS__KAFKA)."
    bootstrap = events.kafka
    try:
        import confluent_kafka
    except ImportError:
        return unusable("kafka", operation, bootstrap, "the client library is not installed", _EXTRA)
    from aura.events.kafka_calls import KafkaAddress

    password = events.kafka_password.get_secret_value() if events.kafka_password else None
    address = KafkaAddress(bootstrap, events.kafka_user, password, events.kafka_tls)

    def run(call_seconds: float) -> str | None:
        version = _first_version(bootstrap.split(","), tls=events.kafka_tls, call_seconds=call_seconds)
        config = {**address.client_config(call_seconds), "log_level": 0, "error_cb": lambda _: None}
        try:
            _round_trip(config, call_seconds)
        except confluent_kafka.KafkaException as error:
            told = error.args[0]
            if told.code() in {confluent_kafka.KafkaError._TRANSPORT, confluent_kafka.KafkaError._TIMED_OUT}:  # noqa: SLF001
                raise TimeoutError from error  # a connection was possible a moment ago
            raise ProbeError(told.str()) from error
        return version

    return Probe("kafka", operation, bootstrap, remedy, run)


def _first_version(brokers: list[str], *, tls: bool, call_seconds: float) -> str | None:
    """What the first broker that can be reached says of its version."""
    failures: list[OSError] = []
    for broker in brokers:
        at = urlsplit(f"//{broker.strip()}")
        try:
            return metadata_version(
                at.hostname or "", at.port or _DEFAULT_PORTS["kafka"], tls=tls, call_seconds=call_seconds / len(brokers)
            )
        except OSError as error:
            failures.append(error)
    raise failures[0]


def _round_trip(config: Mapping[str, Any], call_seconds: float) -> None:
    from confluent_kafka import Consumer, Producer, TopicPartition
    from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # re-exported without saying so

    admin = AdminClient(dict(config))
    if PROBE_TOPIC not in admin.list_topics(timeout=call_seconds).topics:
        topic = NewTopic(PROBE_TOPIC, 1, config=_PROBE_TOPIC_CONFIG)
        for created in admin.create_topics([topic], operation_timeout=call_seconds).values():
            created.result(call_seconds)
    sent = secrets.token_bytes(16)
    placed: list[tuple[int, int]] = []
    refused: list[str] = []

    def report(error: Any, message: Any) -> None:  # noqa: ANN401  confluent-kafka's types
        if error is not None:
            refused.append(str(error))
        else:
            placed.append((message.partition(), message.offset()))

    producer = Producer({**config, "acks": "all", "message.timeout.ms": int(1000 * call_seconds)})
    producer.produce(PROBE_TOPIC, sent, on_delivery=report)
    producer.flush(call_seconds)
    if not placed:
        raise ProbeError(f"a message was not acknowledged: {refused[0] if refused else 'no answer'}")
    consumer = Consumer({**config, "group.id": PROBE_TOPIC, "enable.auto.commit": False})
    try:
        partition, offset = placed[0]
        consumer.assign([TopicPartition(PROBE_TOPIC, partition, offset)])
        message = consumer.poll(call_seconds)
        if message is None:
            raise ProbeError("the message was acknowledged and could not be consumed in time")
        if message.error() is not None or message.value() != sent:
            raise ProbeError(f"the message that was consumed is not the one produced ({message.error()})")
    finally:
        consumer.close()


def redis_probe(settings: Settings) -> Probe:
    """A key set and got, then deleted."""
    redis, operation = settings.redis, "one key set, got and deleted"
    if redis.url is None:
        return not_configured("redis", "redis.url is not set: no Redis is used")
    remedy = "Start it (`aura services up redis`) or correct redis.url (AURA_REDIS__URL)."
    try:
        from redis import exceptions as redis_errors

        open_client = _redis_client(redis, redis.url)
    except ImportError:
        return unusable("redis", operation, redis.url, "the client library is not installed", _EXTRA)
    url = redis.url

    def run(call_seconds: float) -> str | None:
        if not url.startswith("unix://"):
            _reach(url, call_seconds, "redis")
        key, value = f"aura:status:{secrets.token_hex(8)}", secrets.token_hex(16)
        try:
            with open_client(call_seconds) as client:
                client.set(key, value, ex=_PROBE_KEY_SECONDS)
                if client.get(key) != value:
                    raise ProbeError("what was got is not what was set")
                client.delete(key)
                told = client.info("server")
        except redis_errors.TimeoutError as error:
            raise TimeoutError from error
        return str(told.get("valkey_version") or told["redis_version"])

    return Probe("redis", operation, url, remedy, run)


def _redis_client(redis: RedisSettings, url: str) -> Callable[[float], Any]:
    from redis import Redis, RedisCluster
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    kind = RedisCluster if redis.cluster else Redis

    def open_client(call_seconds: float) -> Any:  # noqa: ANN401  two kinds of client
        return kind.from_url(
            url,
            username=redis.user,
            password=redis.password.get_secret_value() if redis.password else None,
            socket_timeout=call_seconds,
            socket_connect_timeout=call_seconds,
            retry=Retry(NoBackoff(), 0),
            decode_responses=True,
        )

    return open_client


def neo4j_probe(settings: Settings) -> Probe:
    """A query for the server's components."""
    graph, operation = settings.graph, "one query"
    if graph.neo4j is None:
        return not_configured("neo4j", "graph.neo4j is not set: the embedded graph is used")
    remedy = "Start it (`aura services up neo4j`) or correct graph.neo4j (AURA_GRAPH__NEO4J)."
    try:
        import neo4j  # noqa: F401
    except ImportError:
        return unusable("neo4j", operation, graph.neo4j, "the client library is not installed", _EXTRA)
    from aura.graph.errors import GraphUnavailableError
    from aura.graph.neo4j_connection import Neo4jConnection

    address = graph.neo4j
    password = graph.neo4j_password.get_secret_value() if graph.neo4j_password else None

    def run(call_seconds: float) -> str | None:
        _reach(address, call_seconds, "bolt")
        connection = Neo4jConnection(address, user=graph.neo4j_user, password=password, timeout_seconds=call_seconds)
        try:
            rows = connection.run("read", lambda query: query(VERSION_QUERY))
        except GraphUnavailableError as error:
            raise error.__cause__ or error from error
        finally:
            connection.close()
        return str(rows[0][0])

    return Probe("neo4j", operation, address, remedy, run)


def postgres_probe(settings: Settings) -> Probe:
    """A query, over the connection that the Dagster instance would use."""
    postgres, operation = settings.postgres, "one query"
    if postgres.address is None:
        return not_configured("postgres", "postgres.address is not set: Dagster keeps SQLite files")
    remedy = "Start it (`aura services up postgres`) or correct postgres.address (AURA_POSTGRES__ADDRESS)."
    try:
        import psycopg2  # noqa: F401
    except ImportError:
        return unusable("postgres", operation, postgres.address, "the client library is not installed", _EXTRA)
    address = postgres.address

    def run(call_seconds: float) -> str | None:
        _reach(address, call_seconds, "postgresql")
        return _query_postgres(postgres, address, call_seconds)

    return Probe("postgres", operation, address, remedy, run)


def _query_postgres(postgres: PostgresSettings, address: str, call_seconds: float) -> str:
    import psycopg2

    begin = time.monotonic()
    try:
        connection = psycopg2.connect(
            address,
            user=postgres.user,
            password=postgres.password.get_secret_value() if postgres.password else None,
            # Whole seconds, and less than two are taken as two.
            connect_timeout=max(2, int(call_seconds)),
            options=f"-c statement_timeout={int(1000 * call_seconds)}",
        )
    except psycopg2.OperationalError as error:
        if time.monotonic() - begin >= call_seconds:
            raise TimeoutError from error
        # "connection to server at ..., port ... failed: FATAL:  ...": the reason is at the end.
        raise ProbeError(str(error).strip().rpartition("failed: ")[2]) from error
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('server_version')")
            (version,) = cursor.fetchone()
    finally:
        connection.close()
    return str(version).split()[0]
