"""
`objections worker` as people and supervisors meet it: starting, refusing, waiting, leaving.
"""

import os
import re
import signal
import time
from collections.abc import Iterator
from itertools import chain, pairwise
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

import topics
from streams import proof
from streams.core.policy import Policy
from streams.kafka.local import LocalKafka
from streams.kafka.ports import free_port
from streams.metric_table import METRICS
from streams.proof import INPUTS, OUTPUTS
from tests import worker_process
from tests.making import content, grown_up, notice, objection
from tests.worker_process import (
    Inputs,
    Watch,
    apply_topics,
    assert_proven,
    read_outputs,
    settings_of,
    wait_for,
    wait_until_caught_up,
)

AT_ONCE_S = 6.0  # start of the process included, on a machine that does other things as well
LEAVES_S = 5.0
RECORDS = 20
REFUSED, USAGE = 1, 2


class Worker(worker_process.Worker):
    """The program itself: here it matters how it starts and how it ends."""

    forked = False


def end_of(worker: Worker) -> tuple[int | None, str]:
    """Run *worker* until it ends by itself; return its exit status and all it has said."""
    with worker:
        status = worker.wait_end(30)
    return status, worker.log()


# One worker, whose clock is off, for what is only looked at.


@pytest.fixture(scope="module")
def served(kafka: LocalKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """Return a ready worker on the prefix "served."."""
    apply_topics(kafka, "served.")
    state_dir = tmp_path_factory.mktemp("served") / "state"
    with Worker(kafka, "served.", state_dir, CLOCK_OFFSET_S=86_400) as worker:
        worker.wait_ready()
        yield worker


def test_http_from_outside(served: Worker) -> None:
    """
    A ready worker answers on /healthz, /readyz, / and /metrics, with every metric it declares.
    """
    health, ready, page, metrics = (
        served.get(path) for path in ("/healthz", "/readyz", "/", "/metrics")
    )

    assert (health.status, health.text) == (200, "ok\n")
    assert (ready.status, ready.text) == (200, "serving 4 partitions\n")
    assert page.status == 200
    assert page.headers["Content-Type"].startswith("text/html")
    assert "served.objections" in page.text
    assert "<strong>On time</strong>" in page.text
    assert metrics.status == 200
    assert metrics.headers["Content-Type"].startswith("text/plain")
    for metric in METRICS:
        assert f"# TYPE {metric.name}" in metrics.text
    assert served.get("/else").status == 404


def test_propagation_lies_between_kafkas_time_stamps_and_their_receipt(
    kafka: LocalKafka, served: Worker
) -> None:
    """
    What the histogram tells is no less than from input to output by Kafka's clock, and no more
    than until a reader of committed records has the decision; a clock that is off changes nothing.
    """
    name, labels = "objections_propagation_seconds", 'stage="published",topic="served.objections"'
    least_ms = most_ms = 0
    with Inputs(kafka, "served.") as inputs, Watch(kafka, "served.") as watch:
        before = served.metrics()
        for number in range(RECORDS):
            user = f"timed{number}"
            (sent,) = inputs.send(("objections", objection(user_id=user)))
            wait_for(lambda: _decision(watch, user) is not None, "the decision")  # noqa: B023
            read_ms, decided = int(time.time() * 1000), _decision(watch, user)
            assert decided is not None
            least_ms += decided.timestamp_ms - sent.timestamp_ms
            most_ms += read_ms - sent.timestamp_ms
        after = served.metrics()
    counted = after[f"{name}_count{{{labels}}}"] - before[f"{name}_count{{{labels}}}"]
    told_ms = (after[f"{name}_sum{{{labels}}}"] - before[f"{name}_sum{{{labels}}}"]) * 1000

    assert counted == RECORDS
    assert least_ms <= told_ms + RECORDS  # each rounded to a millisecond
    assert told_ms <= most_ms + RECORDS


def _decision(watch: Watch, user: str) -> proof.Record | None:
    found = [each for each in watch.outputs()["eligibility"] if each.key_text == user]
    return found[0] if found else None


def test_a_clock_that_is_off_is_announced_loudly(served: Worker) -> None:
    """
    OBJECTIONS_CLOCK_OFFSET_S is said in capitals when the worker starts.
    """
    assert re.search(
        r"WARNING .*CLOCK IS OFF BY \+86400 s .*OBJECTIONS_CLOCK_OFFSET_S", served.log()
    )


def test_the_state_is_for_the_worker_alone(served: Worker) -> None:
    """Dates of birth are in it: nobody else on the machine may read them."""
    assert served.state_dir.stat().st_mode & 0o777 == 0o700


def test_a_state_folder_in_use_is_refused(kafka: LocalKafka, served: Worker) -> None:
    """
    Two workers never share a state folder: the second says whose setting it is and what to do.
    """
    second = Worker(kafka, "served.", served.state_dir)
    second.log_path = second.log_path.with_suffix(".second")
    status, log = end_of(second)

    assert status == USAGE
    assert re.search(
        r"OBJECTIONS_STATE_DIR: .* is in use by another worker; give each its own", log
    )
    assert "Traceback" not in log
    assert served.get("/readyz").status == 200


def test_a_taken_port_is_refused(kafka: LocalKafka, served: Worker, tmp_path: Path) -> None:
    """
    A worker whose HTTP address is taken ends with the remedy, and has not joined the group.
    """
    status, log = end_of(Worker(kafka, "served.", tmp_path / "state", port=served.port))

    assert status == USAGE
    assert f"OBJECTIONS_HTTP is '127.0.0.1:{served.port}'" in log
    assert "port 0" in log
    assert "Traceback" not in log
    assert served.get("/readyz").status == 200


# Refusals.


@pytest.mark.parametrize(
    "variables, named",
    [
        pytest.param({"SESSION_TIMEOUT_MS": "soon"}, "OBJECTIONS_SESSION_TIMEOUT_MS", id="value"),
        pytest.param({"SESION_TIMEOUT_MS": "9000"}, "OBJECTIONS_SESION_TIMEOUT_MS", id="name"),
        pytest.param({"STATE_DIR": "/dev/null/state"}, "OBJECTIONS_STATE_DIR", id="state folder"),
        pytest.param({"POLICY": "/none/policy.yaml"}, "OBJECTIONS_POLICY", id="policy"),
    ],
)
def test_bad_settings_are_refused(tmp_path: Path, variables: dict[str, str], named: str) -> None:
    """
    A worker with a setting that cannot be ends at once, without any Kafka, and names the variable.
    """
    nowhere = f"127.0.0.1:{free_port()}"
    worker = Worker(nowhere, "", tmp_path / "state")
    worker.environ |= {f"OBJECTIONS_{name}": value for name, value in variables.items()}
    status, log = end_of(worker)

    assert status == USAGE
    assert named in log
    assert "Traceback" not in log


def test_missing_topics_are_named(kafka: LocalKafka, prefix: str, tmp_path: Path) -> None:
    """
    Without its topics a worker refuses to start, names each, and says how to make them.
    """
    status, log = end_of(Worker(kafka, prefix, tmp_path / "state"))

    assert status == REFUSED
    for name in topics.names():
        assert f"{prefix}{name} does not exist" in log
    assert "objections topics apply" in log


def test_unequal_partition_counts_are_refused(
    kafka: LocalKafka, prefix: str, tmp_path: Path
) -> None:
    """
    When counts differ the worker refuses, naming the topics; nothing of that start is recorded, so
    that it starts once they are right.
    """
    group = f"{prefix}group"
    create(kafka, f"{prefix}wrong.", partitions={"objections": 3})
    status, log = end_of(Worker(kafka, f"{prefix}wrong.", tmp_path / "state", GROUP=group))
    apply_topics(kafka, prefix, partitions=4)
    with Worker(kafka, prefix, tmp_path / "state", GROUP=group) as worker:
        worker.wait_ready()

    assert status == REFUSED
    assert f"{prefix}wrong.objections 3" in log
    assert f"{prefix}wrong.content 4" in log


def test_create_time_is_refused(kafka: LocalKafka, prefix: str, tmp_path: Path) -> None:
    """
    A topic whose time stamps are its producers' is refused by its name.
    """
    create(kafka, prefix, time_stamps={"notices": "CreateTime"})
    status, log = end_of(Worker(kafka, prefix, tmp_path / "state"))

    assert status == REFUSED
    assert f"{prefix}notices: message.timestamp.type is not LogAppendTime" in log
    assert f"{prefix}content: message.timestamp.type" not in log


def test_another_partition_count_than_the_states_is_refused(
    kafka: LocalKafka, prefix: str, tmp_path: Path
) -> None:
    """
    State made with one count of partitions is never used with another.
    """
    group = f"{prefix}group"
    apply_topics(kafka, f"{prefix}four.", partitions=4)
    with Worker(kafka, f"{prefix}four.", tmp_path / "state", GROUP=group) as worker:
        worker.wait_ready()
    apply_topics(kafka, f"{prefix}two.", partitions=2)
    status, log = end_of(Worker(kafka, f"{prefix}two.", tmp_path / "state", GROUP=group))

    assert status == REFUSED
    assert re.search(r"two\.objections has 2 partitions, the state in .* was made with 4", log)


def create(
    kafka: LocalKafka,
    prefix: str,
    partitions: dict[str, int] | None = None,
    time_stamps: dict[str, str] | None = None,
) -> None:
    """Make all topics of *prefix* as they should be, but for what is given for some."""
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    wanted = []
    for name in topics.names():
        definition = topics.definition(name)
        config = {key: each.value for key, each in definition.config.items()}
        config["message.timestamp.type"] = (time_stamps or {}).get(name, "LogAppendTime")
        shared = 4 if definition.partitions == "shared" else definition.partitions
        count = (partitions or {}).get(name, shared)
        wanted.append(NewTopic(f"{prefix}{name}", count, 1, config=config))
    for future in admin.create_topics(wanted).values():
        future.result(30)
    names = {new.topic for new in wanted}
    wait_for(lambda: names <= set(admin.list_topics(timeout=5).topics), "the topics")


# Leaving.


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_signal_under_load_loses_nothing(
    kafka: LocalKafka, prefix: str, tmp_path: Path, number: signal.Signals
) -> None:
    """
    Told to leave under load, a worker leaves within seconds with status 0; what it has committed
    is wholly published and nothing else is; started again, it goes on from there.
    """
    apply_topics(kafka, prefix)
    with Worker(kafka, prefix, tmp_path / "state", BATCH_RECORDS=500) as worker:
        worker.wait_ready()
        wait_until_caught_up(kafka, prefix)
        with Inputs(kafka, prefix) as inputs, Watch(kafka, prefix) as watch:
            users = [f"u{each}" for each in range(300)]
            for user in users:
                inputs.queue("account-ages", grown_up(user_id=user))
                inputs.queue("notices", notice(user_id=user))
            inputs.flush()
            # Grants that wait for ages and notices would not be published when it leaves.
            watch.wait_until_caught_up(workers=[worker])
            for each in range(8_000):
                user = users[each % len(users)]
                inputs.queue("content", content(user_id=user, content_id=f"c{each}"))
                if each % 40 == 0:
                    inputs.queue("objections", objection(user_id=user, objection_id=f"o{each}"))

            def reached() -> int:
                now = watch.committed()
                return now["content", 0] + now["content", 1]

            wait_for(lambda: reached() > 0, "a load")
            began_s = time.monotonic()
            status = worker.terminate(number, LEAVES_S)
            took_s = time.monotonic() - began_s
            inputs.flush()
        with Watch(kafka, prefix) as after:
            committed = after.committed()
        _assert_proven_up_to(kafka, prefix, committed)
        worker.start()
        wait_until_caught_up(kafka, prefix, workers=[worker])
        assert_proven(kafka, prefix)

    assert (status, took_s < LEAVES_S) == (0, True)
    assert 0 < committed["content", 0] + committed["content", 1] < 8_000


def _assert_proven_up_to(
    kafka: LocalKafka, prefix: str, committed: dict[tuple[str, int], int]
) -> None:
    inputs = proof.read(settings_of(kafka, prefix), INPUTS)
    read = {
        name: [each for each in inputs[name] if each.offset < committed[name, each.partition]]
        for name in INPUTS
    }
    outputs = read_outputs(kafka, prefix)
    truth = proof.expected(read, Policy(), int(time.time() * 1000))
    wrong = proof.differences(truth, *(proof.compacted(outputs[name]) for name in OUTPUTS))
    wrong += proof.log_violations(chain.from_iterable(outputs[name] for name in OUTPUTS))

    assert not wrong, wrong[:20]


# Kafka comes and goes: on a Kafka of our own.


@pytest.fixture(scope="module")
def own_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalKafka]:
    """Return a Kafka that may be stopped, with topics of the prefix "own."."""
    with LocalKafka(tmp_path_factory.mktemp("own-kafka")) as own:
        apply_topics(own, "own.")
        yield own


