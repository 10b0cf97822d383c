"""A value written to each kind of server by its own client, and read back."""

from __future__ import annotations

from urllib.parse import urlsplit

from aura.services.server import Server


def write(server: Server, value: str) -> None:
    """Keep one value in the server; it has acknowledged it when this returns."""
    _WRITERS[server.recipe.name](server, value)


def read(server: Server) -> str:
    """The value that was kept."""
    return _READERS[server.recipe.name](server)


def _write_kafka(server, value):
    from confluent_kafka import Producer
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient({"bootstrap.servers": server.address})
    for future in admin.create_topics([NewTopic("kept", 1, 1)]).values():
        future.result(30)
    producer = Producer({"bootstrap.servers": server.address, "acks": "all"})
    producer.produce("kept", value)
    assert producer.flush(30) == 0


def _read_kafka(server):
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": server.address, "group.id": "kept", "enable.auto.commit": False})
    consumer.assign([TopicPartition("kept", 0, 0)])
    message = consumer.poll(30)
    consumer.close()
    return message.value().decode()


def _write_neo4j(server, value):
    from neo4j import GraphDatabase

    with GraphDatabase.driver(server.address) as driver:
        driver.execute_query("CREATE (:Kept {value: $value})", value=value)


def _read_neo4j(server):
    from neo4j import GraphDatabase

    with GraphDatabase.driver(server.address) as driver:
        return driver.execute_query("MATCH (n:Kept) RETURN n.value AS value").records[0]["value"]


def _redis_client(server):
    import redis

    return redis.Redis.from_url(server.address, decode_responses=True, socket_timeout=30)


def _write_redis(server, value):
    with _redis_client(server) as client:
        client.set("kept", value)
        # The append-only file is flushed once a second otherwise.
        assert client.execute_command("WAITAOF", 1, 0, 30_000)[0] == 1


def _read_redis(server):
    with _redis_client(server) as client:
        return client.get("kept")


def _sql(server, *statements):
    import psycopg2

    at = urlsplit(server.address)
    connection = psycopg2.connect(
        host=at.hostname,
        port=at.port,
        dbname=at.path[1:],
        user=server.variables["AURA_POSTGRES__USER"],
        password=server.variables["AURA_POSTGRES__PASSWORD"],
    )
    try:
        with connection, connection.cursor() as cursor:
            for statement, parameters in statements:
                cursor.execute(statement, parameters)
            return cursor.fetchone() if cursor.description else None
    finally:
        connection.close()


def _write_postgres(server, value):
    _sql(server, ("CREATE TABLE kept (value text)", ()), ("INSERT INTO kept VALUES (%s)", (value,)))


def _read_postgres(server):
    return _sql(server, ("SELECT value FROM kept", ()))[0]


_WRITERS = {"kafka": _write_kafka, "neo4j": _write_neo4j, "redis": _write_redis, "postgres": _write_postgres}
_READERS = {"kafka": _read_kafka, "neo4j": _read_neo4j, "redis": _read_redis, "postgres": _read_postgres}
