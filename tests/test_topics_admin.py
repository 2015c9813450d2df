"""
`objections topics plan|apply|check` on a real Kafka.

Topics are made once; every test breaks one thing, sees it named, and has it mended again.
"""

import gc
import json
import time
import uuid
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from click.testing import CliRunner, Result
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined] # all of it is public
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourceType,
)

import topics
from streams.commands import main
from streams.errors import Unreachable
from streams.kafka import admin
from streams.kafka.local import LocalKafka
from streams.kafka.ports import free_port
from streams.kafka.topics_compare import dangers
from streams.settings import Settings

PARTITIONS = 2
ANSWER_S = 10.0


class Topics:
    """The topics of one prefix, and the command on them."""

    def __init__(self, bootstrap: str, prefix: str) -> None:
        self.environ = {"OBJECTIONS_BOOTSTRAP": bootstrap, "OBJECTIONS_TOPIC_PREFIX": prefix}
        self.settings = Settings.read(self.environ)
        self.client: AdminClient = admin.connect(self.settings)

    def run(self, *arguments: str) -> Result:
        """Return what `objections topics` answers to *arguments*."""
        return CliRunner().invoke(main, ["topics", *arguments], env=self.environ)

    def set(self, name: str, key: str, value: str) -> None:
        """Change a setting behind the command's back, and wait until the broker shows it."""
        resource = ConfigResource(ResourceType.TOPIC, self.settings.topic(name))
        resource.add_incremental_config(
            ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
        )
        for future in self.client.incremental_alter_configs([resource]).values():
            future.result(ANSWER_S)
        self.wait(lambda: self.look(name).config[key] == value)

    def look(self, name: str) -> Any:
        """Return topic *name* as found."""
        return admin.look(self.client, self.settings).topics[name]

    def wait(self, reached: Callable[[], bool]) -> None:
        """Return as soon as *reached*; brokers learn of changes a moment late."""
        deadline_s = time.monotonic() + ANSWER_S
        while not reached():
            assert time.monotonic() < deadline_s, "the broker does not show the change"
            time.sleep(0.02)

    def make(self, name: str, partitions: int) -> None:
        """Make one topic as somebody else would."""
        full = self.settings.topic(name)
        futures = self.client.create_topics([NewTopic(full, partitions, 1)])
        futures[full].result(ANSWER_S)
        self.wait(lambda: name in admin.look(self.client, self.settings).topics)


@pytest.fixture(scope="module")
def applied(kafka: LocalKafka) -> Topics:
    """Return topics as `apply` makes them."""
    made = Topics(kafka.bootstrap, f"applied{uuid.uuid4().hex[:8]}.")
    assert made.run("apply", "--partitions", str(PARTITIONS)).exit_code == 0
    return made


@pytest.fixture
def fresh(kafka: LocalKafka, prefix: str) -> Topics:
    """Return a prefix without topics."""
    return Topics(kafka.bootstrap, prefix)


def test_plan_shows_and_changes_nothing(fresh: Topics) -> None:
    """Every topic is to be created, and after it none is there; exit status 0."""
    planned = fresh.run("plan", "--partitions", "3")
    assert planned.exit_code == 0
    for name in topics.names():
        assert f"create   {fresh.settings.topic(name)}: partitions" in planned.output
    assert f"{len(topics.names())} to create, 0 to set" in planned.output
    assert admin.look(fresh.client, fresh.settings).topics == {}


def test_apply_makes_check_approves_and_a_second_time_there_is_nothing_to_do(
    fresh: Topics,
) -> None:
    """The whole way on an empty Kafka."""
    assert fresh.run("check").exit_code == 1
    first = fresh.run("apply", "--partitions", "3")
    assert first.exit_code == 0, first.output
    assert f"{len(topics.names())} created, 0 set" in first.output
    checked = fresh.run("check")
    assert checked.exit_code == 0, checked.output
    assert checked.output == "All topics keep what the service promises.\n"
    second = fresh.run("apply")
    assert second.exit_code == 0
    assert "Nothing to do" in second.output
    assert "partition count 3" in second.output
    found = admin.look(fresh.client, fresh.settings).topics
    assert {topic.partitions for name, topic in found.items() if name != "purge-acks"} == {3}
    assert found["purge-acks"].partitions == 1


