"""
The demo from start to end: replay, objections, the wait until all is applied, the check.
"""

import http.client
import logging
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import msgspec
from confluent_kafka import Consumer, KafkaException, TopicPartition

from streams.commands.receipt import lines
from streams.core.policy import Policy
from streams.core.receipts import Receipt
from streams.demo.activity import by_size, read_activity
from streams.demo.check import output_differences, store_differences
from streams.demo.figures import Figures, latencies, purged_items
from streams.demo.place import Place, make_place
from streams.demo.report import Report
from streams.demo.script import Script, write_script
from streams.demo.sender import Sender
from streams.demo.stores import Store
from streams.errors import CheckFailed, CommandError, Unreachable
from streams.program import Program
from streams.proof import INPUTS, OUTPUTS, Record, Truth, compacted, expected, read

DISTURBANCE_S: Final = 10.0  # over which people object
READY_TIMEOUT_S: Final = 60.0
DECIDED_TIMEOUT_S: Final = 120.0
APPLIED_TIMEOUT_S: Final = 30.0  # from the last input processed to the last purge erased
LOOK_AGAIN_S: Final = 0.1
ANSWER_TIMEOUT_S: Final = 10.0
HTTP_TIMEOUT_S: Final = 2.0
RECEIPTS: Final = "receipts"

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
        report.say(
            f"Starting a worker (status page: http://{place.http}/) and the stores' subscribers ..."
        )
        demo = Demo(place, _started(place, stack), report)
        demo.wait(demo.is_ready, READY_TIMEOUT_S, "the worker and the subscribers to be ready")
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


def _started(place: Place, stack: ExitStack) -> list[Program]:
    """Start what the demo shows; it all ends with *stack*."""
    ours = [sys.executable, "-m", "streams.commands"]
    log_path = place.folder / "worker.log"
    shown = [Program("the worker", [*ours, "worker"], place.environ, log_path)]
    for store in place.stores:
        ready = f"--ready-file={_ready_file(place, store)}"
        command = [*ours, "subscribe", f"--store={store.name}", f"--sink={store.url}", ready]
        log_path = place.folder / f"{store.name}.log"
        shown.append(Program(f"the subscriber of {store.name}", command, place.environ, log_path))
    for each in shown:
        stack.enter_context(each)
    for each in shown:
        stack.callback(each.ask_to_stop)  # all of them first, so that they end side by side
    return shown


def _ready_file(place: Place, store: Store) -> Path:
    return place.folder / f"{store.name}.ready"


class Demo:
    """A demo on *place*, with *processes* that run: the worker and the stores' subscribers."""

    def __init__(self, place: Place, processes: Sequence[Program], report: Report) -> None:
        self._place = place
        self._processes = processes
        self._report = report
        self._sender = Sender(place.settings)

    def is_ready(self) -> bool:
        """Whether the worker serves and the stores hold what there was when they began."""
        ready = all(_ready_file(self._place, store).exists() for store in self._place.stores)
        return ready and _serves(self._place.http)

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
        receipts = self._complete_receipts(script)
        truth, outputs, figures.differences = self._settle()
        largest = self._place.settings.subjects().of(by_size(activity)[0])
        self._fill(figures, script, truth, outputs, largest)
        figures.latencies = latencies(receipts)
        figures.receipt = [
            line for each in receipts if each.user_id == largest for line in lines(each, {})
        ]
        return figures

    def wait(self, condition: Callable[[], bool], timeout_s: float, what: str) -> None:
        """Return when *condition* holds; raises CommandError when it does not in time."""
        deadline_s = time.monotonic() + timeout_s
        while not condition():
            self._check_running()
            if time.monotonic() > deadline_s:
                tails = "\n".join(each.log_tail() for each in self._processes)
                raise CommandError(f"waited {timeout_s:.0f} s in vain for {what}; {tails}")
            time.sleep(LOOK_AGAIN_S)

    def keep(self) -> None:
        """Say where everything is, and return when interrupted."""
        settings = self._place.settings
        self._report.say("\nAll of it is left running until Ctrl-C:")
        self._report.say(f"  Kafka         {settings.bootstrap}")
        self._report.say(f"  topic prefix  {settings.topic_prefix or '(none)'}")
        self._report.say(f"  worker        http://{self._place.http}/")
        for store in self._place.stores:
            self._report.say(f"  {store.name:<14}{store.look}")
        try:
            while True:
                self._check_running()
                time.sleep(LOOK_AGAIN_S)
        except KeyboardInterrupt:
            self._report.say("stopping, and removing all of it ...")

    def _check_running(self) -> None:
        for each in self._processes:
            each.check()

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

    def _complete_receipts(self, script: Script) -> list[Receipt]:
        """Wait until the stores have erased all that was objected to; return the receipts."""
        count = len(script.objection_ids) + script.withdrawn
        receipts: list[Receipt] = []
        with self._report.progress("receipts of objections, complete", count) as bar:

            def complete() -> bool:
                latest = compacted(read(self._place.settings, [RECEIPTS])[RECEIPTS]).values()
                found = (msgspec.json.decode(each.value or b"", type=Receipt) for each in latest)
                receipts[:] = [each for each in found if each.objection_id in script.objection_ids]
                done = sum(each.completed_at is not None for each in receipts)
                bar.reached(done)
                return done == count

            self.wait(complete, APPLIED_TIMEOUT_S, "the stores to acknowledge what they erased")
        return receipts

    def _settle(self) -> tuple[Truth, dict[str, list[Record]], list[str]]:
        """Return truth, outputs, and what is wrong, once nothing is or it has been for long."""
        inputs, stores = read(self._place.settings, INPUTS), self._place.stores
        deadline_s = time.monotonic() + APPLIED_TIMEOUT_S
        with self._report.progress("stores that hold what they must", len(stores)) as bar:
            while True:
                self._check_running()
                late = time.monotonic() > deadline_s
                truth = expected(inputs, Policy(), _now_ms(), self._place.settings.subjects())
                found = [store_differences(truth, store) for store in stores]
                bar.reached(found.count([]))
                wrong = [line for differences in found for line in differences]
                if not wrong or late:
                    outputs = read(self._place.settings, OUTPUTS)
                    wrong += output_differences(truth, outputs)
                    if late or not wrong:
                        return truth, outputs, wrong
                time.sleep(LOOK_AGAIN_S)

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


def _serves(http_address: str) -> bool:
    """Whether the worker at *http_address* says that it serves."""
    connection = http.client.HTTPConnection(http_address, timeout=HTTP_TIMEOUT_S)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


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
