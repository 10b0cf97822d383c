"""What crashes cost the event log, and what the log costs over a bare Kafka client.

Embedded log, killed: producers and a consumer on one SQLite file are killed (SIGKILL) at random moments, one of them or
all at once, and started again; afterwards every acknowledged event has to be in the log and to have had exactly one
effect, in order within its key. The recovery is the time from starting a process, the interpreter included, to its
first acknowledged event or effect.

Kafka, killed: the same with a real broker, which is killed as well. Its recovery is the time from its death to the
first event that is acknowledged and the first effect after it is back, the broker's own start included.

Throughput: `EventLog` on Kafka against bare confluent-kafka in the same process and on the same broker, taking turns.
Both begin with the same events, end with every delivery report counted, and configure the producer alike (idempotent,
acks=all, lz4), and know after each batch of 5,000 that it is durable. The bare side encodes JSON and the CloudEvents
headers and hands over; `EventLog` also validates the batch before it sends anything of it. Reading: the bare side has
all partitions assigned at once and decodes JSON; `EventLog` reads partition after partition, decodes and validates.
Connecting is paid before the clock starts.

    python benchmarks/events.py [--part embedded|kafka|throughput ...] [--kills N] [--broker-kills N] [--events N]
                                [--runs N] [--json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from events_crash import checker
from events_crash.bugs import open_log
from events_crash.environment import ALL, Environment, Report, Settings
from events_crash.plan import registry
from report import Figure, as_json, figure, table, tell

from aura.events.event import Event, new_event
from aura.events.kafka_calls import KafkaAddress
from aura.events.kafka_log import POLL_EVERY, KafkaEventLog, producer_config
from aura.events.topics import TOPICS, Topic
from aura.services.recipes import RECIPES
from aura.services.server import Server

PARTS = ("embedded", "kafka", "throughput")
RESTART_GOAL = 1.0
RECOVERY_GOAL = 30.0
TIME_GOAL = 1.25
"""Time per event over that of the bare client: a throughput of at least 0.8."""
TIME_OF = {
    "publish": "time to publish an event",
    "publish, CPU": "time to publish an event, CPU time of the caller",
    "read": "time to read an event",
}
BATCH = 5000
"""Events in one call of `EventLog.publish`, and records in one read."""
TIMEOUT_SECONDS = 60.0


def crash(
    settings: Settings, kills: int, events: int, broker: Server | None, broker_kills: int
) -> tuple[checker.Verdict, Report]:
    """Kill as often as wanted, spread over the run, until enough events are acknowledged; then check."""
    with Environment(settings, seed=kills, broker=broker) as environment:
        environment.wait_for(1)
        done = 0
        for number in range(1, kills + 1):
            environment.kill_process()
            while done * kills < broker_kills * number:
                environment.kill_broker()
                done += 1
            if number % 10 == 0:
                tell(f"{settings.topic}: {number} of {kills} kills, {environment.acknowledged()} events acknowledged")
        environment.wait_for(events)
        environment.finish()
    log = open_log(settings.place, registry(settings.topic, settings.partitions))
    logged = checker.in_log(log, settings.topic)
    log.close()
    effects = checker.in_effects(settings.folder / "effects.db")
    return checker.check(checker.acknowledged_by_producer(settings.folder), logged, effects), environment.report


def crash_figures(name: str, verdict: checker.Verdict, report: Report) -> Iterator[Figure]:
    """What a crash run found: everything that should be 0, then how long the recoveries took."""
    yield figure(f"{name}: acknowledged", [verdict.acknowledged], "events")
    for victim, count in sorted(report.kills.items()):
        whom = victim if victim == ALL else f"the {victim}"
        yield figure(f"{name}: kills of {whom}", [count], "kills")
    for what in ("lost", "without_effect", "duplicates", "disordered", "unplanned"):
        count = getattr(verdict, what)
        yield figure(f"{name}: {what.replace('_', ' ')}", [count], "events", goal=0)
    processes = [each for victim, some in report.recoveries.items() if victim != "broker" for each in some]
    goal = RESTART_GOAL if "broker" not in report.recoveries else None
    yield figure(f"{name}: restart of a process, p99", processes, "s", value=p99(processes), goal=goal)
    if "broker" in report.recoveries:
        runs = report.recoveries["broker"]
        yield figure(f"{name}: recovery from a broker's death, longest", runs, "s", value=max(runs), goal=RECOVERY_GOAL)


def p99(values: Sequence[float]) -> float:
    """The 99th percentile: the smallest value that 99 % of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-99 * len(ordered) // 100) - 1)]