def test_the_broker_has_every_setting_of_the_definitions(applied: Topics) -> None:
    """Names and values in topic.yaml are ones a real Kafka takes and shows."""
    for name in topics.names():
        found = applied.look(name).config
        for key, config in topics.definition(name).config.items():
            assert found[key] == config.value


BREAKS = [
    ("objections", "cleanup.policy", "compact"),
    ("objections", "retention.ms", "31536000000"),
    ("notices", "cleanup.policy", "compact"),
    ("eligibility", "cleanup.policy", "delete"),
    ("training-users", "delete.retention.ms", "3600000"),
    ("training-content", "max.compaction.lag.ms", "9223372036854775807"),
    ("account-ages", "min.compaction.lag.ms", "0"),
    ("content", "message.timestamp.type", "CreateTime"),
    ("receipts", "unclean.leader.election.enable", "true"),
    ("purge-acks", "min.insync.replicas", "2"),
    ("dead-letters", "max.message.bytes", "500000"),
    ("objections-users-changelog", "max.message.bytes", "1048588"),
]


@pytest.mark.parametrize("name, key, value", BREAKS)
def test_check_names_what_is_broken_and_apply_mends_it(
    applied: Topics, name: str, key: str, value: str
) -> None:
    """Exit status 1 with topic, setting, value found and remedy; then plan, apply, and 0 again."""
    expected = applied.look(name).config[key]
    applied.set(name, key, value)
    full = applied.settings.topic(name)

    checked = applied.run("check")
    assert checked.exit_code == 1
    line = next(line for line in checked.output.splitlines() if line.startswith("danger"))
    assert line.startswith(f"danger   {full}: {key} is {value}")
    assert "Remedy: run `objections topics apply`." in line
    assert "1 endanger" in checked.output

    planned = applied.run("plan")
    assert planned.exit_code == 0
    assert f"set      {full}: {key} {value}" in planned.output
    assert applied.look(name).config[key] == value

    mended = applied.run("apply")
    assert mended.exit_code == 0, mended.output
    assert "0 created, 1 set" in mended.output
    assert applied.look(name).config[key] == expected
    assert applied.run("check").exit_code == 0


def test_several_settings_that_need_each_other_are_mended_at_once(applied: Topics) -> None:
    """Bounds of one lag go over in one request: one after the other, Kafka would refuse."""
    applied.set("account-ages", "min.compaction.lag.ms", "0")
    applied.set("account-ages", "max.compaction.lag.ms", "1000")
    assert applied.run("check").exit_code == 1
    assert "0 created, 2 set" in applied.run("apply").output
    assert applied.run("check").exit_code == 0


def test_a_longer_retention_is_a_note_and_stays(applied: Topics) -> None:
    """What people made longer is theirs: no failure, and apply does not shorten it."""
    applied.set("content", "retention.ms", "7776000000")
    checked = applied.run("check")
    assert checked.exit_code == 0
    assert checked.output.startswith(f"note     {applied.settings.topic('content')}: retention.ms")
    assert applied.run("apply").exit_code == 0
    assert applied.look("content").config["retention.ms"] == "7776000000"
    applied.set("content", "retention.ms", "2592000000")


def test_another_partition_count_is_refused(applied: Topics) -> None:
    """Exit status 2 with the remedy, and the topics stay as they are."""
    refused = applied.run("apply", "--partitions", "5")
    assert refused.exit_code == 2
    assert f"--partitions is 5, but the topics of this prefix have {PARTITIONS}" in refused.output
    assert "OBJECTIONS_TOPIC_PREFIX" in refused.output
    assert applied.run("apply", "--partitions", str(PARTITIONS)).exit_code == 0
    assert applied.look("content").partitions == PARTITIONS


