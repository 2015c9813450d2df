"""
State as bytes: keys and values of the changelogs and of the local store, which are the same.

A key's first byte says what its row is.  A value's first byte is the version of its encoding:
rows of all versions up to ours are read, ours is written, and a newer worker's row is refused,
never guessed at.  **Whoever adds a field to a row raises its version**, also for a field with a
default: an older worker would skip the field, write the row back without it, and a fact were lost.
Fields of `UserRow`, `Job` and what is in them are appended, with a default that means what rows
without them meant; so their older versions need no code.
"""

import struct
from collections.abc import Callable
from functools import wraps
from typing import Final, ParamSpec, TypeVar

import msgspec

from streams.core.breaker import State
from streams.core.changes import UserRow
from streams.core.fanout import Job
from streams.core.item import Item
from streams.core.links import Tell
from streams.core.receipts import Action, ReceiptRow
from streams.core.refusals import REFUSALS
from streams.errors import Halt

USER: Final = b"u"  # user_id -> UserRow
JOB: Final = b"j"  # user_id -> Job
DEAD_LETTER: Final = b"d"  # user_id, offset of a bad `content` record -> its content_id
POSITION: Final = b"p"  # an input topic -> the next offset to read
ITEM: Final = b"i"  # user_id, content_id -> Item
RECEIPT: Final = b"r"  # user_id, objection_id, action -> ReceiptRow
# Of the local store alone, as they follow from other rows:
TIMER: Final = b"t"  # an instant, user_id -> nothing
LETTERS: Final = b"l"  # user_id of whom a dead letter is known, open or not -> nothing
META: Final = b"m"  # about the store itself
RECEIPT_NUMBER: Final = b"n"  # a receipt's number -> the key of its row
RECEIPT_OPEN: Final = b"o"  # the key of the row of a receipt not yet published -> nothing

# The versions we write, and the highest we read.  tests/test_released.py says which to raise.
# 2: seeded; 3: dismissed, of a user; 4: reincluded, ages_missing; 5: links, inherited, filed_ms
USER_VERSION: Final = 5
JOB_VERSION: Final = 1
ITEM_VERSION: Final = 1
RECEIPT_VERSION: Final = 1
PLAIN_VERSION: Final = 1  # of numbers and texts
TELL_VERSION: Final = 1  # of what owners tell each other, which is no row of the state

VERSIONS: Final = {
    USER: USER_VERSION,
    JOB: JOB_VERSION,
    ITEM: ITEM_VERSION,
    RECEIPT: RECEIPT_VERSION,
    DEAD_LETTER: PLAIN_VERSION,
    POSITION: PLAIN_VERSION,
}
_NAMES: Final = {
    USER: "a user's row",
    JOB: "the row of a fan-out",
    ITEM: "an item's row",
    RECEIPT: "the row of a receipt",
    DEAD_LETTER: "the row of an unreadable item",
    POSITION: "the row of a position",
}
_TELL: Final = "what another partition's owner has told"

_LENGTH: Final = struct.Struct(">H")
_OFFSET: Final = struct.Struct(">Q")
Row = tuple[bytes, bytes | None]  # key and value; None deletes

_USER_HEAD: Final = struct.Struct(">Bq")  # version, next_change_ms
# version, revision, created_ms, readable_offset, visibility, product, kind, flags, dead letters
_ITEM_HEAD: Final = struct.Struct(">BqqqBBBBI")
_DELETED: Final = 1
_PRIVATE_MESSAGE: Final = 2

_encode: Final = msgspec.msgpack.Encoder().encode
_user_decoder: Final = msgspec.msgpack.Decoder(UserRow)
_job_decoder: Final = msgspec.msgpack.Decoder(Job)
_receipt_decoder: Final = msgspec.msgpack.Decoder(ReceiptRow)
_tell_decoder: Final = msgspec.msgpack.Decoder(Tell)
_ACTIONS: Final[dict[Action, bytes]] = {"filed": b"f", "withdrawn": b"w"}


