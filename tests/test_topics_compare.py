"""
What the topics should be against what a cluster has, and the plan to mend it: values only.

Here are clusters of several brokers; test_topics_admin.py does the same on a real one.
"""

from dataclasses import replace

import pytest

import topics
from streams.errors import UsageProblem
from streams.kafka.topics_compare import (
    Cluster,
    Difference,
    FoundTopic,
    compare,
    dangers,
    shown,
)
from streams.kafka.topics_plan import make_plan


def healthy(brokers: int = 3, partitions: int = 4) -> Cluster:
    """Return a cluster on which `apply` made everything."""
    made = make_plan(Cluster(brokers, {}, {}), "", partitions).create
    found = {new.topic: FoundTopic(new.partitions, new.replication, new.config) for new in made}
    return Cluster(brokers, found, {"__consumer_offsets": min(3, brokers)})


def without(cluster: Cluster, *names: str) -> Cluster:
    """Return *cluster* without some topics."""
    left = {name: topic for name, topic in cluster.topics.items() if name not in names}
    return replace(cluster, topics=left)


def changed(cluster: Cluster, name: str, topic: FoundTopic) -> Cluster:
    """Return *cluster* with one topic replaced."""
    return replace(cluster, topics={**cluster.topics, name: topic})


def with_config(cluster: Cluster, name: str, **settings: str) -> Cluster:
    """Return *cluster* with settings of one topic changed; `_` in their names stands for `.`."""
    news = {key.replace("_", "."): value for key, value in settings.items()}
    topic = cluster.topics[name]
    return changed(cluster, name, replace(topic, config={**topic.config, **news}))


def only(differences: list[Difference]) -> Difference:
    """Return the one difference there is."""
    assert len(differences) == 1, [str(each) for each in differences]
    return differences[0]


@pytest.mark.parametrize("brokers", [1, 2, 3, 5])
def test_what_is_planned_has_no_difference(brokers: int) -> None:
    """Plan and check agree, whatever the number of brokers."""
    assert compare(healthy(brokers), "") == []
    assert not make_plan(healthy(brokers), "").changes


@pytest.mark.parametrize(
    "brokers, replication, min_insync", [(1, 1, "1"), (2, 2, "1"), (3, 3, "2"), (7, 3, "2")]
)
def test_replicas_follow_the_number_of_brokers(
    brokers: int, replication: int, min_insync: str
) -> None:
    """Three replicas, two of them in step, as soon as there are brokers for it."""
    for new in make_plan(Cluster(brokers, {}, {}), "").create:
        assert new.replication == replication
        assert new.config["min.insync.replicas"] == min_insync


def test_counts_are_the_default_the_asked_for_or_the_found_one() -> None:
    """12, or what is asked for while nothing is there, or what is there; purge-acks always 1."""
    empty = Cluster(3, {}, {})
    for cluster, asked, count in (
        (empty, None, 12),
        (empty, 5, 5),
        (without(healthy(partitions=4), "content", "purge-acks"), None, 4),
        (without(healthy(partitions=4), "content", "purge-acks"), 4, 4),
    ):
        planned = make_plan(cluster, "", asked)
        counts = {new.topic: new.partitions for new in planned.create}
        assert counts.pop("purge-acks") == 1
        assert set(counts.values()) == {count}
        assert planned.partitions == count


def test_another_count_than_the_found_one_is_refused() -> None:
    """The count is fixed for the life of a prefix, and the message says what to do instead."""
    with pytest.raises(UsageProblem, match=r"have 4\..*OBJECTIONS_TOPIC_PREFIX"):
        make_plan(healthy(partitions=4), "", 5)


def test_more_replicas_than_brokers_are_refused() -> None:
    """Kafka would refuse as well, but without saying how many brokers there are."""
    with pytest.raises(UsageProblem, match=r"--replication is 4.*\(3\)"):
        make_plan(Cluster(3, {}, {}), "", replication=4)


def test_a_missing_topic_is_a_danger() -> None:
    """Its full name is given."""
    found = only(compare(without(healthy(), "notices"), ""))
    assert (found.topic, found.what, found.found) == ("notices", "topic", "missing")
    assert all(each.topic.startswith("eu.") for each in compare(Cluster(3, {}, {}), "eu."))


