"""
The demo from start to end: replay, objections, the wait until all is applied, the check.
"""

import logging
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final, Self

from confluent_kafka import Consumer, KafkaException, TopicPartition

from streams.core.policy import Policy
from streams.demo.activity import by_size, read_activity
from streams.demo.check import output_differences, store_differences
from streams.demo.figures import Figures, latencies, purged_items
from streams.demo.place import Place, make_place
from streams.demo.report import Report
from streams.demo.script import Script, write_script
from streams.demo.sender import Sender
from streams.demo.store import FEATURE_STORE, TRAINING_INDEX
from streams.demo.subscriber import Subscriber
from streams.demo.worker_process import WorkerProcess
from streams.errors import CheckFailed, CommandError, Unreachable
from streams.proof import INPUTS, OUTPUTS, Record, Truth, expected, read

DISTURBANCE_S: Final = 10.0  # over which people object
READY_TIMEOUT_S: Final = 60.0
DECIDED_TIMEOUT_S: Final = 120.0
APPLIED_TIMEOUT_S: Final = 30.0  # from the last input processed to the last purge applied
LOOK_AGAIN_S: Final = 0.1
ANSWER_TIMEOUT_S: Final = 10.0

logger = logging.getLogger(__name__)
logger.addHandler(logging.NullHandler())  # librdkafka's lines; our errors say what matters


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for; a *bootstrap* of None starts a Kafka."""

    bootstrap: str | None = None
    partitions: int | None = None
    keep: bool = False


def run_demo(options: Options, report: Report, tell: Callable[[Figures], None]) -> None:
    """
    Run the demo; *tell* gets its figures, also of a check that failed.

    Raises CheckFailed when a store or an output is not as it must be, CommandError when something
    ended that should not.
    """
    began_s = time.monotonic()
    report.introduce()
    with make_place(options.bootstrap, options.partitions, report) as place, ExitStack() as stack:
        log_path = place.folder / "worker.log"
        worker = stack.enter_context(WorkerProcess(place.environ, place.http, log_path))
        demo = Demo(place, worker, report)
        report.say(f"Starting a worker (status page: http://{place.http}/) ...")
        demo.wait(worker.is_ready, READY_TIMEOUT_S, "the worker to serve")
        stack.callback(demo.stop_subscribers)
        demo.start_subscribers()
        figures = demo.play()
        figures.seconds = round(time.monotonic() - began_s, 1)
        tell(figures)
        report.table(figures)
        if figures.differences:
            report.wrong(figures)
            raise CheckFailed("the check failed: stores or outputs are not as they must be.")
        report.proven(figures)
        if options.keep:
            demo.keep()


class Demo:
    """A demo on *place*, with a worker that runs."""

    def __init__(self, place: Place, worker: WorkerProcess, report: Report) -> None:
        self._place = place
        self._worker = worker
        self._report = report
        self._subscribers = [
            Subscriber(place.settings, place.partitions, name, place.folder / f"{name}.sqlite")
            for name in (FEATURE_STORE, TRAINING_INDEX)
        ]
        self._sender = Sender(place.settings)

    def start_subscribers(self) -> None:
        """Let the stores follow the outputs."""
        for subscriber in self._subscribers:
            subscriber.start()

    def stop_subscribers(self) -> None:
        """End them, and return when their files are closed."""
        for subscriber in self._subscribers:
            if subscriber.is_alive():
                subscriber.stop()

    def play(self) -> Figures:
        """Replay, object, wait, check; return the figures, with the differences found."""
        activity = read_activity()
        script = write_script(activity, _now_ms(), uuid.uuid4().hex[:6])
        figures = Figures(prefix=self._place.settings.topic_prefix)
        with self._report.progress("sending what was written", len(script.replay)) as bar:
            self._sender.send_all(script.replay, bar.reached)
        self._wait_until_decided()
        before, _, wrong = self._settle()
        figures.users_eligible_before = before.eligible_users
        figures.items_allowed_before = len(before.items)
        if wrong:
            figures.differences = wrong
            return figures
        self._report.announce_objections(len(before.items), len(script.objection_ids))
        with self._report.progress("people object", len(script.disturbance)) as bar:
            self._sender.send_paced(script.disturbance, DISTURBANCE_S, bar.reached)
        self._wait_until_decided()
        truth, outputs, figures.differences = self._settle()
        self._fill(figures, script, truth, outputs, by_size(activity)[0])
        return figures

    def wait(self, condition: Callable[[], bool], timeout_s: float, what: str) -> None:
        """Return when *condition* holds; raises CommandError when it does not in time."""
        deadline_s = time.monotonic() + timeout_s
        while not condition():
            self._check_running()
            if time.monotonic() > deadline_s:
                tail = self._worker.log_tail()
                raise CommandError(f"waited {timeout_s:.0f} s in vain for {what}; {tail}")
            time.sleep(LOOK_AGAIN_S)

    def keep(self) -> None:
        """Say where everything is, and return when interrupted."""
        settings = self._place.settings
        self._report.say("\nAll of it is left running until Ctrl-C:")
        self._report.say(f"  Kafka         {settings.bootstrap}")
        self._report.say(f"  topic prefix  {settings.topic_prefix or '(none)'}")
        self._report.say(f"  worker        http://{self._place.http}/")
        for subscriber in self._subscribers:
            self._report.say(f"  {subscriber.name:<13} sqlite3 {subscriber.path}")
        try:
            while True:
                self._check_running()
                time.sleep(LOOK_AGAIN_S)
        except KeyboardInterrupt:
            self._report.say("stopping, and removing all of it ...")

    def _check_running(self) -> None:
        self._worker.check()
        for subscriber in self._subscribers:
            subscriber.check()

    def _wait_until_decided(self) -> None:
        """Wait until the worker has committed its way through all that was sent."""
        sender = self._sender
        with (
            _Committed(self._place) as committed,
            self._report.progress("deciding", sender.delivered) as bar,
        ):

            def decided() -> bool:
                offsets = committed.offsets(sender)
                done = sum(
                    max(0, min(offset, sender.ends[each]) - sender.starts[each])
                    for each, offset in offsets.items()
                )
                bar.reached(done)
                return all(offset >= sender.ends[each] for each, offset in offsets.items())

            self.wait(decided, DECIDED_TIMEOUT_S, "the worker to process its input")

    def _settle(self) -> tuple[Truth, dict[str, list[Record]], list[str]]:
        """Return truth, outputs, and what is wrong, once nothing is or it has been for long."""
        inputs = read(self._place.settings, INPUTS)
        deadline_s = time.monotonic() + APPLIED_TIMEOUT_S
        with self._report.progress(
            "stores that hold what they must", len(self._subscribers)
        ) as bar:
            while True:
                self._check_running()
                late = time.monotonic() > deadline_s
                truth = expected(inputs, Policy(), _now_ms())
                stores = [store_differences(truth, s.name, s.path) for s in self._subscribers]
                bar.reached(stores.count([]))
                wrong = [line for lines in stores for line in lines]
                if not wrong or late:
                    outputs = read(self._place.settings, OUTPUTS)
                    wrong += output_differences(truth, outputs)
                    if late or not (wrong or self._missing(outputs)):
                        return truth, outputs, wrong
                time.sleep(LOOK_AGAIN_S)

    def _missing(self, outputs: dict[str, list[Record]]) -> bool:
        """Whether a tombstone is still on its way to a store."""
        places = {
            each.place
            for name in ("training-users", "training-content")
            for each in outputs[name]
            if each.value is None
        }
        return any(places - subscriber.purged_ms.keys() for subscriber in self._subscribers)

    def _fill(
        self,
        figures: Figures,
        script: Script,
        truth: Truth,
        outputs: dict[str, list[Record]],
        largest: str,
    ) -> None:
        purged = purged_items(outputs["training-content"])
        figures.users_known = len(truth.users)
        figures.users_eligible = truth.eligible_users
        figures.items_known = len(truth.answered)
        figures.items_allowed = len(truth.items)
        figures.items_purged = len(purged)
        figures.largest_account_items_purged = list(purged.values()).count(largest)
        figures.objections_filed = len(script.objection_ids)
        figures.objections_partial = script.partial
        figures.objections_withdrawn = script.withdrawn
        figures.under_age = script.under_age
        figures.late_items = script.late_items
        figures.hidden_items = script.hidden_items
        figures.latencies = latencies(
            read(self._place.settings, ["objections"])["objections"],
            script.objection_ids,
            outputs["training-users"],
            outputs["training-content"],
            {subscriber.name: subscriber.purged_ms for subscriber in self._subscribers},
        )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class _Committed:
    """How far the worker's group has committed its way through the inputs."""

    def __init__(self, place: Place) -> None:
        self._settings = place.settings
        self._consumer = Consumer(
            place.settings.kafka(group_id=place.settings.group, enable_auto_commit=False),
            logger=logger,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def offsets(self, sender: Sender) -> dict[tuple[str, int], int]:
        """Return the committed offset of each partition that *sender* wrote to."""
        places = list(sender.ends)
        asked = [TopicPartition(self._settings.topic(name), number) for name, number in places]
        try:
            found: Sequence[TopicPartition] = self._consumer.committed(
                asked, timeout=ANSWER_TIMEOUT_S
            )
        except KafkaException as error:
            raise Unreachable(f"Kafka at {self._settings.bootstrap}: {error}") from error
        return {place: each.offset for place, each in zip(places, found, strict=True)}
