"""
The Faust agents: one for each input.

Each decodes its topic's part of a round and hands it to the cycle, which acknowledges it when
its transaction is committed.  No exception may leave an agent: Faust would count the event as
done.  So what decoding does not expect ends the process.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import faust

from streams.settings import Settings
from streams.worker.cycle import Decoded
from streams.worker.intake import Fetched, Intake, take_in
from streams.worker.names import Followed
from streams.worker.spans import RecordSpans
from streams.worker.transport import Batch, BatchSchema


def add_agents(
    app: faust.App,
    settings: Settings,
    submit: Callable[[Decoded], None],
    fail: Callable[[BaseException], None],
    followed: Followed,
    partitions_n: int,
    spans: RecordSpans | None = None,
) -> None:
    """
    Give *app* an agent for each topic *followed*; complete rounds go to *submit*, errors to *fail*.

    partitions_n: of each of them.
    """
    subjects = settings.subjects()
    for topic in followed.all:
        take = partial(
            take_in,
            full_topic=settings.topic(topic),
            subjects=subjects,
            partitions_n=partitions_n,
        )
        _add_agent(app, settings.topic(topic), topic, take, submit, fail, spans)


def _add_agent(
    app: faust.App,
    full_topic: str,
    name: str,
    take: Callable[[Fetched], Intake],
    submit: Callable[[Decoded], None],
    fail: Callable[[BaseException], None],
    spans: RecordSpans | None,
) -> None:
    async def decode(stream: Any) -> None:
        async for event in stream.noack().events():
            batch: Batch = event.value
            try:
                intakes = [take(fetched) for fetched in batch.fetched]
                if spans is not None:
                    intakes = [spans.decoded(intake) for intake in intakes]
            except Exception as error:  # noqa: BLE001  (see above)
                fail(error)
                continue
            if batch.decoded.add(intakes, event):
                submit(batch.decoded)

    decode.__name__ = name.replace("-", "_")
    channel = app.topic(full_topic, schema=BatchSchema(), internal=False)
    app.agent(channel, name=f"streams.{decode.__name__}")(decode)
