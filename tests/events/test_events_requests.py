"""The sensor of requests asks for each until it is kept, or has failed too often."""

from __future__ import annotations

from datetime import UTC, datetime

import dagster as dg
import numpy as np
import pytest

from aura.events.batches import RetryPolicy
from aura.events.groups import REQUESTS_SENSOR
from aura.experts.routing.requests import TOPIC, RequestActivations, publish_request
from aura.overview.event_log import EventView
from aura.settings import Settings
from resources.events import Events
from sensors.attempts import PARTITION_TAG
from sensors.expert_requests import expert_requests

POLICY = RetryPolicy(attempts=2, first_wait_seconds=0.0)
KEPT = dg.DynamicPartitionsDefinition(name="kept")


@dg.op(config_schema={"broken": bool})
def keep(context):
    if context.op_config["broken"]:
        raise dg.Failure("the disk is full")


@dg.job
def keeping():
    keep()


class Daemon:
    """What Dagster's daemon does with the sensor."""

    def __init__(self, home, instance):
        self.instance, self.cursor, self.broken = instance, None, True
        self.events = Events(Settings(home=home))
        self.sensor = expert_requests(keeping, KEPT, self.configured, policy=POLICY)

    def configured(self, _):
        return {"ops": {"keep": {"config": {"broken": self.broken}}}}

    def tell(self, request, *, minute=0):
        with self.events.open() as log:
            found = RequestActivations(
                request, "m", 1, np.array([[1, 0]]), datetime(2026, 1, 5, 10, minute, tzinfo=UTC)
            )
            publish_request(log, found, source="tests")

    def tick(self):
        with dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor, resources={"events": self.events}
        ) as context:
            evaluated = self.sensor(context)
        self.cursor = evaluated.cursor
        for each in evaluated.run_requests:
            keeping.execute_in_process(
                instance=self.instance,
                run_config=each.run_config | {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
                tags={**each.tags, PARTITION_TAG: each.partition_key},
                raise_on_error=False,
            )
        return [each.partition_key for each in evaluated.run_requests]


@pytest.fixture
def daemon(tmp_path):
    with dg.DagsterInstance.ephemeral() as instance:
        yield Daemon(tmp_path / "home", instance)


def test_a_request_that_failed_too_often_is_let_go_until_it_is_answered_again(daemon):
    daemon.tell("a")
    assert [daemon.tick() for _ in range(4)] == [["a"], ["a"], [], []]
    assert '"found": {}' in daemon.cursor
    daemon.cursor = None
    assert daemon.tick() == []
    daemon.broken = False
    daemon.tell("a", minute=1)
    assert [daemon.tick() for _ in range(2)] == [["a"], []]


def test_a_request_is_tried_again_until_it_is_kept(daemon):
    daemon.tell("a")
    assert daemon.tick() == ["a"]
    daemon.broken = False
    assert [daemon.tick() for _ in range(3)] == [["a"], [], []]


def test_the_log_knows_which_requests_are_dealt_with(daemon):
    def behind():
        with daemon.events.open() as log:
            return sum(log.lag(REQUESTS_SENSOR, TOPIC).values())

    daemon.tell("a")
    daemon.tell("b")
    assert (behind(), sorted(daemon.tick()), behind()) == (2, ["a", "b"], 2)
    daemon.broken = False
    assert (sorted(daemon.tick()), behind()) == (["a", "b"], 2)
    assert (daemon.tick(), behind()) == ([], 0)
    topics = EventView(daemon.events.settings).topics()
    assert {topic.name: topic.lag for topic in topics}[TOPIC] == {REQUESTS_SENSOR: 0}