@contextmanager
def broker(folder: Path) -> Iterator[Server]:
    """A real Kafka that ends with this program."""
    server = Server(RECIPES["kafka"], folder, tethered=True)
    tell("starting Kafka")
    server.start()
    try:
        yield server
    finally:
        server.kill()


def payloads(count: int) -> list[dict[str, object]]:
    """Data of corpus events with three items each."""
    return [
        {"source": f"source-{n % 64}", "changed": [f"item-{n}-{m}" for m in range(3)], "removed": []}
        for n in range(count)
    ]


def events_of(data: Sequence[dict[str, object]]) -> list[Event]:
    """The events of the payloads."""
    return [
        new_event("corpus.items.changed", each, source="benchmark", key=str(each["source"]), traceparent=None)
        for each in data
    ]


def bare_publish(address: KafkaAddress, topic: Topic, data: Sequence[dict[str, object]]) -> tuple[float, float]:
    """Publish with confluent-kafka alone; returns the seconds, and the CPU time of this thread."""
    from confluent_kafka import Producer

    producer = Producer(producer_config(address, TIMEOUT_SECONDS))
    # Connecting and the producer's id are paid once, not per event.
    producer.produce(topic.name, b"{}")
    producer.flush(TIMEOUT_SECONDS)
    events = events_of(data)
    delivered = [0]

    def report(error: object, _: object) -> None:
        if error is not None:
            raise RuntimeError(error)
        delivered[0] += 1

    started, cpu = time.perf_counter(), time.thread_time()
    for number, event in enumerate(events):
        headers = [
            ("content-type", b"application/json"),
            ("ce_specversion", b"1.0"),
            ("ce_type", event.type.encode()),
            ("ce_dataschema", event.dataschema.encode()),
            ("ce_source", event.source.encode()),
            ("ce_id", event.id.encode()),
            ("ce_time", event.time.isoformat().encode()),
            ("ce_partitionkey", event.key.encode()),
        ]
        producer.produce(
            topic.name,
            json.dumps(event.data).encode(),
            event.key,
            on_delivery=report,
            timestamp=int(event.time.timestamp() * 1000),
            headers=headers,
        )
        if not number % POLL_EVERY:
            producer.poll(0)
        if (number + 1) % BATCH == 0 and producer.flush(TIMEOUT_SECONDS):
            raise RuntimeError("the broker did not acknowledge in time")
    producer.flush(TIMEOUT_SECONDS)
    seconds, cpu = time.perf_counter() - started, time.thread_time() - cpu
    if delivered[0] != len(events):
        raise RuntimeError(f"{delivered[0]} of {len(events)} events were delivered")
    return seconds, cpu


def log_publish(log: KafkaEventLog, topic: Topic, data: Sequence[dict[str, object]]) -> tuple[float, float]:
    """Publish through `EventLog`; returns the seconds, and the CPU time of this thread."""
    events = events_of(data)
    log.publish(topic.name, events_of(data[:1]))
    acks = 0
    started, cpu = time.perf_counter(), time.thread_time()
    for start in range(0, len(events), BATCH):
        acks += len(log.publish(topic.name, events[start : start + BATCH]))
    seconds, cpu = time.perf_counter() - started, time.thread_time() - cpu
    if acks != len(events):
        raise RuntimeError(f"{acks} of {len(events)} events were acknowledged")
    return seconds, cpu


def bare_read(address: KafkaAddress, topic: Topic, ends: dict[int, int]) -> float:
    """Read a topic with confluent-kafka alone; returns the seconds."""
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({**address.client_config(TIMEOUT_SECONDS), "group.id": "bare", "enable.auto.commit": False})
    places = [TopicPartition(topic.name, partition, 0) for partition in ends]
    consumer.assign(places)
    consumer.consume(1, TIMEOUT_SECONDS)
    started = time.perf_counter()
    consumer.assign(places)
    left = sum(ends.values())
    while left:
        for message in consumer.consume(min(BATCH, left), 1.0):
            if message.error() is not None:
                raise RuntimeError(message.error())
            message.headers()
            json.loads(message.value())
            left -= 1
    seconds = time.perf_counter() - started
    consumer.close()
    return seconds