class NewerRow(Halt):
    """A row that a newer version of this program has written."""


class UnreadableRow(Halt):
    """A row that no version of this program has written."""


Arguments = ParamSpec("Arguments")
Read = TypeVar("Read")


_DAMAGES: Final = (struct.error, IndexError, *REFUSALS)


def _unreadable(what: str, error: Exception) -> UnreadableRow:
    return UnreadableRow(
        f"{what} in the state is damaged ({type(error).__name__}: {error}), expected what a worker "
        "has written. Remedy: remove the folder of its partition under OBJECTIONS_STATE_DIR, so "
        "that it is read anew from the changelog; if that holds it too, find out who else writes "
        "there"
    )


def _refusing(what: str) -> Callable[[Callable[Arguments, Read]], Callable[Arguments, Read]]:
    """Return a decorator that lets a reader of *what* raise `UnreadableRow` for damaged bytes."""

    def decorate(read: Callable[Arguments, Read]) -> Callable[Arguments, Read]:
        @wraps(read)
        def refusing(*arguments: Arguments.args, **named: Arguments.kwargs) -> Read:
            try:
                return read(*arguments, **named)
            except _DAMAGES as error:
                raise _unreadable(what, error) from error

        return refusing

    return decorate


def check(key: bytes, value: bytes) -> None:
    """Raise `NewerRow` if the row is one of a version that we do not read."""
    kind = key[:1]
    if kind in VERSIONS:
        _check(value, VERSIONS[kind], _NAMES[kind])


def user_key(user_id: str) -> bytes:
    """Return the key of a user's row."""
    return USER + user_id.encode()


def job_key(user_id: str) -> bytes:
    """Return the key of the row of a user's fan-out."""
    return JOB + user_id.encode()


@_refusing("the key of a row")
def user_of(key: bytes) -> str:
    """Return the user_id in the key of a row that has nothing else in it."""
    return key[1:].decode()


def items_prefix(user_id: str) -> bytes:
    """Return what the keys of all items of *user_id*, and no others, begin with."""
    user = user_id.encode()
    return ITEM + _LENGTH.pack(len(user)) + user


def item_key(user_id: str, content_id: str) -> bytes:
    """Return the key of an item's row."""
    return items_prefix(user_id) + content_id.encode()


def dead_letter_key(user_id: str, offset: int) -> bytes:
    """Return the key of the row that finds an item by its unreadable record."""
    return dead_letters_prefix(user_id) + _OFFSET.pack(offset)


@_refusing("the key of an unreadable item")
def dead_letter_of(key: bytes) -> tuple[str, int]:
    """Return the user_id and offset in the key of a dead letter's row."""
    return key[3:-8].decode(), _OFFSET.unpack_from(key, len(key) - 8)[0]


def dead_letters_prefix(user_id: str) -> bytes:
    """Return what the keys of all items' dead letters of *user_id*, and no others, begin with."""
    user = user_id.encode()
    return DEAD_LETTER + _LENGTH.pack(len(user)) + user


def letters_key(user_id: str) -> bytes:
    """Return the key of the row that says that a dead letter of *user_id* is known."""
    return LETTERS + user_id.encode()


def position_key(topic: str) -> bytes:
    """Return the key of an input position; *topic* as named in the contract."""
    return POSITION + topic.encode()


# Beside the positions: the damage that a rebuild has begun to make good, 0 once it has; the topic
# ids of the outputs; of the receipts what belongs to no single one; the users of whom aborted
# transactions have said what no committed record has answered yet; how many were re-included; the
# fingerprint of the key by which users are named; and the audit trail's last record.
REBUILD_KEY: Final = position_key("rebuild")
OUTPUTS_KEY: Final = position_key("outputs")
RECEIPTS_KEY: Final = position_key("receipts")  # how far the stores have been followed
UNANSWERED_KEY: Final = position_key("unanswered")
BREAKER_KEY: Final = position_key("breaker")
SUBJECTS_KEY: Final = position_key("subject-key")
TRAIL_KEY: Final = position_key("trail")


