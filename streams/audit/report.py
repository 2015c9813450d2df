"""
Reads what the report on objections is made of: `objections audit report`.

One partition after the other, so that memory holds the objections of the period in one of them.
The order is that of the data: objections first, so that no receipt is missed that was there.
"""

import time
from collections import Counter
from collections.abc import Iterator
from typing import Final

import msgspec

from streams.audit.figures import CHANNELS, UNKNOWN, Figures, Filed, Period, figures, stages
from streams.core import user as users
from streams.core.notices import country_of
from streams.core.receipts import Receipt
from streams.core.refusals import REFUSALS
from streams.core.user import NOBODY, User
from streams.errors import CheckFailed
from streams.notices.reading import Reading, Say, facts_in
from streams.settings import Settings
from streams.worker.names import ACCOUNT_AGES, DEAD_LETTERS, OBJECTIONS, RECEIPTS

READ: Final = (OBJECTIONS, ACCOUNT_AGES, RECEIPTS, DEAD_LETTERS)

Key = tuple[str, str, str]  # user_id, objection_id, action


class _Sent(msgspec.Struct):
    """What of an objection's record its facts do not tell."""

    action: str
    channel: object = None


class _First(msgspec.Struct):
    """The first record of an objection."""

    channel: str
    received_ms: int
    in_period: bool


def report(
    settings: Settings, since_ms: int, until_ms: int, overdue_after_s: float, say: Say
) -> Figures:
    """
    Return the figures of what was filed from *since_ms* to before *until_ms*.

    Raises Unreachable, and CheckFailed where a topic is missing or holds what nobody wrote.
    """
    period = Period(since_ms, until_ms, int(time.time() * 1000))
    letters: Counter[tuple[str, str]] = Counter()
    filed: list[Filed] = []
    with Reading(settings, READ, say) as reading:
        for number in range(reading.partitions_n):
            filed += _filed(reading, settings, number, period)
            letters.update(_letters(reading, settings, number, period))
    return figures(period, filed, letters, overdue_after_s)


def _filed(reading: Reading, settings: Settings, number: int, period: Period) -> Iterator[Filed]:
    sent = {key: each for key, each in _sent(reading, number, period).items() if each.in_period}
    if not sent:
        return
    countries = _countries(reading, number, {user_id for user_id, _, _ in sent})
    name_of = settings.subjects().of
    wanted = {(name_of(each[0]), each[1], each[2]): each for each in sent}
    receipts = _receipts(reading, number, wanted)
    hide_only = frozenset(each.name for each in settings.stores if each.group)
    for key, first in sent.items():
        user_id, objection_id, action = key
        yield Filed(
            objection_id,
            action,
            first.channel,
            countries.get(user_id) or UNKNOWN,
            first.received_ms,
            receipts.get(key),
            hide_only,
        )


def _sent(reading: Reading, number: int, period: Period) -> dict[Key, _First]:
    """Return the first record of each objection and withdrawal up to the end of the period."""
    found: dict[Key, _First] = {}
    for message in reading.records(OBJECTIONS, number):
        at_ms, facts = message.timestamp()[1], facts_in(OBJECTIONS, message)
        if at_ms >= period.until_ms or facts is None or facts.cause_id is None:
            continue
        sent = msgspec.json.decode(message.value() or b"", type=_Sent)
        key = facts.user_id, facts.cause_id, sent.action
        if key not in found:
            channel = sent.channel if sent.channel in CHANNELS else UNKNOWN
            found[key] = _First(str(channel), at_ms, at_ms >= period.since_ms)
    return found


def _countries(reading: Reading, number: int, user_ids: set[str]) -> dict[str, str]:
    known: dict[str, User] = {}
    for message in reading.records(ACCOUNT_AGES, number):
        facts = facts_in(ACCOUNT_AGES, message)
        if facts is not None and facts.user_id in user_ids:
            known[facts.user_id] = users.merge(known.get(facts.user_id, NOBODY), facts.facts)
    return {user_id: country_of(user) for user_id, user in known.items()}


def _receipts(reading: Reading, number: int, wanted: dict[Key, Key]) -> dict[Key, Receipt]:
    found: dict[Key, Receipt] = {}
    for message in reading.records(RECEIPTS, number):
        try:
            receipt = msgspec.json.decode(message.value() or b"", type=Receipt)
            key = wanted.get((receipt.user_id, receipt.objection_id, receipt.action))
            if key is not None:
                stages(Filed("", "", "", "", 0, receipt))  # its times can be read
                found[key] = receipt
        except (*REFUSALS, ValueError, TypeError, OverflowError) as error:
            place = f"{message.topic()}/{message.partition()}/{message.offset()}"
            raise CheckFailed(
                f"{place} is no receipt of a worker ({type(error).__name__}). Remedy: find out who "
                "else writes to this topic."
            ) from error
    return found


def _letters(
    reading: Reading, settings: Settings, number: int, period: Period
) -> Iterator[tuple[str, str]]:
    """Yield topic and code of each dead letter of the period."""
    for message in reading.records(DEAD_LETTERS, number):
        if period.since_ms <= message.timestamp()[1] < period.until_ms:
            headers = dict(message.headers() or ())
            topic, code = (_text(headers.get(name)) for name in ("dlq_topic", "dlq_error"))
            yield topic.removeprefix(settings.topic_prefix), code


def _text(value: str | bytes | None) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value or UNKNOWN
