"""
The breaker on re-inclusion on a real Kafka: an age feed breaks, and somebody looks and releases.
"""

import json
from pathlib import Path
from typing import Any, Final

from click.testing import CliRunner, Result

from streams.commands import main
from streams.kafka.local import LocalKafka
from streams.proof import Record
from tests.making import content, grown_up, notice, objection
from tests.worker_process import (
    Inputs,
    Watch,
    Worker,
    apply_topics,
    assert_proven,
    wait_for,
    wait_until_caught_up,
)
from tests.worker_settings import environ_of

PARTITIONS: Final = 2
MINORS: Final = [f"minor{number}" for number in range(40)]
ADULTS: Final = [f"adult{number}" for number in range(10)]
LIMIT: Final = 3  # of a partition
HELD: Final = "objections_grants_held_users"


def test_a_broken_age_feed_is_held_until_somebody_releases_it(
    kafka: LocalKafka, prefix: str, tmp_path: Path
) -> None:
    """
    A feed that calls all minors adult lets no more than the limit in.  Purges go on meanwhile, a
    worker that was killed holds on, `grants status` says what there is to know, and once it is
    released all are allowed, as the inputs say.  The same release once more releases nothing.
    """
    apply_topics(kafka, prefix, partitions=PARTITIONS)
    options = {"BREAKER_USERS_MIN": LIMIT, "BREAKER_PERCENT": 1}
    with (
        Worker(kafka, prefix, tmp_path / "state", **options) as worker,
        Inputs(kafka, prefix) as inputs,
        Watch(kafka, prefix) as watch,
    ):
        for user_id in (*MINORS, *ADULTS):
            born = "2015-01-01" if user_id in MINORS else "1990-01-01"
            inputs.queue("account-ages", grown_up(user_id=user_id, birth_date=born))
            inputs.queue("notices", notice(user_id=user_id))
            inputs.queue("content", content(user_id=user_id, content_id=f"{user_id}.c"))
        inputs.flush()
        wait_until_caught_up(kafka, prefix, workers=[worker])
        before = worker.metric(HELD)
        assert set(ADULTS) == allowed(watch)

        wrong = {"observed_at": "2026-02-01T00:00:00Z"}
        inputs.send(*(("account-ages", grown_up(user_id=each, **wrong)) for each in MINORS))
        wait_for(lambda: len(held_partitions(worker)) == PARTITIONS, "both to hold")
        inputs.send(*(("objections", objection(user_id=each)) for each in ADULTS))
        wait_for(lambda: not allowed(watch) & set(ADULTS), "the purges")
        meanwhile = allowed(watch)
        worker.kill9()
        worker.start()
        wait_for(lambda: len(held_partitions(worker)) == PARTITIONS, "both to hold on")
        told = run(kafka, prefix, "status", "--json")
        shown = run(kafka, prefix, "status", "--partition", "1")
        refused = run(kafka, prefix, "release", "--partition", "2")
        unanswered = run(kafka, prefix, "release", "--partition", "0")
        still = allowed(watch)
        page = worker.get("/").text

        released = run(kafka, prefix, "release", "--yes")
        wait_until_caught_up(kafka, prefix, workers=[worker])
        after = allowed(watch)
        outputs = assert_proven(kafka, prefix)
        nothing = run(kafka, prefix, "release", "--yes")

        assert 0 == before
        assert PARTITIONS * LIMIT == len(meanwhile)
        assert meanwhile == still
        lines = [json.loads(line) for line in told.stdout.splitlines()]
        assert [True, True] == [line["held"] for line in lines]
        assert [LIMIT, LIMIT] == [line["limit_users"] for line in lines]
        topic = f"{prefix}account-ages"
        waiting = [line["causes"] for line in lines]
        assert len(MINORS) - PARTITIONS * LIMIT == sum(each[topic] for each in waiting)
        assert "partition 1: held since 20" in shown.stdout
        assert "see for instance: objections explain minor" in shown.stdout
        assert "Grants are held in 1 of 1 partitions looked at." in shown.stdout
        assert 2 == refused.exit_code
        assert "expected 0 to 1" in refused.stderr
        assert 2 == unanswered.exit_code
        assert "Remedy: give --yes" in unanswered.stderr
        assert "Grants held" in page
        assert 0 == released.exit_code, released.stderr
        assert set(MINORS) == after
        assert 0 == worker.metric(HELD)
        assert 0 == nothing.exit_code
        assert "Nothing to release" in nothing.stdout
        nobody = {each.key_text for each in outputs["eligibility"]} - {*MINORS, *ADULTS}
        assert PARTITIONS == len(nobody)
        assert worker.log().count("nothing more is allowed") == 2 * PARTITIONS  # it was restarted


def allowed(watch: Watch) -> set[str]:
    """Return the users who may be used, by the last word on them."""
    last: dict[str, Record] = {each.key_text: each for each in watch.outputs()["training-users"]}
    return {key.partition("/")[2] for key, each in last.items() if each.value is not None}


def held_partitions(worker: Worker) -> list[str]:
    """Return the series of partitions whose grants are held."""
    if worker.get("/readyz").status != 200:
        return []
    return [name for name, users in worker.metrics().items() if name.startswith(HELD) and users]


def run(kafka: LocalKafka, prefix: str, *arguments: Any) -> Result:
    """Run `objections grants`; it is never a traceback."""
    result = CliRunner().invoke(
        main, ["grants", *arguments], env=environ_of(kafka.bootstrap, prefix, {})
    )
    assert result.exception is None or isinstance(result.exception, SystemExit), result
    return result