def timer_key(due_ms: int, user_id: str) -> bytes:
    """Return the key of a timer: ordered by its instant."""
    return TIMER + _OFFSET.pack(max(due_ms, 0)) + user_id.encode()


@_refusing("the key of a timer")
def timer_of(key: bytes) -> tuple[int, str]:
    """Return the instant and user_id of a timer's key."""
    return _OFFSET.unpack_from(key, 1)[0], key[9:].decode()


def encode_user(row: UserRow) -> bytes:
    """Return the bytes of a user's row."""
    return _USER_HEAD.pack(USER_VERSION, row.next_change_ms) + _encode(row)


@_refusing(_NAMES[USER])
def decode_user(data: bytes) -> UserRow:
    """Return the user's row in *data*.  Raises `NewerRow`, `UnreadableRow`."""
    _check(data, VERSIONS[USER], _NAMES[USER])
    return _user_decoder.decode(memoryview(data)[_USER_HEAD.size :])


@_refusing(_NAMES[USER])
def next_change_ms(data: bytes) -> int:
    """Return when the decision in a user's row changes by time, without decoding the rest."""
    _check(data, VERSIONS[USER], _NAMES[USER])
    return int(_USER_HEAD.unpack_from(data)[1])


def encode_job(job: Job) -> bytes:
    """Return the bytes of a job's row."""
    return bytes([JOB_VERSION]) + _encode(job)


@_refusing(_NAMES[JOB])
def decode_job(data: bytes) -> Job:
    """Return the job in *data*.  Raises `NewerRow`, `UnreadableRow`."""
    _check(data, VERSIONS[JOB], _NAMES[JOB])
    return _job_decoder.decode(memoryview(data)[1:])


def encode_item(item: Item) -> bytes:
    """Return the bytes of an item's row."""
    flags = (_DELETED if item.deleted else 0) | (_PRIVATE_MESSAGE if item.private_message else 0)
    letters = item.dead_letters
    head = _ITEM_HEAD.pack(
        ITEM_VERSION,
        item.revision,
        item.created_ms,
        item.readable_offset,
        item.visibility,
        item.product,
        item.kind,
        flags,
        len(letters),
    )
    if letters:
        return head + struct.pack(f">{len(letters)}Q", *letters) + item.value
    return head + item.value


def decode_item(data: bytes) -> Item:
    """Return the item in *data*.  Raises `NewerRow`, `UnreadableRow`."""
    try:  # Not `_refusing`, whose way of calling takes a fifth of this: most rows are items.
        return _item(data)
    except _DAMAGES as error:
        raise _unreadable(_NAMES[ITEM], error) from error


def _item(data: bytes) -> Item:
    _check(data, ITEM_VERSION, _NAMES[ITEM])
    (
        _version,
        revision,
        created_ms,
        readable_offset,
        visibility,
        product,
        kind,
        flags,
        letters_n,
    ) = _ITEM_HEAD.unpack_from(data)
    letters: tuple[int, ...] = ()
    start = _ITEM_HEAD.size
    if letters_n:
        letters = struct.unpack_from(f">{letters_n}Q", data, start)
        start += 8 * letters_n
    return Item(
        revision,
        visibility,
        data[start:],
        product,
        kind,
        created_ms,
        bool(flags & _DELETED),
        bool(flags & _PRIVATE_MESSAGE),
        readable_offset,
        letters,
    )


def receipts_prefix(user_id: str) -> bytes:
    """Return what the keys of all receipts of *user_id*, and no others, begin with."""
    user = user_id.encode()
    return RECEIPT + _LENGTH.pack(len(user)) + user