def test_a_worker_waits_for_kafka(own_kafka: LocalKafka, tmp_path: Path) -> None:
    """
    A worker that cannot reach Kafka says so at once, names the address and the remedy, asks again
    after growing pauses, and gets going when Kafka does.
    """
    own_kafka.stop()
    began_s = time.monotonic()
    with Worker(own_kafka, "own.", tmp_path / "state") as worker:
        wait_for(lambda: "cannot be reached" in worker.log(), "the worker to say so")
        said_s = time.monotonic() - began_s
        wait_for(lambda: worker.log().count("trying again in") >= 3, "three attempts")
        own_kafka.start()
        worker.wait_ready()
        with Inputs(own_kafka, "own.") as inputs:
            inputs.send(("objections", objection(user_id="waited")))
            wait_until_caught_up(own_kafka, "own.", workers=[worker])
    pauses_s = [float(each) for each in re.findall(r"trying again in ([\d.]+) s", worker.log())]

    assert said_s < AT_ONCE_S
    assert own_kafka.bootstrap in worker.log()
    assert "Remedy" in worker.log()
    assert all(shorter < longer for shorter, longer in pairwise(pauses_s[:3]))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_worker_that_waits_for_kafka_can_be_stopped(
    tmp_path: Path, number: signal.Signals
) -> None:
    """
    While it waits for Kafka a worker leaves as quickly, and as well, as at any other time.
    """
    with Worker(f"127.0.0.1:{free_port()}", "", tmp_path / "state") as worker:
        wait_for(lambda: "trying again" in worker.log(), "the worker to wait")
        status = worker.terminate(number, LEAVES_S)

    assert status == 0
    assert "Traceback" not in worker.log()


