"""
What the topics of one partition hold of one user, collected record by record.

Pure: records in, facts kept.  Of items only what judging them takes is kept, so that an account
with a hundred thousand of them fits; of other users nothing is.  The state's changelogs have to be
offered before the inputs: whether the state knows what a `content` record says is looked at here.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec
from msgspec.structs import replace

from streams.core.changes import UserRow
from streams.core.decode import (
    USER_DECODERS,
    decode_content,
    resolved_by,
    restriction,
)
from streams.core.fanout import Job
from streams.core.item import DEAD_LETTERS_MAX, Item
from streams.core.outputs import Eligibility
from streams.core.refusals import REFUSALS
from streams.core.subjects import PLAIN, Subjects
from streams.core.tells import facts_of
from streams.core.trace_context import trace_context
from streams.core.user import NOBODY, User, is_resolved, merge
from streams.errors import BadRecord
from streams.explain.passage import PURGE_ACKS, RECEIPTS, Outputs, Passage, whole
from streams.proof.records import Record
from streams.state import rows
from streams.worker.names import (
    ACCOUNT_AGES,
    ACCOUNT_LINKS,
    CONTENT,
    DEAD_LETTERS,
    OBJECTIONS,
    TELLS,
    WITH_LINKS,
)

USERS_CHANGELOG: Final = "objections-users-changelog"
CONTENT_CHANGELOG: Final = "objections-content-changelog"
POLICY_ROW: Final = rows.position_key("policy")

LACKING_MAX: Final = 1_000  # records kept of which the state seems to know nothing

_BAD_RESTRICTS_USER: Final = (OBJECTIONS, ACCOUNT_AGES, ACCOUNT_LINKS)
_KEPT_VALUE: Final = b"\t"  # stands for an item's value, of which only matters that there is one

_eligibility: Final = msgspec.json.Decoder(Eligibility)


class Stated(NamedTuple):
    """
    One input record about the user; *facts* are what it adds to what is known of them.

    error: why it is a bad one, "" for a good one.  content_id, item: of a `content` record.
    trace_id: of the `traceparent` it carries.
    """

    topic: str
    place: str
    offset: int
    received_ms: int
    facts: User
    cause_id: str | None = None
    error: str = ""
    content_id: str | None = None
    item: Item | None = None
    trace_id: str | None = None


class Said(NamedTuple):
    """
    A decision as `eligibility` says it; *repeated*: the records of it that follow the first.

    outputs: all that it caused.
    """

    place: str
    published_ms: int
    value: Eligibility
    outputs: Outputs
    repeated: int = 0
    last_place: str = ""


class Published(NamedTuple):
    """The last record of a key of `training-users` or `training-content`."""

    offset: int
    epoch: int
    revision: int
    stands: bool


class Evidence:
    """
    All that is known of *user_id*, whose partition is *number*.

    topic_prefix: before every topic's name.  content_id: an item whose records are all kept.
    subjects: how state and outputs name users.
    """

    def __init__(
        self,
        user_id: str,
        number: int,
        topic_prefix: str,
        content_id: str | None = None,
        subjects: Subjects = PLAIN,
    ) -> None:
        self.user_id = user_id
        self.number = number
        self.content_id = content_id
        self.row: UserRow | None = None
        self.job: Job | None = None
        self.items: dict[str, Item] = {}
        self.folded: dict[str, int] = {}  # next offset of each input, by the state
        self.committed: dict[str, int] = {}  # and by the group
        self.ends: dict[str, int] = {}
        self.decided_by: tuple[int, str] | None = None  # version and digest of the policy
        self.breaker_tripped = False  # grants of the partition are held until they are released
        self.stated: list[Stated] = []
        self.dead_letters: dict[str, str] = {}  # why, by the place of the bad record
        self.decisions: list[Said] = []
        self.garbled: list[str] = []  # records of `eligibility` that hold no decision
        self.permissions: dict[str, Published] = {}
        self.answers: dict[str, Published] = {}
        self.item_answers: list[tuple[Outputs, Published]] = []  # of *content_id*
        self.item_stated: list[Stated] = []
        self.causing: list[Stated] = []  # `content` records that caused a decision
        self.unreadable_content: list[Stated] = []
        self.content_records = 0
        self.content_offsets_unfolded: list[int] = []
        self.lacking: list[Stated] = []
        self.name = subjects.of(user_id)  # in state and outputs
        self.passage = Passage(topic_prefix, number, self.name)
        self._subjects = subjects
        self._named_by = ""
        self._input_key = user_id.encode()
        self._key = self.name.encode()
        self._topic_prefix = topic_prefix
        self._items_prefix = rows.items_prefix(self.name)
        self._causes: set[tuple[str, int]] = set()

    def read_to(self, topic: str) -> int:
        """Return how far an input has been read, by the state's word or the group's."""
        return max(self.folded.get(topic, 0), self.committed.get(topic, 0))

    @property
    def dead_letter_prefix(self) -> str:
        """What the places of this partition of `content` begin with."""
        return f"{self.place(CONTENT)}/"

    def place(self, topic: str, offset: int | None = None) -> str:
        """Return "topic/partition" of *topic* (as in the contract), or the place of a record."""
        base = f"{self._topic_prefix}{topic}/{self.number}"
        return base if offset is None else f"{base}/{offset}"

    @property
    def known(self) -> bool:
        """Whether any record of the user was found."""
        return bool(
            self.row or self.stated or self.decisions or self.content_records or self.permissions
        )

    def wants(self, topic: str, key: bytes | None) -> bool:
        """Whether a record of *topic* with *key* may be about the user: a quick look ahead."""
        if key is None:
            return False
        if topic == USERS_CHANGELOG:
            return key[1:] == self._key or key[:1] == rows.POSITION
        if topic == CONTENT_CHANGELOG:
            return key.startswith(self._items_prefix) or key[:1] == rows.POSITION
        if topic == "training-users":
            return key.partition(b"/")[2] == self._key
        if topic in ("eligibility", TELLS):
            return key == self._key
        if topic in (RECEIPTS, PURGE_ACKS):
            return self.passage.wants(topic, key)
        return topic == "training-content" or key == self._input_key

    def check_naming(self) -> None:
        """Raise UsageProblem where the state, as far as there is one, names users otherwise."""
        if self.folded or self._named_by:
            self._subjects.check(self._named_by, self.place(USERS_CHANGELOG))

    def take(self, topic: str, record: Record) -> None:
        """Keep what *record* of *topic* (as in the contract), one that it `wants`, says."""
        if topic == USERS_CHANGELOG:
            self._take_user_row(record.key or b"", record.value)
        elif topic == CONTENT_CHANGELOG:
            self._take_item_row(record.key or b"", record.value)
        elif topic in WITH_LINKS.users:
            said = _told(record) if topic == TELLS else state(topic, record)
            self.stated.append(_renamed(said, self._subjects))
        elif topic == CONTENT:
            self._take_content(state(topic, record))
        elif topic == "eligibility":
            self._take_decision(record)
        elif topic == "training-users":
            self.permissions[record.key_text.partition("/")[0]] = _published(record)
            self.passage.output(topic, record)
        elif topic == "training-content":
            self._take_answer(record)
        elif topic == RECEIPTS:
            self.passage.receipt(record)
        elif topic == PURGE_ACKS:
            self.passage.ack(record)
        else:
            assert topic == DEAD_LETTERS, topic
            self._take_dead_letter(record)

    def content_unfolded(self) -> Iterator[int]:
        """Yield the offsets of the user's `content` records that are not decided yet."""
        read_to = self.read_to(CONTENT)
        return (offset for offset in self.content_offsets_unfolded if offset >= read_to)

    def _take_user_row(self, key: bytes, value: bytes | None) -> None:
        if key == POLICY_ROW:
            if value is not None:
                found = msgspec.json.decode(rows.decode_text(value), type=dict[str, str | int])
                self.decided_by = (int(found["version"]), str(found["digest"]))
        elif key == rows.BREAKER_KEY:
            self.breaker_tripped = value is not None and rows.decode_breaker(value).tripped
        elif key == rows.SUBJECTS_KEY:
            self._named_by = "" if value is None else rows.decode_text(value)
        elif key[:1] == rows.POSITION:
            self._take_position(key, value)
        elif key[:1] == rows.USER:
            self.row = None if value is None else rows.decode_user(value)
        elif key[:1] == rows.JOB:
            self.job = None if value is None else rows.decode_job(value)

    def _take_position(self, key: bytes, value: bytes | None) -> None:
        topic = key[1:].decode()
        if value is not None and topic in WITH_LINKS.all:
            self.folded[topic] = rows.decode_number(value)

    def _take_item_row(self, key: bytes, value: bytes | None) -> None:
        if key[:1] == rows.POSITION:
            self._take_position(key, value)
            return
        content_id = key[len(self._items_prefix) :].decode()
        if value is None:
            self.items.pop(content_id, None)
            return
        item = rows.decode_item(value)
        self.items[content_id] = replace(item, value=_KEPT_VALUE) if item.value else item

    def _take_content(self, said: Stated) -> None:
        self.content_records += 1
        if said.offset >= self.read_to(CONTENT):
            self.content_offsets_unfolded.append(said.offset)
        if said.content_id is not None and said.content_id == self.content_id:
            self.item_stated.append(said)
        if said.error:
            self.unreadable_content.append(said)
        if (CONTENT, said.offset) in self._causes:
            self.causing.append(said)
        if len(self.lacking) < LACKING_MAX and self.is_lacking(said):
            self.lacking.append(said)

    def is_lacking(self, said: Stated) -> bool:
        """Whether the state of an item does not hold what a `content` record says of it."""
        if said.content_id is None or self.row is None or self.row.user.deleted:
            return False
        item, news = self.items.get(said.content_id), said.item
        if news is None:  # a bad one
            if item is None:
                return True
            kept = item.dead_letters
            forgotten = len(kept) >= DEAD_LETTERS_MAX and said.offset < kept[0]
            return not (
                is_resolved(self.row.user, said.place)
                or said.offset in kept
                or forgotten
                or item.readable_offset > said.offset
            )
        if item is None:
            return not news.private_message
        return (
            news.revision > item.revision
            or news.created_ms < item.created_ms
            or (news.deleted and not item.deleted)
        )

    def _take_decision(self, record: Record) -> None:
        try:
            value = _eligibility.decode(record.value or b"")
        except REFUSALS:
            self.garbled.append(record.place)
            return
        place, last = record.place, self.decisions[-1] if self.decisions else None
        topic = value.cause.topic.removeprefix(self._topic_prefix)
        self._causes.add((topic, value.cause.offset))
        if last is not None and last.value == value:
            again = last._replace(repeated=last.repeated + 1, last_place=place)
            self.decisions[-1] = again
            return
        outputs = self.passage.decision(record)
        self.decisions.append(Said(place, record.timestamp_ms, value, outputs, 0, place))

    def _take_dead_letter(self, letter: Record) -> None:
        names = ("dlq_topic", "dlq_partition", "dlq_offset", "dlq_error", "dlq_detail")
        texts = [(letter.header(name) or b"?").decode(errors="replace") for name in names]
        self.dead_letters["/".join(texts[:3])] = ": ".join(texts[3:])

    def _take_answer(self, record: Record) -> None:
        if record.header("ce_subject") != self._key:
            return
        found, content_id = _published(record), record.key_text
        self.answers[content_id] = found
        self.passage.output("training-content", record)
        if content_id == self.content_id:
            outputs = Outputs(record)
            outputs.add("training-content", record)
            self.item_answers.append((outputs, found))