def test_a_deleted_topic_is_made_again_with_its_siblings_count(fresh: Topics) -> None:
    """Check names it, and apply takes the count of those that are left."""
    fresh.run("apply", "--partitions", "3")
    full = fresh.settings.topic("notices")
    fresh.client.delete_topics([full])[full].result(ANSWER_S)
    fresh.wait(lambda: "notices" not in admin.look(fresh.client, fresh.settings).topics)
    checked = fresh.run("check")
    assert checked.exit_code == 1
    assert f"{full}: topic is missing" in checked.output
    assert "1 created" in fresh.run("apply").output
    assert fresh.look("notices").partitions == 3
    assert fresh.run("check").exit_code == 0


def test_partitions_added_by_hand_cannot_be_mended(fresh: Topics) -> None:
    """Check and apply both end with 1 and name the topic; nothing is deleted."""
    fresh.run("apply", "--partitions", "2")
    full = fresh.settings.topic("content")
    fresh.client.create_partitions([NewPartitions(full, 3)])[full].result(ANSWER_S)
    fresh.wait(lambda: bool(fresh.look("content").partitions == 3))
    for command in ("check", "apply"):
        told = fresh.run(command)
        assert told.exit_code == 1
        assert f"{full}: partitions is 3, expected 2" in told.output
    planned = fresh.run("plan")
    assert planned.exit_code == 0
    assert f"cannot   {full}: partitions" in planned.output
    assert fresh.look("content").partitions == 3


def test_purge_acks_with_more_partitions_is_named(fresh: Topics) -> None:
    """Made by hand before, with the broker's settings: its count stays, its settings are mended."""
    fresh.make("purge-acks", 2)
    made = fresh.run("apply", "--partitions", "2")
    assert made.exit_code == 1
    checked = fresh.run("check")
    assert checked.exit_code == 1
    [line] = [line for line in checked.output.splitlines() if line.startswith("danger")]
    assert f"{fresh.settings.topic('purge-acks')}: partitions is 2, expected 1" in line


def test_two_at_once_make_one_set_of_topics(fresh: Topics) -> None:
    """Two workers that start together both come through, whoever is first."""
    others = [Topics(fresh.settings.bootstrap, fresh.settings.topic_prefix) for _ in range(3)]
    with ThreadPoolExecutor(len(others)) as pool:
        done = [pool.submit(admin.apply, each.client, each.settings, 2) for each in others]
    assert all(each.result().partitions == 2 for each in done)
    assert admin.check(fresh.client, fresh.settings) == []


class Forgetful(admin.Client):
    """Loses the broker that it asks, like librdkafka while a cluster starts: at first, or ever."""

    def __init__(self, settings: Settings, times: int) -> None:
        super().__init__(settings)
        self.left = times

    def create_topics(self, *arguments: Any, **options: Any) -> Any:
        """Make topics, and do not hear of it."""
        found = super().create_topics(*arguments, **options)
        if not self.left:
            return found
        self.left -= 1
        for name, future in found.items():
            future.exception(ANSWER_S)
            found[name] = Future()
            found[name].set_exception(KafkaException(KafkaError(KafkaError._DESTROY_BROKER)))
        return found


def test_another_broker_is_asked_where_one_is_gone(fresh: Topics) -> None:
    """
    Topics may be made although nobody has said so: they are asked for again, but not for ever.
    """
    done = admin.apply(Forgetful(fresh.settings, 1), fresh.settings, PARTITIONS)

    assert done.changes
    assert not admin.plan(fresh.client, fresh.settings).changes