def receipt_key(user_id: str, objection_id: str, action: Action) -> bytes:
    """Return the key of a receipt's row."""
    return receipts_prefix(user_id) + objection_id.encode() + _ACTIONS[action]


@_refusing("the key of a receipt")
def receipt_of(key: bytes) -> tuple[str, str, Action]:
    """Return user_id, objection_id and action in the key of a receipt's row."""
    end = 3 + _LENGTH.unpack_from(key, 1)[0]
    action: Action = "filed" if key.endswith(_ACTIONS["filed"]) else "withdrawn"
    return key[3:end].decode(), key[end:-1].decode(), action


def receipt_number_key(number: int) -> bytes:
    """Return the key that finds a published receipt by its number."""
    return RECEIPT_NUMBER + _OFFSET.pack(number)


@_refusing("the key of a receipt's number")
def receipt_number_of(key: bytes) -> int:
    """Return the number in the key that finds a receipt by it."""
    return int(_OFFSET.unpack_from(key, 1)[0])


def receipt_index(key: bytes, row: ReceiptRow) -> Row | None:
    """Return the row of the local store that finds the receipt *row*, if it has to be found."""
    if not row.published_ms:
        return RECEIPT_OPEN + key, b""
    return (receipt_number_key(row.number), key) if row.number else None


def encode_receipt(row: ReceiptRow) -> bytes:
    """Return the bytes of a receipt's row."""
    return bytes([RECEIPT_VERSION]) + _encode(row)


@_refusing(_NAMES[RECEIPT])
def decode_receipt(data: bytes) -> ReceiptRow:
    """Return the receipt in *data*.  Raises `NewerRow`, `UnreadableRow`."""
    _check(data, VERSIONS[RECEIPT], _NAMES[RECEIPT])
    return _receipt_decoder.decode(memoryview(data)[1:])


def encode_tell(tell: Tell) -> bytes:
    """Return the bytes of a tell."""
    return bytes([TELL_VERSION]) + _encode(tell)


@_refusing(_TELL)
def decode_tell(key: bytes, data: bytes) -> tuple[str, Tell]:
    """Return who is told, and what, in *data*.  Raises `NewerRow`, `UnreadableRow`."""
    _check(data, TELL_VERSION, _TELL)
    return key.decode(), _tell_decoder.decode(memoryview(data)[1:])


def encode_number(number: int) -> bytes:
    """Return the bytes of a position or another number from 0."""
    return bytes([PLAIN_VERSION]) + _OFFSET.pack(number)


@_refusing("a number")
def decode_number(data: bytes) -> int:
    """Return the number in *data*.  Raises `NewerRow`, `UnreadableRow`."""
    _check(data, PLAIN_VERSION, "a number or text")
    return int(_OFFSET.unpack_from(data, 1)[0])


def encode_text(text: str) -> bytes:
    """Return the bytes of a row that is a text."""
    return bytes([PLAIN_VERSION]) + text.encode()


@_refusing("a text")
def decode_text(data: bytes) -> str:
    """Return the text in *data*.  Raises `NewerRow`, `UnreadableRow`."""
    _check(data, PLAIN_VERSION, "a number or text")
    return data[1:].decode()


def encode_breaker(state: State) -> bytes:
    """Return the bytes of what the breaker on re-inclusion remembers."""
    return encode_text(msgspec.json.encode(state).decode())


@_refusing("the row of the breaker")
def decode_breaker(data: bytes) -> State:
    """Return the breaker's state in *data*.  Raises `NewerRow`, `UnreadableRow`."""
    return msgspec.json.decode(decode_text(data), type=State)


def _check(data: bytes, highest: int, what: str) -> None:
    found = data[0] if data else 0
    if not 0 < found <= highest:
        raise NewerRow(
            f"{what} in the state has version {found or 'none'}, this program reads versions up "
            f"to {highest}: a newer worker has written it, and what it knows more would be lost "
            "here; run that version, or a later one, in place of this"
        )
