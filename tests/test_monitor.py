"""
`objections monitor` on a real Kafka: what it tells with a worker, without one, and without Kafka.

One scene, played once; each test looks at what it needs of it.
"""

import json

import pytest
from click.testing import CliRunner

from streams.commands import main
from streams.kafka.local import HOST, LocalKafka
from streams.worker.names import WITH_LINKS
from tests.monitor_scene import (
    CONTENT,
    GROWS_S,
    ITEMS,
    LAG,
    OLDEST,
    PARTITIONS,
    PROPAGATION,
    UP,
    Scene,
    of_store,
    play,
    series,
)


@pytest.fixture(scope="module")
def scene(kafka: LocalKafka, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """Return the scene, played to its end."""
    return play(kafka, tmp_path_factory.mktemp("monitor"))


def test_all_partitions_are_told_of_before_there_is_a_worker(scene: Scene) -> None:
    """
    With no group and no record each input and partition has its series, and they are 0.
    """
    found = scene.seen["empty"]
    places = [
        (f"{scene.prefix}{name}", number) for name in WITH_LINKS.all for number in range(PARTITIONS)
    ]

    for name in (LAG, OLDEST):
        told = {each: value for each, value in found.items() if each.startswith(name)}
        assert dict.fromkeys([series(name, *place) for place in places], 0.0) == told
    assert 1 == found[UP]
    assert 0 == of_store(found, "index", "erased")


def test_control_records_and_what_was_given_up_are_no_lag(scene: Scene) -> None:
    """
    Behind the last record there are commit markers and a transaction that was aborted: nobody waits
    for them, as the worker and the monitor both say.
    """
    for told in (scene.seen["control"], scene.of_worker["control"]):
        lags = {each: value for each, value in told.items() if each.startswith(LAG)}
        assert len(lags) == len(WITH_LINKS.all) * PARTITIONS
        assert set(lags.values()) == {0}, lags
    ages = {v for each, v in scene.seen["control"].items() if each.startswith(OLDEST)}
    assert ages == {0}


def test_partitions_are_told_of_with_their_owners(scene: Scene) -> None:
    """
    Whoever looks sees which member of the group owns what, under the name its own page has.
    """
    owner = {"client_id": f"objections-{scene.instance}", "host": HOST}
    told = json.loads(scene.told["owned"].stdout)["owners"]

    assert told == [{"partition": number, **owner} for number in range(PARTITIONS)]
    assert "0-1        nobody" in scene.answers["unowned"].text
    assert f"0-1        objections-{scene.instance} at {HOST}" in scene.answers["/"].text


def test_a_store_that_stops_acknowledging_shows_by_name(scene: Scene) -> None:
    """
    What the index hides but never erases is its own, grows, and is what the worker says too; with
    the worker gone it is still told.
    """
    before, after = scene.seen["stores"], scene.seen["stores later"]

    assert 0 == of_store(after, "features", "hidden") == of_store(after, "features", "erased")
    assert 0 == of_store(after, "index", "hidden")
    late_s = of_store(after, "index", "erased")
    assert late_s - of_store(before, "index", "erased") >= GROWS_S
    of_worker_s = of_store(scene.of_worker["stores later"], "index", "erased")
    assert of_worker_s == pytest.approx(late_s, abs=1)
    assert of_store(scene.seen["dead"], "index", "erased") > late_s


def test_a_fanout_under_way_is_told_as_the_worker_tells_it(scene: Scene) -> None:
    """
    Its objection is read, so there is no lag; it has waited for as long as the worker says.
    """
    place = scene.places["many"]
    of_worker = scene.of_worker["under way"]

    assert 0 == scene.of(LAG, "under way", "many")
    assert 0 == of_worker[series(LAG, *place)]
    told_s = scene.of(OLDEST, "under way", "many")
    assert of_worker[series(OLDEST, *place)] == pytest.approx(told_s, abs=2)


def test_a_partition_grows_older_when_its_worker_is_gone(scene: Scene) -> None:
    """
    Second by second, with no event: the fan-out that the worker left, and the record that nobody
    has read.
    """
    for place in ("many", "late"):
        grown_s = scene.of(OLDEST, "dead later", place) - scene.of(OLDEST, "dead", place)
        assert GROWS_S <= grown_s < 10 * GROWS_S, place
    assert 1 == scene.of(LAG, "dead", "late") == scene.of(LAG, "dead later", "late")
    assert 0 == scene.of(LAG, "dead later", "many")


def test_a_check_for_cron_fails_and_says_what_waits(scene: Scene) -> None:
    """
    `--once --max-age-s` has exit status 1 and names what waits; JSON has every place.
    """
    told = scene.told["dead"]
    found = json.loads(told.stdout)
    waits = {
        (each["topic"], each["partition"])
        for each in found["inputs"]
        if each["oldest_unpropagated_seconds"] > 1
    }
    late = {
        (each["store"], each["phase"]): each["at"]
        for each in found["stores"]
        if each["oldest_unacknowledged_seconds"] > 1
    }

    assert 1 == told.exit_code
    assert {scene.places["many"], scene.places["late"]} == waits
    assert late["index", "erased"].startswith(f"{scene.prefix}training-")
    assert len(found["inputs"]) == len(WITH_LINKS.all) * PARTITIONS
    topic, partition = scene.places["many"]
    assert f"objections: {topic}/{partition} waits for " in told.stderr
    assert "objections: store index has for " in told.stderr


def test_nothing_waits_once_the_fanout_is_finished(scene: Scene) -> None:
    """
    Another worker finishes it: 0 everywhere, the check has exit status 0, and its table tells quiet
    partitions of a topic in one line.
    """
    found, told = scene.seen["finished"], scene.told["finished"]

    assert {0} == {value for each, value in found.items() if each.startswith((LAG, OLDEST))}
    assert 0 == told.exit_code, told.output
    lines = [line.split() for line in told.stdout.splitlines()]
    assert [f"{scene.prefix}objections", "0-1", "0", "0.0", "s"] in lines
    assert ["features", "erased"] in [line[:2] for line in lines]


def test_a_fanout_is_published_with_its_last_item(scene: Scene) -> None:
    """
    Decided by a worker that died, it counts once for the one that finished it, from the objection's
    time stamp on: a fan-out that took seconds is no objection published at once.
    """
    topic, _ = scene.places["many"]
    found = scene.of_worker["finished"]
    waited_s = scene.of(OLDEST, "dead later", "many")

    assert 1 == found[f'{PROPAGATION}_count{{stage="published",topic="{topic}"}}']
    assert waited_s <= found[f'{PROPAGATION}_sum{{stage="published",topic="{topic}"}}']
    assert 0 == found[f'{PROPAGATION}_count{{stage="decided",topic="{topic}"}}']
    assert 0 == sum(n for each, n in found.items() if each.startswith("objections_fanout_pending"))


def test_a_lost_state_is_told_as_it_is_restored(scene: Scene) -> None:
    """
    The rows of a worker whose folder was lost, and how long it took to read them back.
    """
    before, after = scene.of_worker["control"], scene.of_worker["finished"]

    assert 0 == before["objections_restored_rows_total"]
    assert ITEMS < after["objections_restored_rows_total"] < 10 * ITEMS
    assert 0 < after["objections_restore_seconds"] < 60
    begun, finished = (f'objections_restores_total{{outcome="{x}"}}' for x in ("begun", "finished"))
    assert 1 <= after[finished] <= after[begun]
    assert PARTITIONS == after['objections_partitions{state="serving"}']
    assert 0 == after['objections_partitions{state="restoring"}']


def test_what_is_counted_is_what_kafka_holds(scene: Scene) -> None:
    """
    Of the inputs all that was committed, of the outputs each record; what was given up counts not.
    """
    found = scene.of_worker["control"]

    def events(name: str) -> list[float]:
        labels = f'topic="{scene.prefix}{name}"'
        outcomes = ("applied", "unchanged", "dead_letter")
        return [found[f'objections_events_total{{outcome="{x}",{labels}}}'] for x in outcomes]

    assert [ITEMS, 0, 0] == events("content")
    assert [1, 0, 0] == events("account-ages") == events("notices")
    assert [0, 0, 0] == events("objections")
    for name, counts in scene.published.items():
        for kind, count in counts.items():
            labels = f'{{kind="{kind}",topic="{scene.prefix}{name}"}}'
            assert count == found[f"objections_published_total{labels}"], (name, kind)
    assert sum(scene.published[CONTENT].values()) >= ITEMS
    assert 0 < found['objections_transactions_total{outcome="committed"}']
    assert 0 == found['objections_transactions_total{outcome="aborted"}']


def test_what_was_known_ages_on_while_kafka_is_away(scene: Scene) -> None:
    """
    The monitor keeps running, says that it is told nothing, and its numbers go on growing.
    """
    away, later = scene.seen["away"], scene.seen["away later"]

    assert 503 == scene.answers["away"].status
    assert "Kafka does not tell" in scene.answers["away"].text
    assert 0 == away[UP] == later[UP]
    assert 1 == scene.seen["back"][UP]
    grown_s = scene.of(OLDEST, "away later", "many") - scene.of(OLDEST, "away", "many")
    assert grown_s >= GROWS_S
    name = "objections_monitor_look_age_seconds"
    assert later[name] - away[name] >= GROWS_S
    assert scene.seen["back"][name] < away[name]


def test_a_record_behind_an_open_transaction_waits(scene: Scene) -> None:
    """
    Nobody may read it before the transaction has ended, and it grows older all the same, as the
    worker says too.
    """
    assert scene.of(LAG, "stuck", "stuck") >= 2
    grown_s = scene.of(OLDEST, "stuck later", "stuck") - scene.of(OLDEST, "stuck", "stuck")
    assert grown_s >= GROWS_S
    of_worker_s = scene.of_worker["stuck later"][series(OLDEST, *scene.places["stuck"])]
    assert of_worker_s == pytest.approx(scene.of(OLDEST, "stuck later", "stuck"), abs=1)


def test_the_status_page_is_the_table(scene: Scene) -> None:
    """
    Who opens `/` sees what `--once` prints; /healthz says that the process runs.
    """
    page, health = scene.answers["/"], scene.answers["/healthz"]

    assert page.text.startswith(f"watching {PARTITIONS} partitions\n")
    assert f"{scene.prefix}objections" in page.text
    assert "index  " in page.text
    assert (200, "ok\n") == health[:2]


def test_a_taken_address_is_refused_with_what_to_set(scene: Scene) -> None:
    """
    Beside a worker on the same address the monitor ends with status 2 and names the setting.
    """
    told = scene.second
    assert told is not None

    assert 2 == told.returncode, told.stderr
    assert "a worker and a monitor do by default" in told.stderr
    assert "set OBJECTIONS_HTTP to another port" in told.stderr


def test_topics_that_are_not_there_are_named(kafka: LocalKafka) -> None:
    """
    A wrong prefix is a failed check, not a monitor in which nothing waits.
    """
    environ = {"OBJECTIONS_TOPIC_PREFIX": "nowhere."}
    arguments = ["monitor", "--bootstrap", kafka.bootstrap, "--once"]

    told = CliRunner().invoke(main, arguments, env=environ)

    assert 1 == told.exit_code
    assert "nowhere.objections" in told.stderr
    assert "OBJECTIONS_TOPIC_PREFIX" in told.stderr


def test_no_kafka_at_the_start_is_status_3() -> None:
    """
    Who starts it with a wrong address hears so.
    """
    told = CliRunner().invoke(main, ["monitor", "--bootstrap", "127.0.0.1:1"])

    assert 3 == told.exit_code
    assert "cannot be reached" in told.stderr


@pytest.mark.parametrize("arguments", [["--json"], ["--max-age-s", "5"]])
def test_what_belongs_to_once_is_refused_without_it(arguments: list[str]) -> None:
    """
    A check that would never end is bad usage.
    """
    told = CliRunner().invoke(main, ["monitor", *arguments])

    assert 2 == told.exit_code
    assert "go with --once" in told.stderr


def test_ctrl_c_ends_it_in_order(scene: Scene) -> None:
    """
    With status 0, and without a traceback.
    """
    assert 0 == scene.ended
    assert "Traceback" not in scene.monitor.log()
