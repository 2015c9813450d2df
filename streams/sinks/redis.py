"""
A store in Redis: one hash for each product of a user, `objections:items:instagram/u1`, that holds
the items by content_id, as JSON.

An account's tombstone renames its hash to `objections:hidden:…`, whatever its size, and its record
renames it back.  Fences and positions lie in hashes beside; a script changes all together.

**Durable** means Redis writes its log before it answers: `appendonly yes` and `appendfsync always`,
or any `appendfsync` from Redis 7.2 on, which is asked to wait (WAITAOF).  Without a log the sink
refuses to open, as a crash would bring purged items back, unless the URL says `?volatile=yes`.

**Erased** covers this server's own files: its log is rewritten (BGREWRITEAOF) and, where the server
saves snapshots, a new one replaces the old.  Replicas and copies of the files made elsewhere
follow their own schedule.  Redis Cluster is not supported: an account's keys have no common slot.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import msgspec
import redis
from redis import exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from streams.core.refusals import REFUSALS
from streams.errors import Busy, Unreachable, UsageProblem
from streams.sinks.contents import FIELDS, Key, Remembered, Shown
from streams.sinks.sink import (
    TRAINING_CONTENT,
    TRAINING_USERS,
    Batch,
    Change,
    Place,
    Position,
    winners,
)

DEFAULT_PREFIX: Final = "objections:"
ERASE_EVERY_S: Final = 60.0  # a rewrite reads all of the data
CALL_CHANGES: Final = 500  # one call of the script: how long readers wait for it, about 5 ms
SCAN_KEYS: Final = 1_000
ANSWER_TIMEOUT_S: Final = 30.0
REWRITE_TIMEOUT_S: Final = 3_600.0
LOOK_AGAIN_S: Final = 0.05
RETRY_AFTER_S: Final = 0.5
SYNC_TIMEOUT_MS: Final = 20_000
WAITAOF_SINCE: Final = (7, 2)

logger = logging.getLogger(__name__)
T = TypeVar("T")

_pack: Final = msgspec.msgpack.encode
_json: Final = msgspec.json.encode


class RedisSink:
    """
    A store at *url*, as redis-py reads it: `redis://host:6379/0`, `rediss://` or `unix://`.

    `?prefix=` of all keys, `?volatile=yes` to accept a server without a log.
    """

    boxes = "redis_boxes.lua"
    fields: tuple[str, ...] = FIELDS

    def __init__(self, url: str, *, erase_every_s: float = ERASE_EVERY_S) -> None:
        self.erase_every_s = erase_every_s
        self._url, options = split_options(url, {"prefix", "volatile"})
        self.prefix = options.get("prefix", DEFAULT_PREFIX)
        self._volatile = options.get("volatile") == "yes"
        self._waits = False
        self._client: redis.Redis | None = None

    def open(self) -> None:
        try:
            # One connection, never renewed unseen: a server that was away may be another one now.
            self._client = redis.Redis.from_url(
                self._url,
                single_connection_client=True,
                retry=Retry(NoBackoff(), 0),
                socket_timeout=ANSWER_TIMEOUT_S,
                socket_connect_timeout=ANSWER_TIMEOUT_S,
            )
        except redis.ConnectionError as error:
            raise self._away(error) from error
        except ValueError as error:
            raise UsageProblem(f"the sink's URL cannot be read: {error}") from error
        with self._answers() as client:
            info: Any = client.info("server")
            self._check(client, tuple(int(n) for n in info["redis_version"].split(".")[:2]))
            self._apply = client.register_script(self.script("redis.lua"))
            self._sweep = client.register_script(self.script("redis_sweep.lua"))
            self._expel = client.register_script(self.script("redis_expel.lua"))

    def positions(self) -> Mapping[Place, Position]:
        with self._answers() as client:
            found: Any = client.hgetall(f"{self.prefix}positions")
        return {_place(place.decode()): _position(text.decode()) for place, text in found.items()}

    def apply(self, batch: Batch) -> None:
        rows = [self._row(batch, change) for change in winners(batch.changes)]
        positions = [
            (
                f"{place.topic}/{place.partition}",
                p.topic_id,
                f"{p.offset:019}",
                f"{p.generation:010}",
            )
            for place, p in batch.reached.items()
        ]
        parts = [rows[start : start + CALL_CHANGES] for start in range(0, len(rows), CALL_CHANGES)]
        with self._answers():
            # Positions come last: what is behind them is there.
            for part in parts[:-1]:
                self._apply(args=[self.prefix, _pack(part), _pack([])])
            last = parts[-1] if parts else []
            self._apply(args=[self.prefix, _pack(last), _pack(positions)])
        self._sync()

    def sweep(self, place: Place, generation: int) -> None:
        oldest = f"{generation:010}"
        name = f"{self.prefix}fences:{place.topic}:{place.partition}"
        with self._answers() as client:
            for keys in _older(client, name, oldest):
                self._sweep(args=[self.prefix, place.topic, place.partition, oldest, *keys])
        self._sync()

    def erase(self) -> None:
        with self._answers() as client:
            config = _config(client, "appendonly", "save")
            if config.get("appendonly", "yes") == "yes":
                self._renew(client, client.bgrewriteaof, "aof_rewrite", "aof_last_bgrewrite_status")
            if config.get("save"):
                self._renew(client, client.bgsave, "rdb_bgsave", "rdb_last_bgsave_status")

    def shown(self) -> Iterator[Sequence[Shown]]:
        opened = f"{self.prefix}items:"
        for names in self._boxes(f"{_escaped(opened)}*"):
            accounts = [name.decode("utf-8", "replace").removeprefix(opened) for name in names]
            for account, found in self._contents(names, accounts):
                yield [
                    Shown(key.decode("utf-8", "replace"), account, self._values(text))
                    for key, text in found.items()
                ]

    def remembered(self) -> Iterator[Remembered]:
        for topic in (TRAINING_USERS, TRAINING_CONTENT):
            for names in self._boxes(f"{_escaped(self.prefix)}fences:{topic}:*"):
                for _, found in self._contents(names, [topic] * len(names)):
                    texts = [fence.decode() for fence in found.values()]
                    yield Remembered(
                        topic,
                        [key.decode("utf-8", "replace") for key in found],
                        [int(text[:19]) for text in texts],
                        [int(text[19:38]) for text in texts],
                        [text[38] == "0" for text in texts],
                    )

    def expel(self, topic: str, found: Sequence[tuple[Key, str]]) -> None:
        names = f"{self.prefix}fences:{topic}:"
        with self._answers():
            fences = [n.decode() for part in self._boxes(f"{_escaped(names)}*") for n in part]
            for start in range(0, len(found), CALL_CHANGES):
                part = [list(each) for each in found[start : start + CALL_CHANGES]]
                self._expel(args=[self.prefix, topic, _pack(fences), _pack(part)])
        self._sync()

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def script(self, name: str) -> str:
        """Return a script of this folder with the sink's *boxes*: how items lie in the store."""
        folder = Path(__file__).parent
        text = (folder / name).read_text(encoding="utf-8")
        return text.replace("--@boxes@", (folder / self.boxes).read_text(encoding="utf-8"))

    def value(self, change: Change) -> Any:
        """Return what the script stores of a record; None for a tombstone."""
        return None if change.value is None else _json(change.value).decode()

    def _values(self, text: bytes) -> tuple[Any, ...]:
        """Return the fields of an item as its reader finds them; nothing of what is no JSON."""
        try:
            value = msgspec.json.decode(text, type=dict[str, Any])
        except REFUSALS:
            value = {}
        return tuple(value.get(name) for name in self.fields)

    def _boxes(self, pattern: str) -> Iterator[list[bytes]]:
        """Yield the names of hashes, in parts; one may come twice."""
        cursor = 0
        while True:
            with self._answers() as client:
                answer: Any = client.scan(cursor, pattern, SCAN_KEYS, _type="hash")
            cursor, names = answer
            if names:
                yield names
            if not cursor:
                return

    def _contents(
        self, names: list[bytes], labels: list[str]
    ) -> Iterator[tuple[str, dict[bytes, bytes]]]:
        """Yield what the hashes *names* hold, in parts, each with its label."""
        ahead = [(name, label, 0) for name, label in zip(names, labels, strict=True)]
        while ahead:
            with self._answers() as client:
                calls = client.pipeline(transaction=False)
                for name, _, cursor in ahead:
                    calls.hscan(name, cursor, count=SCAN_KEYS)
                answers: list[Any] = calls.execute()
            yield from ((each[1], found) for each, (_, found) in zip(ahead, answers, strict=True))
            ahead = [
                (name, label, cursor)
                for (name, label, _), (cursor, _) in zip(ahead, answers, strict=True)
                if cursor
            ]

    def _row(self, batch: Batch, change: Change) -> Sequence[Any]:
        generation = batch.reached[Place(change.topic, change.partition)].generation
        value, account = change.value, ""
        if value is not None and change.topic != TRAINING_USERS:
            account = f"{value['product']}/{value['user_id']}"
        rank = f"{change.epoch:019}{change.revision:019}{int(value is None)}"
        place = change.topic, str(change.partition)
        return *place, change.key, rank, f"{generation:010}", account, self.value(change) or ""

    def _check(self, client: "redis.Redis", version: tuple[int, ...]) -> None:
        config = _config(client, "appendonly", "appendfsync")
        self._waits = False
        if not config:
            logger.warning(
                "Redis does not show its configuration: whether it is durable is unknown"
            )
        elif config["appendonly"] != "yes":
            if not self._volatile:
                message = (
                    "Redis keeps no log (appendonly is no): a crash would bring back what was "
                    "purged. Remedy: CONFIG SET appendonly yes, and in its configuration file; or "
                    "accept it with ?volatile=yes in the sink's URL."
                )
                raise UsageProblem(message)
            logger.warning("Redis keeps no log: a crash brings back what was purged since its save")
        elif config["appendfsync"] != "always":
            self._waits = version >= WAITAOF_SINCE
            if not self._waits:
                logger.warning(
                    "Redis %s writes its log once a second: what a power failure takes back was "
                    "acknowledged already. Remedy: appendfsync always, or Redis 7.2",
                    ".".join(str(part) for part in version),
                )

    def _sync(self) -> None:
        """Return when what was written is in the server's log on disk."""
        if not self._waits:
            return
        with self._answers() as client:
            synced: Any = client.waitaof(1, 0, SYNC_TIMEOUT_MS)
        if not synced[0]:
            raise Busy("Redis has not written its log yet", RETRY_AFTER_S)

    def _renew(
        self, client: "redis.Redis", begin: Callable[[], Any], running: str, status: str
    ) -> None:
        """Let the server write a file anew that was begun after now, and wait for it."""
        deadline_s = time.monotonic() + REWRITE_TIMEOUT_S
        self._wait_until_idle(client, deadline_s)
        while True:
            try:
                begin()
                break
            except redis.ResponseError as error:  # another has just begun one, before our purges
                if "progress" not in str(error):
                    raise
                self._wait_until_idle(client, deadline_s)
        self._wait_until_idle(client, deadline_s)
        found: Any = client.info("persistence")
        if found[status] != "ok":
            message = f"Redis could not write its file anew ({running}: {found[status]})"
            raise Busy(message, max(self.erase_every_s, RETRY_AFTER_S))

    def _wait_until_idle(self, client: "redis.Redis", deadline_s: float) -> None:
        busy = ("aof_rewrite_in_progress", "aof_rewrite_scheduled", "rdb_bgsave_in_progress")
        while True:
            found: Any = client.info("persistence")
            if not any(int(found.get(name, 0)) for name in busy):
                return
            if time.monotonic() > deadline_s:
                raise Busy("Redis is still writing its files anew", RETRY_AFTER_S)
            time.sleep(LOOK_AGAIN_S)

    @contextmanager
    def _answers(self) -> Iterator["redis.Redis"]:
        """Turn the client's errors into what the subscriber reacts to."""
        assert self._client is not None, "the sink is not open"
        try:
            yield self._client
        except redis.BusyLoadingError as error:
            raise Busy(f"Redis reads its data: {error}", RETRY_AFTER_S) from error
        except (redis.AuthenticationError, exceptions.AuthorizationError) as error:
            raise UsageProblem(f"Redis refuses the login of the sink's URL: {error}") from error
        except (redis.ConnectionError, redis.TimeoutError, redis.ReadOnlyError) as error:
            raise self._away(error) from error
        except (redis.OutOfMemoryError, exceptions.TryAgainError) as error:
            raise Busy(f"Redis takes no more now: {error}", RETRY_AFTER_S) from error
        except redis.ResponseError as error:
            if str(error).startswith(("BUSY", "MISCONF", "LOADING", "MASTERDOWN")):
                raise Busy(f"Redis asks for a pause: {error}", RETRY_AFTER_S) from error
            raise

    def _away(self, error: Exception) -> Unreachable:
        parts = urlsplit(self._url)
        where = f"{parts.hostname}:{parts.port or 6379}" if parts.hostname else parts.path
        return Unreachable(
            f"Redis at {where} cannot be reached: {error}. Remedy: start it, or name another with "
            "--sink"
        )


