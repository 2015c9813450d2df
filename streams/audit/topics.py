"""
What `training-users` and `training-content` say: read up to noted ends, kept as `Records`.
"""

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any, Final

import msgspec
import numpy as np
from confluent_kafka import Message

from streams.audit.tables import RECORD, Offsets, Records, Rows, fields_of, hashes_of
from streams.core.refusals import REFUSALS
from streams.core.subjects import HEADER
from streams.errors import CheckFailed
from streams.settings import Settings
from streams.sinks.sink import TRAINING_CONTENT, TRAINING_USERS, Change, Place
from streams.subscriber.records import change_of
from streams.training import log
from streams.training.positions import Positions

TOPICS: Final = (TRAINING_USERS, TRAINING_CONTENT)


class _Item(msgspec.Struct, gc=False):
    user_id: str
    product: str
    revision: int
    epoch: int
    kind: str | None = None
    modality: str | None = None
    language: str | None = None
    created_at: str | None = None


class _User(msgspec.Struct, gc=False):
    epoch: int


_item: Final = msgspec.json.Decoder(_Item).decode
_user: Final = msgspec.json.Decoder(_User).decode


class Topics:
    """
    The records of both topics, up to `ends`.

    fields: of items, which a reader of the store finds.
    unerased: of each place from where to where the store has hidden and not yet erased; the oldest
        tombstone in there, ms since 1970, is noted in `oldest_unerased_ms`.
    pseudonyms: users are not named by their ids, so nobody can tell their partitions by name.
    """

    def __init__(
        self,
        settings: Settings,
        fields: Sequence[str],
        unerased: Mapping[Place, tuple[int, int]],
        progress: log.Progress,
    ) -> None:
        self.records = {name: Records() for name in TOPICS}
        self.ends: Positions = log.ends(settings)
        self.oldest_unerased_ms: dict[Place, int] = {}
        self.pseudonyms = False
        self._settings = settings
        self._fields: Callable[[_Item], Any] = attrgetter(*fields, "epoch")
        self._unerased = unerased
        self._progress = progress
        self._read(None, self.ends)

    def read_on(self) -> None:
        """Read up to the ends of now; raises CheckFailed when the topics are others by now."""
        begin, self.ends = self.ends, log.ends(self._settings)
        why = begin.contradiction(self.ends)
        if why is not None:
            text = f"{why}. Remedy: run the audit again once the topics are as they should be."
            raise CheckFailed(text)
        self._read(begin, self.ends)

    def changes(self, topic: str, rows: Rows) -> list[Change]:
        """
        Return the records that *rows* of `records` are, as stores get them.

        One that is superseded by now, and compacted away, is left out.
        """
        if not len(rows):
            return []
        wanted = set(zip(rows["partition"].tolist(), rows["offset"].tolist(), strict=True))
        found: list[Change] = []

        def take(name: str, messages: list[Message]) -> None:
            for each in messages:
                number, offset = each.partition(), each.offset()
                if number is not None and (number, offset) in wanted:
                    found.append(change_of(each, Place(name, number)))

        begin = self._at(topic, rows, np.minimum, 0)
        end = self._at(topic, rows, np.maximum, 1)
        log.read_messages(self._settings, begin, end, take, self._progress)
        return found

    def _at(self, topic: str, rows: Rows, choose: np.ufunc, further: int) -> Positions:
        """Return the least or greatest offsets of *rows*, and the ends where there are none."""
        offsets: Offsets = np.array(self.ends.topics[topic].offsets, np.int64)
        touched = np.unique(rows["partition"])
        first = [rows["offset"][rows["partition"] == number] for number in touched]
        offsets[touched] = [choose.reduce(each) + further for each in first]
        topics = {
            name: msgspec.structs.replace(
                each, offsets=offsets.tolist() if name == topic else each.offsets
            )
            for name, each in self.ends.topics.items()
        }
        return msgspec.structs.replace(self.ends, topics=topics)

    def _read(self, begin: Positions | None, end: Positions) -> None:
        log.read_messages(self._settings, begin, end, self._take, self._progress)
        for records in self.records.values():
            records.settle()

    def _take(self, topic: str, messages: list[Message]) -> None:
        self.pseudonyms |= any(HEADER in dict(each.headers() or ()) for each in messages[-1:])
        rows = np.zeros(len(messages), RECORD)
        keys = [each.key() or b"" for each in messages]
        rows["high"], rows["low"] = hashes_of(key.decode("utf-8", "replace") for key in keys)
        rows["partition"] = [each.partition() for each in messages]
        rows["offset"] = [each.offset() for each in messages]
        values = [each.value() for each in messages]
        rows["purged"] = [value is None for value in values]
        epochs: list[int] = []
        revisions: list[int] = []
        fields: list[int] = []
        accounts: list[str | bytes] = []
        for message, value in zip(messages, values, strict=True):
            (epoch, revision), number, account = self._facts(topic, message, value)
            epochs.append(epoch)
            revisions.append(revision)
            fields.append(number)
            accounts.append(account)
        rows["epoch"], rows["revision"], rows["fields"] = epochs, revisions, fields
        rows["account_high"], rows["account_low"] = hashes_of(accounts)
        self.records[topic].put(rows)

    def _facts(
        self, topic: str, message: Message, value: bytes | None
    ) -> tuple[tuple[int, int], int, str | bytes]:
        """Return the pair, the fields' number and the account, which is empty but for items."""
        try:
            if value is None:
                change = self._tombstone(topic, message)
                return (change.epoch, change.revision), 0, _NOBODY
            if topic == TRAINING_USERS:
                return (_user(value).epoch, 0), 0, _NOBODY
            item = _item(value)
        except REFUSALS as error:
            text = (
                f"{message.topic()}/{message.partition()}/{message.offset()} is no record of the "
                f"service. Remedy: find out who else writes to this topic."
            )
            raise CheckFailed(text) from error
        *values, epoch = self._fields(item)
        return (epoch, item.revision), fields_of(values), f"{item.product}/{item.user_id}"

    def _tombstone(self, topic: str, message: Message) -> Change:
        number = message.partition()
        assert number is not None
        place = Place(topic, number)
        change = change_of(message, place)
        begin, end = self._unerased.get(place, (0, 0))
        if begin <= change.offset < end:
            at_ms = message.timestamp()[1]
            oldest_ms = self.oldest_unerased_ms.get(place, at_ms)
            self.oldest_unerased_ms[place] = min(oldest_ms, at_ms)
        return change


_NOBODY: Final = bytes(16)