def test_an_outage_of_kafka_is_survived(own_kafka: LocalKafka, tmp_path: Path) -> None:
    """
    Kafka killed under a worker does not end it: it lives on, and goes on when Kafka is back.
    """
    with Worker(own_kafka, "own.", tmp_path / "state") as worker:
        worker.wait_ready()
        with Inputs(own_kafka, "own.") as inputs:
            inputs.send(("objections", objection(user_id="before")))
        wait_until_caught_up(own_kafka, "own.", workers=[worker])
        own_kafka.kill()
        time.sleep(1)  # long enough for clients to notice
        assert worker.get("/healthz").status == 200
        own_kafka.start()
        with Inputs(own_kafka, "own.") as inputs:
            inputs.send(("objections", objection(user_id="after")))
        wait_until_caught_up(own_kafka, "own.", workers=[worker])
        users = {each.key_text for each in assert_proven(own_kafka, "own.")["eligibility"]}

    assert {"before", "after"} <= users


def test_a_worker_leaves_while_kafka_does_not_answer(own_kafka: LocalKafka, tmp_path: Path) -> None:
    """
    SIGTERM is obeyed within seconds also when Kafka has fallen silent in the middle of the load,
    and nothing is lost by it.
    """
    with Inputs(own_kafka, "own.") as inputs:
        with Worker(own_kafka, "own.", tmp_path / "state") as worker:
            worker.wait_ready()
            for number in range(3_000):
                inputs.queue("objections", objection(user_id=f"u{number}"))
            wait_for(lambda: worker.metric("objections_events_total") > 0, "a load")
            os.kill(own_kafka.pid, signal.SIGSTOP)
            try:
                worker.terminate(timeout_s=2 * LEAVES_S)
            finally:
                os.kill(own_kafka.pid, signal.SIGCONT)
        inputs.flush()
    with Worker(own_kafka, "own.", tmp_path / "state") as worker:
        wait_until_caught_up(own_kafka, "own.", workers=[worker])
        assert_proven(own_kafka, "own.")
