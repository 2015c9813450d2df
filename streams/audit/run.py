"""
An audit from end to end; why it is right beside a running subscriber is said in `streams.audit`.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np

from streams.audit import repair
from streams.audit.findings import Finding, Lag, Report, Unerased, at_text, name_of
from streams.audit.judge import FAILS, Judgement, Kind, judge
from streams.audit.look import Look, Store
from streams.audit.promise import Promise, Word, promise
from streams.audit.tables import hashes_in
from streams.audit.topics import TOPICS, Topics
from streams.errors import UsageProblem
from streams.kafka.partitioner import partition_of
from streams.settings import Settings
from streams.sinks.contents import AuditedSink
from streams.sinks.sink import TRAINING_CONTENT, TRAINING_USERS, Change, Place
from streams.training.hashing import Hashes
from streams.training.log import Progress
from streams.training.table import ABSENT

# Keys looked at a second time together: their texts are in memory, some hundred bytes each.
KEYS_MAX: Final = 100_000
LIMIT: Final = 20  # findings of each kind that are named
# Beyond twice the schedule, as one erasure may have just begun; and for the erasure itself.
ERASING_S: Final = 60.0

Say = Callable[[str], None]
Read = Callable[[Mapping[Place, tuple[int, int]], Progress], Topics]


class Wanted(NamedTuple):
    """
    What to do.

    sink: for people, without a password.  store: its name in acknowledgements, if known.
    limit: how many findings of each kind are named; repairing: whether to mend them.
    """

    sink: str
    store: str | None
    limit: int = LIMIT
    repairing: bool = False


def audit(settings: Settings, sink: AuditedSink, wanted: Wanted, say: Say) -> Report:
    """
    Compare *sink*, not yet opened, with the topics, mend it where that is *wanted*; report.

    say: called with a passing line.

    Raises Unreachable; UsageProblem for a store that was never filled, or where a topic is missing;
    CheckFailed when a topic was made anew meanwhile.
    """
    store = Store(sink, settings, wanted.store, say)
    try:
        store.open()
        return Audit(store, wanted, say, partial(Topics, settings, sink.fields)).run()
    finally:
        store.close()


class Audit:
    """An audit of a *store* that is open; *read* returns the topics, read to their ends of then."""

    def __init__(self, store: Store, wanted: Wanted, say: Say, read: Read) -> None:
        self._store = store
        self._wanted = wanted
        self._say = say
        self._read = read
        self._counts: Counter[str] = Counter()
        self._mended: Counter[str] = Counter()
        self._findings: list[Finding] = []
        self._notes: list[str] = []

    def run(self) -> Report:
        """Compare, and mend where that is wanted."""
        begun_s, now_ms = time.monotonic(), time.time_ns() // 1_000_000
        word = self._store.word()
        look = self._store.look()
        if word.says_nothing() and not len(look.held.items):
            text = (
                f"the store {self._wanted.sink} holds no item and no position: nothing was ever "
                "applied to it. Remedy: see that --sink is what `objections subscribe` was given."
            )
            raise UsageProblem(text)
        self._topics = self._read(_unerased(word), self._progress)
        ends = self._topics.ends
        said = promise(word, ends)
        self._say("comparing")
        first = judge(self._topics.records, look.held, said)
        items_found = len(look.held.items)
        self._note(word, said, look)
        del look  # Only suspects are looked at from here on.
        for part in _parts(repair.hashes_by_topic(first)):
            self._look_again(part)
        self._end_repair()
        return Report(
            sink=self._wanted.sink,
            store=self._wanted.store,
            audited_at=at_text(now_ms),
            items_allowed=first.allowed,
            items_found=items_found,
            counts={name_of(kind): self._counts[name_of(kind)] for kind in Kind},
            mended=dict(self._mended) if self._wanted.repairing else None,
            findings=self._findings,
            late=first.late,
            on_their_way=first.on_their_way,
            lag=[Lag(*place, behind) for place, behind in said.behind(ends).items()],
            unerased=self._past_schedule(now_ms),
            notes=self._notes,
            took_s=round(time.monotonic() - begun_s, 3),
        )

    def _progress(self, topic: str, done: int, total: int) -> None:
        self._say(f"reading {topic}: {done:,} of {total:,} ({done * 100 // max(total, 1)} %)")

    def _look_again(self, only: dict[str, Hashes]) -> None:
        """Count and name those of *only* that are still wrong, and mend them."""
        judgement, look = self._judge(only)
        if repair.is_empty(judgement):
            return
        confirmed = _counted(judgement)
        self._counts.update(confirmed)
        self._name(judgement, look)
        if not self._wanted.repairing:
            return
        for forcing in (False, True):
            self._say("repairing")
            wrong = repair.hashes_by_topic(judgement)
            if forcing:
                repair.expel(self._store, self._topics, judgement, look)
                self._topics.read_on()
            repair.apply(self._store, self._topics, wrong)
            # By all that was wrong: mending one key may have shown another.
            judgement, look = self._judge(only)
            if repair.is_empty(judgement):
                break
        self._mended.update(confirmed - _counted(judgement))

    def _judge(self, only: dict[str, Hashes]) -> tuple[Judgement, Look]:
        word = self._store.word()
        look = self._store.look(only)
        self._topics.read_on()
        said = promise(word, self._topics.ends)
        return judge(self._topics.records, look.held, said, only), look

    def _end_repair(self) -> None:
        if any(self._mended[name_of(kind)] for kind in FAILS):
            self._say("erasing")
            why = repair.erase(self._store)
            if why is not None:
                self._notes.append(why)

    def _name(self, judgement: Judgement, look: Look) -> None:
        """Put the texts of the first findings of each kind into the report."""
        named = Counter(each.kind for each in self._findings)
        for topic, verdicts in judgement.verdicts.items():
            chosen: list[Any] = []
            for kind in Kind:
                rows = verdicts[verdicts["kind"] == kind]
                room = max(0, self._wanted.limit - named[name_of(kind)])
                named[name_of(kind)] += min(room, len(rows))
                chosen.append(rows[:room])
            rows = np.concatenate(chosen)
            records = self._topics.records[topic].rows[rows["record"][rows["record"] != ABSENT]]
            changes = {
                (each.partition, each.offset): each for each in self._topics.changes(topic, records)
            }
            self._findings += [self._finding(topic, row, look, changes) for row in rows]

    def _finding(
        self, topic: str, verdict: Any, look: Look, changes: dict[tuple[int, int], Change]
    ) -> Finding:
        kind, partition, in_topic, change = Kind(int(verdict["kind"])), None, None, None
        if verdict["record"] != ABSENT:
            record = self._topics.records[topic].rows[verdict["record"]]
            partition = int(record["partition"])
            change = changes.get((partition, int(record["offset"])))
            in_topic = self._in_topic(topic, record, change)
        key, in_store = _in_store(topic, verdict, look, self._store.sink.fields)
        if partition is None:
            partition = self._partition_of(topic, key, in_store)
        if isinstance(key, bytes):
            key = f"blake2b:{key.hex()}"
        return Finding(
            kind=name_of(kind),
            topic=topic,
            partition=partition,
            key=change.key if change is not None else key or "(superseded)",
            in_topic=in_topic,
            in_store=in_store,
        )

    def _in_topic(self, topic: str, record: Any, change: Change | None) -> dict[str, Any]:
        stands = "tombstone" if record["purged"] else "record"
        if topic == TRAINING_CONTENT and not record["purged"] and self._is_locked(record):
            stands = "record of a locked account"
        found = {
            "state": stands,
            "epoch": int(record["epoch"]),
            "revision": int(record["revision"]),
            "offset": int(record["offset"]),
        }
        if topic == TRAINING_CONTENT and change is not None and change.value is not None:
            fields = self._store.sink.fields
            found |= {name: change.value.get(name) for name in fields if name != "revision"}
        return found

    def _partition_of(
        self, topic: str, key: str | bytes | None, in_store: dict[str, Any] | None
    ) -> int | None:
        """Return where records of a key that has none would lie: with all of its user's."""
        account = key if topic == TRAINING_USERS else (in_store or {}).get("account")
        if not isinstance(account, str) or self._topics.pseudonyms:
            return None
        user_id = account.partition("/")[2].encode("utf-8", "surrogatepass")
        return partition_of(user_id, len(self._topics.ends.topics[topic].offsets))

    def _is_locked(self, record: Any) -> bool:
        users = self._topics.records[TRAINING_USERS]
        row = users.find(hashes_in(np.array([record]), "account_"))[0]
        return bool(row == ABSENT or users.rows["purged"][row])

    def _note(self, word: Word, said: Promise, look: Look) -> None:
        if self._wanted.store is not None and not word.hidden:
            self._notes.append(
                f"purge-acks has no word of a store {self._wanted.store!r}: its own positions count"
            )
        if not look.held.remembers:
            self._notes.append("the store keeps no memory that could be audited")
        for topic in TOPICS:
            if topic not in said.followed:
                self._notes.append(f"the store does not follow {topic}")
            elif said.resyncing[topic].any():
                self._notes.append(
                    f"{int(said.resyncing[topic].sum())} partitions of {topic} are read from their "
                    "beginning just now: what is wrong there shows once that has ended"
                )

    def _past_schedule(self, now_ms: int) -> list[Unerased]:
        limit_ms = now_ms - 1_000 * (2 * self._store.sink.erase_every_s + ERASING_S)
        return [
            Unerased(*place, at_text(since_ms))
            for place, since_ms in sorted(self._topics.oldest_unerased_ms.items())
            if since_ms < limit_ms
        ]


