"""
The service's job as a Faust app, written the way Faust's documentation shows it.

Models, tables on RocksDB, an agent per topic; facts, decisions and outputs are made by the same
pure core as ours, so that what differs is the streaming.  It does less than ours, in Faust's
favour: no transactions, no dead letters, no timers, no checks.  Started by `objections bench`, or:
    PEER_BOOTSTRAP=127.0.0.1:9092 PEER_PREFIX=peer. PEER_PARTITIONS=4 faust -A faust_app worker
"""

import asyncio
import os
import time
from collections.abc import Callable
from typing import Any

import faust
import msgspec

from streams.core import decode
from streams.core import item as items
from streams.core import user as users
from streams.core.changes import Origin, UserRow
from streams.core.item import Item
from streams.core.outputs import Output, Writer
from streams.core.policy import Policy
from streams.core.reasons import PRODUCTS
from streams.core.user import NOBODY, User
from streams.core.verdict import decide, item_reasons

PREFIX = os.environ["PEER_PREFIX"]
POLICY = Policy()
Event = Any  # faust.EventT; its value is typed as bytes or a model of any kind
Decode = Callable[[bytes | None, bytes | None, int], decode.UserFacts]

app = faust.App(
    f"{PREFIX}peer",
    broker=f"kafka://{os.environ['PEER_BOOTSTRAP']}",
    store="rocksdb://",
    topic_partitions=int(os.environ["PEER_PARTITIONS"]),
    topic_replication_factor=1,
    topic_disable_leader=True,
    web_enabled=False,
)


class Objection(faust.Record):  # of these models the fields this app itself reads
    user_id: str
    objection_id: str


class AccountAge(faust.Record):
    user_id: str


class Notice(faust.Record):
    user_id: str
    notice_id: str


class Content(faust.Record):
    user_id: str
    content_id: str


objections = app.topic(f"{PREFIX}objections", value_type=Objection)
account_ages = app.topic(f"{PREFIX}account-ages", value_type=AccountAge)
notices = app.topic(f"{PREFIX}notices", value_type=Notice)
contents = app.topic(f"{PREFIX}content", value_type=Content)
outputs = {  # Raw: in Faust's JSON a tombstone would be the text "null".
    name: app.topic(f"{PREFIX}{name}", key_serializer="raw", value_serializer="raw")
    for name in ("eligibility", "training-users", "training-content")
}

rows = app.Table("rows", key_type=str, value_type=bytes)  # facts and decision by user_id
known_items = app.Table("items", key_type=str, value_type=bytes)  # by content_id
items_of = app.SetTable("items-of")  # content_ids by user_id

one_at_a_time = asyncio.Lock()  # the agents share users: no event may see another half done


@app.agent(objections)
async def on_objection(stream: faust.StreamT[Objection]) -> None:
    """Learn of objections."""
    async for event in stream.events():
        await learn(event, decode.decode_objection, event.value.objection_id)


@app.agent(account_ages)
async def on_account_age(stream: faust.StreamT[AccountAge]) -> None:
    """Learn of ages, countries and deleted accounts."""
    async for event in stream.events():
        await learn(event, decode.decode_account_age, None)


@app.agent(notices)
async def on_notice(stream: faust.StreamT[Notice]) -> None:
    """Learn of notices."""
    async for event in stream.events():
        await learn(event, decode.decode_notice, event.value.notice_id)


@app.agent(contents)
async def on_content(stream: faust.StreamT[Content]) -> None:
    """Answer content."""
    async for event in stream.events():
        async with one_at_a_time:
            for output in answers(event):
                await publish(event, output)


