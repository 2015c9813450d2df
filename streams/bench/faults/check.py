"""
The one check at the end of a run, from the committed logs alone.  Pure.

- What stands last of each key is what the pure core computes from the inputs; each bad record has
  its dead letter.
- (epoch, revision) never fell within a key.
- Nothing was allowed, above all not after its tombstone, without a decision that allows it.
- Nothing was committed twice.
- What had been objected to when there was no worker was not allowed by those that came then.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Final, NamedTuple

import msgspec

from streams import proof
from streams.core.policy import Policy
from streams.core.reasons import PRODUCTS
from streams.core.times import NEVER_MS
from streams.proof import INPUTS, OUTPUTS, Record
from streams.proof.truth import TELLS
from streams.state.rows import decode_tell

GRANTS: Final = ("training-users", "training-content")

Logs = Mapping[str, Sequence[Record]]  # by the topic's name in the contract, in order of offsets


class Violation(NamedTuple):
    """
    A promise that was broken.

    rule: a word.  place: "topic/partition/offset", "" where the record that should be is missing.
    """

    rule: str
    place: str
    key: str
    what: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.place or '(nowhere)'} key {self.key!r}: {self.what}"


def violations(
    inputs: Logs, outputs: Logs, now_ms: int, starts_ms: Sequence[int] = ()
) -> list[Violation]:
    """
    Return all that is wrong at *now_ms*, when everything has been processed.

    inputs: all of them.  outputs: the three and `dead-letters`.
    starts_ms: when workers were started after there had been none, rising.
    """
    return [
        *_untrue(inputs, outputs, now_ms),
        *_disordered(outputs),
        *_undecided(outputs),
        *twice(inputs, outputs),
        *_premature(inputs, outputs, starts_ms),
    ]


def _untrue(inputs: Logs, outputs: Logs, now_ms: int) -> Iterator[Violation]:
    truth = proof.expected(inputs, Policy(), now_ms)
    last = {name: proof.compacted(outputs[name]) for name in OUTPUTS}
    for line in proof.differences(truth, *(last[name] for name in OUTPUTS)):
        topic, _, key = line.partition(": ")[0].partition(" ")
        record = last.get(topic, {}).get(key)
        yield Violation("truth", "" if record is None else record.place, key, line)
    for line in proof.dead_letter_differences(truth, outputs["dead-letters"]):
        place = line.removeprefix("dead letter of ").partition(":")[0]
        bad = truth.bad.get(place)
        yield Violation("dead-letter", place, "" if bad is None else bad.record.key_text, line)


def _disordered(outputs: Logs) -> Iterator[Violation]:
    for line in proof.log_violations(chain(*(outputs[name] for name in OUTPUTS))):
        place, _, rest = line.partition(" (")
        key, _, what = rest.partition("): ")
        yield Violation("order", place, key, what)


def _undecided(outputs: Logs) -> Iterator[Violation]:
    """Yield what was allowed in an epoch whose decision, if there was any, forbids it."""
    decisions = {
        (each.key_text, _epoch(each)): _value(each)["products"] for each in outputs["eligibility"]
    }
    purged: dict[tuple[str, str], Record] = {}
    for record in chain(*(outputs[name] for name in GRANTS)):
        name = record.topic, record.key_text
        if record.value is None:
            purged[name] = record
            continue
        value = _value(record)
        reasons = decisions.get((value["user_id"], _epoch(record)))
        if reasons is not None and reasons.get(value["product"]) == []:
            continue
        found = "there is no such decision" if reasons is None else f"it says {reasons}"
        after = f" after its tombstone {purged[name].place}" if name in purged else ""
        yield Violation(
            "allowed",
            record.place,
            record.key_text,
            f"allowed{after} by epoch {_epoch(record)} of {value['user_id']}: {found}",
        )


def twice(inputs: Logs, outputs: Logs) -> Iterator[Violation]:
    """
    Yield what was committed twice.

    A decision is published again for a record that changes nothing by itself (a withdrawal read
    while grants are held), so of eligibility only the same answer to the same record counts: as
    often as the user has records of that time stamp.
    """
    records = Counter(
        (each.key_text, b"%d" % _received_ms(name, each))
        for name in INPUTS
        for each in inputs.get(name, ())
    )
    seen: dict[tuple[object, ...], list[str]] = {}
    for record in chain(*(outputs[name] for name in OUTPUTS)):
        event = record.topic, record.key_text, record.header("ce_id")
        allowed = 1
        identity: tuple[object, ...] = event
        if record.topic.endswith("eligibility"):
            answered = record.header("objections_received_at") or b""
            identity = *event, answered
            allowed = max(records[record.key_text, answered], 1)
        places = seen.setdefault(identity, [])
        if len(places) >= allowed:
            ce_id = (event[2] or b"").decode(errors="replace")
            what = f"{ce_id} was committed before in {', '.join(places)}"
            yield Violation("twice", record.place, record.key_text, what)
        places.append(record.place)


def _received_ms(name: str, record: Record) -> int:
    """Return the time stamp that decisions on an input *record* name as its own."""
    if name == TELLS:
        return decode_tell(record.key or b"", record.value or b"")[1].since_ms
    return record.timestamp_ms


class _Objection:
    """What the records of one objection id say together."""

    def __init__(self) -> None:
        self.filed: dict[str, Record] = {}  # by product: the first record that covers it
        self.withdrawn_ms = NEVER_MS


def _premature(inputs: Logs, outputs: Logs, starts_ms: Sequence[int]) -> Iterator[Violation]:
    """Yield what was allowed after a start though an objection from before it stood."""
    if not starts_ms:
        return
    objections = _objections(inputs["objections"])
    for record in chain(*(outputs[name] for name in GRANTS)):
        started = bisect_right(starts_ms, record.timestamp_ms)
        if record.value is None or not started:
            continue
        value = _value(record)
        for objection_id, objection in objections.get(value["user_id"], {}).items():
            filed = objection.filed.get(value["product"])
            if (
                filed is not None
                and filed.timestamp_ms < starts_ms[started - 1]
                and objection.withdrawn_ms > record.timestamp_ms
            ):
                yield Violation(
                    "premature",
                    record.place,
                    record.key_text,
                    f"allowed though {objection_id} had stood in {filed.place} since "
                    f"{starts_ms[started - 1] - filed.timestamp_ms} ms before there was a worker",
                )


def _objections(records: Iterable[Record]) -> dict[str, dict[str, _Objection]]:
    found: dict[str, dict[str, _Objection]] = {}
    for record in records:
        try:
            value = msgspec.json.decode(record.value or b"null")
            user_id, objection_id = value["user_id"], value["objection_id"]
        except (msgspec.DecodeError, TypeError, KeyError):
            continue  # a bad record: the truth has it
        objection = found.setdefault(user_id, {}).setdefault(objection_id, _Objection())
        if value["action"] == "withdrawn":
            objection.withdrawn_ms = min(objection.withdrawn_ms, record.timestamp_ms)
        for product in value.get("products") or PRODUCTS:
            if value["action"] == "filed":
                objection.filed.setdefault(product, record)
    return found


def _epoch(record: Record) -> int:
    text = record.header("objections_epoch") or b""
    return int(text) if text.isdigit() else -1


def _value(record: Record) -> dict[str, Any]:
    """Return the value of an output; the order's rule tells where it is none."""
    nothing: dict[str, Any] = {"user_id": "", "product": PRODUCTS[0], "products": {}}
    try:
        value = msgspec.json.decode(record.value or b"null")
    except msgspec.DecodeError:
        return nothing
    return nothing | value if isinstance(value, dict) else nothing