def split_options(url: str, names: set[str]) -> tuple[str, dict[str, str]]:
    """Return *url* without the options *names*, and these."""
    parts = urlsplit(url)
    query = parse_qsl(parts.query, keep_blank_values=True)
    ours = {name: value for name, value in query if name in names}
    rest = [(name, value) for name, value in query if name not in names]
    return urlunsplit(parts._replace(query=urlencode(rest))), ours


def _config(client: "redis.Redis", *names: str) -> dict[str, str]:
    """Return settings of the server; empty where it shows none, as some hosted ones do."""
    try:
        found: Any = client.config_get(*names)
    except redis.ResponseError:
        return {}
    return {
        (k.decode() if isinstance(k, bytes) else k): (v.decode() if isinstance(v, bytes) else v)
        for k, v in found.items()
    }


def _older(client: "redis.Redis", name: str, oldest: str) -> Iterator[list[bytes]]:
    """Return keys of the fences *name* whose generation is older, in parts."""
    cursor = 0
    while True:
        answer: Any = client.hscan(name, cursor, count=SCAN_KEYS)
        cursor, rows = answer
        keys = [key for key, fence in rows.items() if fence[39:49].decode() < oldest]
        if keys:
            yield keys
        if not cursor:
            return


def _escaped(text: str) -> str:
    """Return *text* as a pattern that only itself matches."""
    return "".join(f"\\{sign}" if sign in "*?[]\\" else sign for sign in text)


def _place(text: str) -> Place:
    topic, _, number = text.rpartition("/")
    return Place(topic, int(number))


def _position(text: str) -> Position:
    return Position(text[29:], int(text[10:29]), int(text[:10]))