def test_brokers_that_are_gone_again_and_again_are_unreachable(fresh: Topics) -> None:
    """
    The worker waits for such a Kafka, and commands say that it does not answer.
    """
    forgetful = Forgetful(fresh.settings, admin.TRIES)

    with pytest.raises(Unreachable, match="cannot be reached: no answer while making topic"):
        admin.apply(forgetful, fresh.settings, PARTITIONS)


def test_each_command_speaks_json(fresh: Topics) -> None:
    """The same content, for machines, and the same exit status."""
    planned = fresh.run("plan", "--partitions", "2", "--json")
    assert len(json.loads(planned.stdout)["create"]) == len(topics.names())
    checked = fresh.run("check", "--json")
    assert checked.exit_code == 1
    told = json.loads(checked.stdout)
    assert told["ok"] is False
    assert {each["what"] for each in told["differences"]} == {"topic"}
    done = json.loads(fresh.run("apply", "--partitions", "2", "--json").stdout)
    assert done["partitions"] == 2
    assert json.loads(fresh.run("check", "--json").stdout) == {"ok": True, "differences": []}


def test_the_worker_and_the_demo_call_functions(fresh: Topics) -> None:
    """`apply` returns what it did, `check` the differences, with no terminal involved."""
    assert len(dangers(admin.check(fresh.client, fresh.settings))) == len(topics.names())
    done = admin.apply(fresh.client, fresh.settings, partitions=4)
    assert {new.topic for new in done.create} == {fresh.settings.topic(n) for n in topics.names()}
    assert admin.check(fresh.client, fresh.settings) == []
    assert not admin.apply(fresh.client, fresh.settings).changes


def test_no_kafka_is_exit_status_3() -> None:
    """Within a few seconds, with one line that names the address and what the network said."""
    address = f"127.0.0.1:{free_port()}"
    began_s = time.monotonic()
    told = CliRunner().invoke(main, ["topics", "check", "--bootstrap", address])
    assert told.exit_code == 3
    assert time.monotonic() - began_s < admin.ANSWER_TIMEOUT_S + 3
    [line] = told.output.splitlines()
    assert f"Kafka at {address} cannot be reached" in line
    assert "Connection refused" in line
    assert "--bootstrap" in line


def test_more_replicas_than_brokers_are_bad_usage(fresh: Topics) -> None:
    """Exit status 2, before anything is made."""
    told = fresh.run("apply", "--replication", "3")
    assert told.exit_code == 2
    assert "--replication is 3" in told.output
    assert admin.look(fresh.client, fresh.settings).topics == {}


def test_a_client_ends_with_its_last_reference() -> None:
    """
    Without a collection: a process that makes a new client after each failure goes on for ever.
    """
    gc.disable()
    try:
        client = admin.connect(Settings(bootstrap="127.0.0.1:1"))
        known = weakref.ref(client)
        del client
        assert known() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(
    "refused",
    [
        pytest.param(
            KafkaError(KafkaError._SSL, "SSL handshake failed: certificate verify failed"),
            id="certificate",
        ),
        pytest.param(
            KafkaError(KafkaError._AUTHENTICATION, "SASL authentication failed: wrong"),
            id="password",
        ),
    ],
)
def test_a_refusal_is_not_forgotten_over_connections_that_break_off(refused: KafkaError) -> None:
    """
    Kafka also cuts the connections of whom it does not let in: what it has said before stands.
    """
    said = admin.LastWords(Settings())
    said.remember(KafkaError(KafkaError._TRANSPORT, "Disconnected"))
    assert (said.error, said.refusal) == ("Disconnected", "")

    said.remember(refused)
    refusal = said.refusal
    said.remember(KafkaError(KafkaError._TRANSPORT, "Disconnected in state SSL_HANDSHAKE"))
    said.remember(KafkaError(KafkaError._ALL_BROKERS_DOWN, "1/1 brokers are down"))

    assert refused.str() in refusal
    assert (said.error, said.refusal) == ("Disconnected in state SSL_HANDSHAKE", refusal)