async def learn(event: Event, read: Decode, cause_id: str | None) -> None:
    """Merge a record into its user, decide, and publish the decision and what follows from it."""
    async with one_at_a_time:
        message, origin = event.message, origin_of(event, cause_id)
        told = read(message.key, message.value, origin.received_ms)
        user_id, before = told.user_id, row_of(told.user_id)
        row = decided(before, told.facts, origin)
        rows[user_id] = msgspec.msgpack.encode(row)
        await publish(event, writer_now().eligibility(user_id, row, origin))
        for index, name in enumerate(PRODUCTS):
            stood = before is not None and before.decision.reasons[index] == 0
            if (allowed := row.decision.reasons[index] == 0) != stood:
                grant = writer_now().training_user
                await publish(event, grant(user_id, name, row.epoch, origin, allowed=allowed))
        if before is None or row.decision == before.decision:
            return
        for content_id in items_of[user_id]:
            item = msgspec.msgpack.decode(known_items[content_id], type=Item)
            if allows(origin, item, row) != allows(origin, item, before):
                await publish(event, item_output(user_id, content_id, item, row, origin))


def answers(event: Event) -> list[Output]:
    """Store an item; return its answer, behind the first decision on a user never seen."""
    message, origin = event.message, origin_of(event, event.value.content_id)
    told = decode.decode_content(message.key, message.value, origin.received_ms, message.offset)
    user_id, content_id, item = told.user_id, told.content_id, told.facts
    found, row = list[Output](), row_of(user_id)
    if row is None:
        row = decided(None, NOBODY, origin)
        rows[user_id] = msgspec.msgpack.encode(row)
        found.append(writer_now().eligibility(user_id, row, origin))
    known = known_items.get(content_id)
    if known is not None:
        item = items.merge(msgspec.msgpack.decode(known, type=Item), item)
    elif item.private_message:
        return found
    else:
        items_of[user_id].add(content_id)
    known_items[content_id] = msgspec.msgpack.encode(item)
    return [*found, item_output(user_id, content_id, item, row, origin)]


def decided(before: UserRow | None, facts: User, origin: Origin) -> UserRow:
    """Return a user's row after *facts*; its epoch grows when the decision changes."""
    user = facts if before is None else users.merge(before.user, facts)
    now_ms = int(time.time() * 1000)
    decision, next_ms = decide(user, POLICY, now_ms)
    if before is not None and decision == before.decision:
        return msgspec.structs.replace(before, user=user, next_change_ms=next_ms)
    epoch = 1 if before is None else before.epoch + 1
    return UserRow(user, epoch, decision, next_ms, POLICY.version, now_ms, origin.cause)


def row_of(user_id: str) -> UserRow | None:
    """Return what is stored of a user."""
    found = rows.get(user_id)
    return None if found is None else msgspec.msgpack.decode(found, type=UserRow)


def allows(origin: Origin, item: Item, row: UserRow) -> bool:
    """Whether nothing stands against using *item*."""
    dead_letters = f"{PREFIX}content/{origin.partition}/"
    return item_reasons(item, row.user, row.decision, dead_letters) == 0


def item_output(user_id: str, content_id: str, item: Item, row: UserRow, origin: Origin) -> Output:
    """Return the record, or the tombstone, of an item."""
    if allows(origin, item, row):
        return writer_now().content_allowed(user_id, content_id, item, None, row.epoch, origin)
    return writer_now().content_purged(user_id, content_id, item.revision, row.epoch, origin)


async def publish(event: Event, output: Output) -> None:
    """Send to the partition number the event came from."""
    to, number = outputs[output.topic], event.message.partition
    texts = ((name, each) for name, each in output.headers if each is not None)
    headers = [(name, each.encode() if isinstance(each, str) else each) for name, each in texts]
    await to.send(key=output.key, value=output.value, headers=headers, partition=number)


def origin_of(event: Event, cause_id: str | None) -> Origin:
    """Return where an event came from, with its broker time stamp."""
    place, received_ms = event.message, int(event.message.timestamp * 1000)
    return Origin(place.topic, place.partition, place.offset, received_ms, cause_id)


def writer_now() -> Writer:
    """Return a writer of outputs of this instant."""
    return Writer("/peer", int(time.time() * 1000), POLICY)