def state(topic: str, record: Record) -> Stated:
    """Return what an input *record* of *topic* (as in the contract) says."""
    trace = trace_context(record.header("traceparent"))
    said = _state(topic, record)
    return said if trace is None else said._replace(trace_id=f"{trace.trace_id:032x}")


def _state(topic: str, record: Record) -> Stated:
    key, value, received_ms = record.key, record.value, record.timestamp_ms
    place, offset = record.place, record.offset
    resolves = resolved_by(record.headers)
    facts = NOBODY if resolves is None else User(resolved=(resolves,))
    try:
        if topic == CONTENT:
            found = decode_content(key, value, received_ms, offset)
            item, content_id = replace(found.facts, value=_KEPT_VALUE), found.content_id
            return Stated(
                topic, place, offset, received_ms, facts, content_id, "", content_id, item
            )
        said = USER_DECODERS[topic](key, value, received_ms)
    except BadRecord as bad:
        facts = User(dead_letters=(place,)) if topic in _BAD_RESTRICTS_USER else NOBODY
        restricted = restriction(topic, key, value).content_id
        return Stated(topic, place, offset, received_ms, facts, None, str(bad), restricted)
    facts = merge(said.facts, facts)
    return Stated(topic, place, offset, received_ms, facts, said.cause_id)


def _told(record: Record) -> Stated:
    """Return what the owner of a linked account has told."""
    _, tell = rows.decode_tell(record.key or b"", record.value or b"")
    return Stated(TELLS, record.place, record.offset, record.timestamp_ms, facts_of(tell))


def _renamed(said: Stated, subjects: Subjects) -> Stated:
    """Return *said* with linked accounts as state and outputs name them."""
    if not said.facts.links or said.topic == TELLS:
        return said
    links = {subjects.of(other): link for other, link in said.facts.links.items()}
    return said._replace(facts=replace(said.facts, links=links))


def _published(record: Record) -> Published:
    epoch, revision = whole(record, "objections_epoch"), whole(record, "objections_revision")
    return Published(record.offset, epoch, revision, record.value is not None)
