"""
Mends what an audit found: by the store's own `apply`, with the topic's records and their pairs.

So the order rules hold, and a subscriber beside is not disturbed: whoever comes second with a pair
changes nothing.  What an applied record cannot mend, as the store remembers a higher pair or has
never heard of the item, is expelled; then the topics are read to ends noted after that, and what
stands of it there is applied again.  So a record that the subscriber has brought meanwhile is back.
"""

from typing import Final

import numpy as np

from streams.audit.judge import Judgement
from streams.audit.look import Look, Store
from streams.audit.tables import Rows, hashes_in
from streams.audit.topics import Topics
from streams.errors import Busy
from streams.sinks.contents import Key
from streams.sinks.sink import Batch, Change, Place
from streams.training.hashing import Hashes
from streams.training.table import ABSENT

BATCH_RECORDS: Final = 5_000  # as the subscriber applies at most
ERASE_TRIES: Final = 5


def apply(store: Store, topics: Topics, wrong: dict[str, Hashes]) -> None:
    """Apply what the topics hold of the keys that are *wrong*."""
    for topic, hashes in wrong.items():
        records = topics.records[topic]
        at = records.find(hashes)
        rows = records.rows[at[at != ABSENT]]
        changes = topics.changes(topic, rows)
        for start in range(0, len(changes), BATCH_RECORDS):
            _apply(store, topics, changes[start : start + BATCH_RECORDS])


def expel(store: Store, topics: Topics, judgement: Judgement, look: Look) -> None:
    """Remove the keys of *judgement* from the store, where *look* has found them."""
    for topic, verdicts in judgement.verdicts.items():
        found = _found(topics, topic, verdicts, look)
        for start in range(0, len(found), BATCH_RECORDS):
            part = found[start : start + BATCH_RECORDS]
            store.call(lambda t=topic, p=part: store.sink.expel(t, p))  # type: ignore[misc]


def erase(store: Store) -> str | None:
    """Let the bytes of what was removed go; return why not, where they are still there."""
    if not store.sink.erase_every_s:
        return None
    for attempt in range(ERASE_TRIES):
        try:
            store.sink.erase()
        except Busy as busy:
            why = str(busy)
            if attempt == ERASE_TRIES - 1:
                return f"what was removed is hidden, and not erased yet: {why}"
        else:
            return None
    return None


def _apply(store: Store, topics: Topics, changes: list[Change]) -> None:
    positions = store.call(store.sink.positions)
    ids = {name: topic.topic_id for name, topic in topics.ends.topics.items()}
    reached = {
        place: positions[place]
        for place in {Place(each.topic, each.partition) for each in changes}
        # A place that the store has never followed, or not this topic's, is the subscriber's work.
        if place in positions and positions[place].topic_id == ids[place.topic]
    }
    ours = [each for each in changes if Place(each.topic, each.partition) in reached]
    if ours:
        store.call(lambda: store.sink.apply(Batch(ours, reached)))


def _found(topics: Topics, topic: str, verdicts: Rows, look: Look) -> list[tuple[Key, str]]:
    """Return keys as the store has them, each with every account it was found under."""
    found: dict[tuple[Key, str], None] = {}
    nameless = np.zeros(len(verdicts), np.bool_)
    for number, verdict in enumerate(verdicts):
        if verdict["item"] != ABSENT:
            item = look.shown[verdict["item"]]
            found[item.content_id, item.account] = None
        elif verdict["fence"] != ABSENT:
            found[look.keys[topic][verdict["fence"]], ""] = None
        else:
            nameless[number] = True
    rows = topics.records[topic].rows[verdicts["record"][nameless]]
    found.update(dict.fromkeys((change.key, "") for change in topics.changes(topic, rows)))
    return list(found)


def hashes_by_topic(judgement: Judgement) -> dict[str, Hashes]:
    """Return the keys of *judgement*."""
    return {topic: hashes_in(rows) for topic, rows in judgement.verdicts.items()}


def is_empty(judgement: Judgement) -> bool:
    """Whether nothing is wrong."""
    return not any(len(rows) for rows in judgement.verdicts.values())