def test_an_unequal_partition_count_is_a_danger_apply_cannot_mend() -> None:
    """The topics in the wrong are those that differ from most, and nobody repartitions them."""
    cluster = changed(healthy(), "content", replace(healthy().topics["content"], partitions=6))
    found = only(compare(cluster, "eu."))
    assert (found.topic, found.what, found.found, found.expected) == (
        "eu.content",
        "partitions",
        "6",
        "4",
    )
    assert found.level == "danger"
    assert "OBJECTIONS_TOPIC_PREFIX" in found.remedy
    planned = make_plan(cluster, "eu.")
    assert planned.cannot == (found,)
    assert not planned.changes


def test_purge_acks_has_one_partition() -> None:
    """Also on a cluster where all others agree with its count."""
    cluster = healthy(partitions=4)
    wrong = replace(cluster.topics["purge-acks"], partitions=4)
    found = only(compare(changed(cluster, "purge-acks", wrong), ""))
    assert (found.topic, found.what, found.expected) == ("purge-acks", "partitions", "1")


@pytest.mark.parametrize("brokers, replication", [(2, 1), (3, 1), (3, 2), (9, 2)])
def test_too_few_replicas_are_a_danger(brokers: int, replication: int) -> None:
    """As many as there are brokers, up to three."""
    cluster = healthy(brokers)
    topic = cluster.topics["objections"]
    config = {**topic.config, "min.insync.replicas": "1"}
    few = replace(topic, replication=replication, config=config)
    found = only(compare(changed(cluster, "objections", few), ""))
    assert (found.what, found.level, found.mend) == ("replication", "danger", None)
    assert "kafka-reassign-partitions" in found.remedy


def test_one_replica_in_step_is_a_danger_where_there_are_three() -> None:
    """A record acknowledged by one broker alone is lost with it; apply mends that."""
    cluster = with_config(healthy(), "eligibility", min_insync_replicas="1")
    found = only(dangers(compare(cluster, "")))
    assert (found.what, found.mend) == ("min.insync.replicas", "2")


def test_all_replicas_in_step_is_a_warning() -> None:
    """It loses nothing, but stands still with one broker down."""
    cluster = with_config(healthy(), "eligibility", min_insync_replicas="3")
    assert only(compare(cluster, "")).level == "warning"
    assert not make_plan(cluster, "").changes


def test_more_replicas_in_step_than_there_are_is_a_danger() -> None:
    """Nothing could be written at all."""
    cluster = with_config(healthy(1), "eligibility", min_insync_replicas="2")
    found = only(compare(cluster, ""))
    assert (found.level, found.mend) == ("danger", "1")


def test_kafkas_own_topics_are_looked_at() -> None:
    """Losing offsets or transactions stops workers, but what is decided stands in our topics."""
    cluster = replace(healthy(), kafka_topics={"__transaction_state": 1})
    found = only(compare(cluster, ""))
    assert (found.topic, found.level) == ("__transaction_state", "warning")


@pytest.mark.parametrize(
    "name, settings",
    [
        ("objections", {"cleanup_policy": "compact"}),
        ("objections", {"cleanup_policy": "compact,delete"}),
        ("content", {"cleanup_policy": "compact"}),
        ("eligibility", {"cleanup_policy": "delete"}),
        ("account-ages", {"cleanup_policy": "delete,compact"}),
        ("objections", {"retention_ms": "31536000000"}),
        ("objections", {"retention_bytes": "1000000000"}),
        ("notices", {"retention_ms": "604800000"}),
        ("dead-letters", {"retention_ms": "604800000"}),
        ("training-users", {"delete_retention_ms": "86400000"}),
        ("training-content", {"max_compaction_lag_ms": "9223372036854775807"}),
        ("account-ages", {"min_compaction_lag_ms": "0"}),
        ("receipts", {"message_timestamp_type": "CreateTime"}),
        ("objections-users-changelog", {"unclean_leader_election_enable": "true"}),
        ("dead-letters", {"max_message_bytes": "1048588"}),
        ("objections-users-changelog", {"max_message_bytes": "1048588"}),
    ],
)
def test_a_dangerous_setting_is_named_and_mended(name: str, settings: dict[str, str]) -> None:
    """Topic, setting, what was found and what is expected; apply sets just that."""
    cluster = with_config(healthy(), name, **settings)
    found = only(compare(cluster, ""))
    assert found.level == "danger"
    assert found.topic == name
    assert found.what.replace(".", "_") == next(iter(settings))
    assert found.found == next(iter(settings.values()))
    change = make_plan(cluster, "").set
    assert [(each.topic, each.key, each.new) for each in change] == [
        (name, found.what, found.expected)
    ]
    mended = with_config(cluster, name, **{next(iter(settings)): change[0].new})
    assert compare(mended, "") == []


