"""An objection goes past the content that is waiting, on a real Kafka."""

import statistics
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from streams.kafka.local import LocalKafka
from streams.kafka.reader import extent, reader
from streams.worker.fetch import CONTENT_RECORDS
from tests.making import content, grown_up, notice, objection
from tests.worker_process import Inputs, Watch, Worker, apply_topics, assert_proven, wait_for
from tests.worker_settings import ANSWER_S, settings_of

ITEMS: Final = 24_000
OBJECTORS: Final = [f"objects{number}" for number in range(12)]
EVERY_S: Final = 0.05
LEAST: Final = 3  # objections that must have met the backlog


def test_an_objection_waits_for_the_content_in_hand_and_for_no_more(
    kafka: LocalKafka, prefix: str, tmp_path: Path
) -> None:
    """
    Behind a backlog of content of the same partition objections are filed, one by one.

    What is published between an objection and its answer is what was being folded and committed.
    """
    apply_topics(kafka, prefix, partitions=1)
    with (
        ExitStack() as stack,
        Inputs(kafka, prefix) as inputs,
        Watch(kafka, prefix) as watch,
    ):
        for user in ("writes", *OBJECTORS):
            inputs.queue("account-ages", grown_up(user_id=user))
            inputs.queue("notices", notice(user_id=user))
        for number in range(ITEMS):
            inputs.queue("content", content(user_id="writes", content_id=f"c{number}"))
        inputs.flush()
        worker = stack.enter_context(Worker(kafka, prefix, tmp_path / "state"))
        # By the end alone: reading the items would take as long as making them.
        look, items = reader(settings_of(kafka, prefix)), (f"{prefix}training-content", 0)
        stack.callback(look.close)
        wait_for(lambda: extent(look, items, ANSWER_S)[1] > 0, "the first items")
        filed_ms = {}
        for user in OBJECTORS:
            (sent,) = inputs.send(("objections", objection(user_id=user)))[-1:]
            filed_ms[user] = sent.timestamp_ms
            time.sleep(EVERY_S)  # the pace of objections, nothing is waited for
        watch.wait_until_caught_up(workers=[worker])
        outputs = watch.outputs()

    published_ms = [each.timestamp_ms for each in outputs["training-content"]]
    decided_ms = {each.key_text: each.timestamp_ms for each in outputs["eligibility"]}
    overtaken = [
        sum(at < each <= decided_ms[user] for each in published_ms)
        for user, at in filed_ms.items()
        if decided_ms[user] < published_ms[-1]
    ]
    assert len(overtaken) >= LEAST, overtaken
    assert statistics.median(overtaken) <= 3 * CONTENT_RECORDS, overtaken
    assert_proven(kafka, prefix)