def log_read(log: KafkaEventLog, topic: Topic, ends: dict[int, int]) -> float:
    """Read a topic through `EventLog`, partition after partition; returns the seconds."""
    for partition in ends:
        log.read(topic.name, partition, 0, 1)
    started = time.perf_counter()
    for partition, end in ends.items():
        position = 0
        while position < end:
            position = log.read(topic.name, partition, position, end, limit=BATCH).next_offset
    return time.perf_counter() - started


def throughput(server: Server, events: int, runs: int) -> Iterator[Figure]:
    """Both sides in turns, each on a topic of its own."""
    address = KafkaAddress(server.address)
    like = TOPICS.get("corpus.items")
    data = payloads(events)
    seconds: dict[str, list[float]] = {
        f"{side} {what}": [] for side in ("bare", "log") for what in ("publish", "publish, CPU", "read")
    }
    for number in range(runs + 1):
        order: list[str] = ["bare", "log"] if number % 2 else ["log", "bare"]
        for side in order:
            name = f"throughput-{uuid.uuid4().hex[:8]}"
            topics = registry(name, like.partitions)
            log = KafkaEventLog(address, registry=topics, timeout_seconds=TIMEOUT_SECONDS)
            topic = topics.get(name)
            log.end_offsets(name)
            if side == "bare":
                (published, cpu), read = (
                    bare_publish(address, topic, data),
                    bare_read(address, topic, log.end_offsets(name)),
                )
            else:
                (published, cpu), read = log_publish(log, topic, data), log_read(log, topic, log.end_offsets(name))
            log.close()
            # The first round warms the broker up.
            if number:
                seconds[f"{side} publish"].append(published)
                seconds[f"{side} publish, CPU"].append(cpu)
                seconds[f"{side} read"].append(read)
            tell(f"{side}: {events / published:,.0f} events/s published, {events / read:,.0f} read")
    for what, goal in (("publish", TIME_GOAL), ("publish, CPU", None), ("read", None)):
        bare, log_side = seconds[f"bare {what}"], seconds[f"log {what}"]
        over: Callable[[Sequence[float]], float] = statistics.median
        yield figure(
            TIME_OF[what],
            [ours / theirs for ours, theirs in zip(log_side, bare, strict=True)],
            "ratio",
            value=over(log_side) / over(bare),
            against="bare confluent-kafka",
            goal=goal,
        )
        for side, measured in (("EventLog", log_side), ("bare confluent-kafka", bare)) if "CPU" not in what else ():
            rates = [events / each for each in measured]
            yield figure(f"{side}: {what}", rates, "events/s")


def main() -> None:
    """Run the parts that are wanted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, action="append", help="only this part; may be given again")
    parser.add_argument("--kills", type=int, default=100, help="kills of processes on the embedded log")
    parser.add_argument("--broker-kills", type=int, default=20, help="kills of the broker; as many of processes")
    parser.add_argument("--acknowledged", type=int, default=200_000, help="events that each crash run acknowledges")
    parser.add_argument("--events", type=int, default=50_000, help="events of each throughput run")
    parser.add_argument("--runs", type=int, default=5, help="how often each side runs")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    chosen = parser.parse_args()
    for name in ("kills", "broker_kills", "acknowledged", "events", "runs"):
        if getattr(chosen, name) < 1:
            parser.error(f"--{name.replace('_', '-')} is {getattr(chosen, name)}: expected at least 1")
    parts = chosen.part or list(PARTS)
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="aura-benchmark-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        if "embedded" in parts:
            settings = Settings(str(folder / "log.db"), "embedded", folder / "embedded")
            figures += crash_figures("embedded", *crash(settings, chosen.kills, chosen.acknowledged, None, 0))
        if "kafka" in parts:
            with broker(folder / "crashed") as server:
                settings = Settings(server.address, "kafka", folder / "kafka")
                count = chosen.broker_kills
                figures += crash_figures("kafka", *crash(settings, count, chosen.acknowledged, server, count))
        if "throughput" in parts:
            with broker(folder / "measured") as server:
                figures += throughput(server, chosen.events, chosen.runs)
    if chosen.json:
        as_json("events", figures)
    else:
        table(figures)


if __name__ == "__main__":
    main()