def _unerased(word: Word) -> dict[Place, tuple[int, int]]:
    """Return from where to where each place is hidden and not erased."""
    return {
        place: (word.erased.get(place, 0), hidden)
        for place, hidden in word.hidden.items()
        if word.erased.get(place, 0) < hidden
    }


def _parts(hashes: dict[str, Hashes]) -> Iterator[dict[str, Hashes]]:
    """Yield the keys in parts of KEYS_MAX at most for each topic."""
    most = max(len(each.high) for each in hashes.values())
    for start in range(0, most, KEYS_MAX):
        part = slice(start, start + KEYS_MAX)
        yield {topic: Hashes(each.high[part], each.low[part]) for topic, each in hashes.items()}


def _counted(judgement: Judgement) -> Counter[str]:
    counts: Counter[str] = Counter()
    for rows in judgement.verdicts.values():
        for kind, count in zip(*np.unique(rows["kind"], return_counts=True), strict=True):
            counts[name_of(Kind(int(kind)))] += int(count)
    return counts


def _in_store(
    topic: str, verdict: Any, look: Look, fields: tuple[str, ...]
) -> tuple[str | bytes | None, dict[str, Any] | None]:
    """Return the key as the store has it, and what it holds of it."""
    if verdict["item"] != ABSENT:
        item = look.shown[verdict["item"]]
        values = dict(zip(fields, item.values, strict=True))
        return item.content_id, {"account": item.account, **values}
    if verdict["fence"] != ABSENT:
        fence = look.held.fences[topic][verdict["fence"]]
        stands = "tombstone" if fence["purged"] else "record"
        pair = {"epoch": int(fence["epoch"]), "revision": int(fence["revision"])}
        return look.keys[topic][verdict["fence"]], {"state": stands, **pair}
    return None, None
