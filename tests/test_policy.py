"""
A changed policy on a real Kafka: everyone is decided again, once, purges first, and never back.
"""

import json
from collections.abc import Iterator
from http.client import OK
from pathlib import Path
from typing import Final

from streams.core.policy import Policy
from streams.kafka.local import LocalKafka
from streams.policy_file import parse_policy
from streams.proof import Record
from tests.making import content, grown_up, notice, objection
from tests.worker_process import (
    PARTITIONS,
    Inputs,
    Watch,
    Worker,
    apply_topics,
    assert_proven,
    read_outputs,
    wait_for,
    wait_until_caught_up,
)

FIRST: Final = "version: 1\ncountries: [DE]\nkinds: [post]\n"
SECOND: Final = "version: 2\ncountries: [FR]\nkinds: [post, comment]\n"
USERS: Final = 600  # of each country
LONG_AGO: Final = "2020-01-01T00:00:00Z"
REFUSED: Final = 2


def test_everyone_is_decided_again_purges_first_and_after_a_kill_too(
    kafka: LocalKafka, prefix: str, tmp_path: Path
) -> None:
    """
    Germany leaves the policy, France and comments join it: all of it is published, with `policy`
    as the cause, though the worker is killed on the way; in each partition no grant of it comes
    before the last purge.  Then nobody can go back, nor sideways.
    """
    apply_topics(kafka, prefix)
    state = tmp_path / "state"
    with Worker(kafka, prefix, state, POLICY=_file(tmp_path, FIRST)) as worker:
        with Inputs(kafka, prefix) as inputs:
            _send_people(inputs)
        wait_until_caught_up(kafka, prefix, workers=[worker])
    before = assert_proven(kafka, prefix, policy=_policy(FIRST))

    # A slice of 4 items lets one user of each partition be decided again in a cycle: time to kill.
    options = {"POLICY": _file(tmp_path, SECOND), "FANOUT_SLICE_ITEMS": 4}
    with Worker(kafka, prefix, state, **options) as worker:  # type: ignore[arg-type]
        wait_for(lambda: worker.get("/metrics").status == OK and _pending(worker) > 0, "a walk")
        with Watch(kafka, prefix) as watch, worker.slowed():
            wait_for(lambda: _by_policy(watch.outputs()) > USERS // 10, "a part of them")
            worker.kill9()
            done = _by_policy(watch.outputs())
        worker.start()
        wait_for(lambda: worker.log().count("users are decided by policy 2") >= PARTITIONS, "all")
        wait_until_caught_up(kafka, prefix, workers=[worker])
        assert _pending(worker) == 0
    after = assert_proven(kafka, prefix, policy=_policy(SECOND))

    assert done < 2 * USERS  # it was killed on the way
    assert _by_policy(after) >= 2 * USERS
    known = {(each.partition, each.offset) for each in before["training-users"]}
    for partition in range(PARTITIONS):
        news = [
            each
            for each in after["training-users"]
            if each.partition == partition and (partition, each.offset) not in known
        ]
        purges = [each.offset for each in news if each.value is None]
        grants = [each.offset for each in news if each.value is not None]
        assert max(purges) < min(grants)
    for text in (FIRST, SECOND.replace("FR", "DE")):
        with Worker(kafka, prefix, tmp_path / "other", POLICY=_file(tmp_path, text)) as worker:
            assert worker.wait_end() == REFUSED
            assert "decisions must not go back and forth" in worker.log()
    assert _counts(read_outputs(kafka, prefix)) == _counts(after)


def test_workers_of_two_policies_do_not_take_turns(
    kafka: LocalKafka, prefix: str, tmp_path: Path
) -> None:
    """
    In a rolling change a worker of the old policy goes on with what only it has decided, and gives
    up, without a decision, when it is handed what the new policy has decided.
    """
    apply_topics(kafka, prefix)
    old_file, new_file = _file(tmp_path, FIRST), _file(tmp_path, SECOND)
    with (
        Inputs(kafka, prefix) as inputs,
        Worker(kafka, prefix, tmp_path / "old", POLICY=old_file) as old,
    ):
        for number in range(40):
            _send_person(inputs, f"u{number}", "DE")
        inputs.flush()
        wait_until_caught_up(kafka, prefix, workers=[old])
        with Worker(kafka, prefix, tmp_path / "new", POLICY=new_file) as new:
            finished = "users are decided by policy 2"
            wait_for(lambda: new.log().count(finished) == PARTITIONS // 2, "half the partitions")
            inputs.send(*(("objections", objection(user_id=f"u{number}")) for number in range(40)))
            wait_until_caught_up(kafka, prefix, workers=[old, new])
            both = read_outputs(kafka, prefix)
            new.terminate()
            assert old.wait_end() == REFUSED
        assert _counts(read_outputs(kafka, prefix)) == _counts(both)

        with Worker(kafka, prefix, tmp_path / "new", POLICY=new_file) as new:
            wait_until_caught_up(kafka, prefix, workers=[new])
            wait_for(lambda: _pending(new.wait_ready()) == 0, "the other half")
            wait_until_caught_up(kafka, prefix, workers=[new])
    assert_proven(kafka, prefix, policy=_policy(SECOND))


def test_a_file_that_is_wrong_ends_the_worker_at_once(
    kafka: LocalKafka, prefix: str, tmp_path: Path
) -> None:
    """Before anything is read, with the line in the log."""
    path = _file(tmp_path, "version: 2\ncountry: [DE]\n")
    with Worker(kafka, prefix, tmp_path / "state", POLICY=path) as worker:
        assert worker.wait_end() == REFUSED
        assert f"{path}:2: `country` is no key of a policy; did you mean `countries`?" in (
            worker.log()
        )


def _send_people(inputs: Inputs) -> None:
    for number in range(USERS):
        for country in ("DE", "FR"):
            _send_person(inputs, f"{country}{number}", country)
    for number in range(30):  # more than are answered with their user
        inputs.queue("content", content(user_id="DE0", content_id=f"more-{number}"))
        inputs.queue("content", content(user_id="FR0", content_id=f"some-{number}"))
    inputs.queue("objections", objection(user_id="FR1"))
    inputs.queue("account-ages", grown_up(user_id="DE1", account="deleted"))
    inputs.flush()


def _send_person(inputs: Inputs, user: str, country: str) -> None:
    inputs.queue("account-ages", grown_up(user_id=user, country=country))
    inputs.queue("notices", notice(user_id=user, delivered_at=LONG_AGO))
    inputs.queue("content", content(user_id=user, content_id=f"{user}.post"))
    inputs.queue("content", content(user_id=user, content_id=f"{user}.comment", kind="comment"))


def _file(folder: Path, text: str) -> Path:
    path = folder / f"policy-{_policy(text).digest}.yaml" if "country:" not in text else None
    path = path or folder / "wrong.yaml"
    path.write_text(text)
    return path


def _policy(text: str) -> Policy:
    return parse_policy(text, "policy.yaml")


def _pending(worker: Worker) -> float:
    return worker.metric("objections_policy_pending_users")


def _decisions(outputs: dict[str, list[Record]]) -> Iterator[str]:
    for each in outputs["eligibility"]:
        yield json.loads(each.value or b"")["cause"]["topic"]


def _by_policy(outputs: dict[str, list[Record]]) -> int:
    return sum(1 for cause in _decisions(outputs) if cause == "policy")


def _counts(outputs: dict[str, list[Record]]) -> dict[str, int]:
    return {name: len(found) for name, found in outputs.items()}