@pytest.mark.parametrize(
    "name, settings",
    [
        ("notices", {"retention_ms": "-1"}),
        ("content", {"retention_ms": "7776000000"}),
        ("dead-letters", {"retention_ms": "-1"}),
        ("training-users", {"delete_retention_ms": "2592000000"}),
        ("training-users", {"max_compaction_lag_ms": "3600000"}),
        ("dead-letters", {"max_message_bytes": "2097152"}),
    ],
)
def test_a_harmless_difference_is_a_note_and_stays(name: str, settings: dict[str, str]) -> None:
    """What people made longer or stricter is theirs: apply never shortens it."""
    cluster = with_config(healthy(), name, **settings)
    found = only(compare(cluster, ""))
    assert found.level == "note"
    planned = make_plan(cluster, "")
    assert not planned.changes
    assert planned.left == (found,)


@pytest.mark.parametrize("key", ["segment.ms", "compression.type", "min.cleanable.dirty.ratio"])
def test_what_no_definition_names_is_nobodys_business(key: str) -> None:
    """Operators tune the rest as they like."""
    assert compare(with_config(healthy(), "content", **{key: "1"}), "") == []


def test_larger_inputs_ask_for_larger_dead_letters() -> None:
    """Sizes are compared with each other: apply raises what holds input records."""
    cluster = with_config(healthy(), "content", max_message_bytes=str(20 * 1024 * 1024))
    found = dangers(compare(cluster, ""))
    assert {each.topic for each in found} == {
        "dead-letters",
        "objections-links",
        "objections-users-changelog",
        "objections-content-changelog",
    }
    for change in make_plan(cluster, "").set:
        assert int(change.new) > 20 * 1024 * 1024


def test_a_setting_the_broker_does_not_know_is_a_danger() -> None:
    """A broker that keeps no such promise must not pass unseen."""
    cluster = healthy()
    topic = cluster.topics["training-users"]
    config = {key: value for key, value in topic.config.items() if key != "max.compaction.lag.ms"}
    poorer = changed(cluster, "training-users", replace(topic, config=config))
    assert only(compare(poorer, "")).found == "unknown to the broker"


def test_a_difference_reads_as_a_sentence() -> None:
    """It names the topic, what was found, what is expected, why it matters, and the remedy."""
    cluster = with_config(healthy(), "training-users", delete_retention_ms="3600000")
    assert str(only(compare(cluster, "eu."))) == (
        "eu.training-users: delete.retention.ms is 3600000 (1 h), expected 604800000 (7 d). "
        f"{topics.definition('training-users').config['delete.retention.ms'].because} "
        "Remedy: run `objections topics apply`."
    )


@pytest.mark.parametrize(
    "key, value, text",
    [
        ("retention.ms", "-1", "-1 (without end)"),
        ("retention.bytes", "-1", "-1 (without end)"),
        ("retention.ms", "90000", "90000 (90 s)"),
        ("max.compaction.lag.ms", "9223372036854775807", "9223372036854775807"),
        ("delete.retention.ms", "0", "0"),
        ("max.message.bytes", "60000", "60000"),
    ],
)
def test_times_are_shown_for_people(key: str, value: str, text: str) -> None:
    """The broker's number first, so that it can be searched for."""
    assert shown(key, value) == text
