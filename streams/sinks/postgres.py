"""
A store in PostgreSQL: the table `objections.items`, and the view `objections.usable` behind both
locks.

The table may have columns of yours, an `embedding vector(768)` of pgvector for instance: a record
leaves them alone, a tombstone deletes the row with them.  Fences lie in a table of their own, so
that of a purged item only its key is left.

**Durable** is a commit: `fsync` must be on, and `synchronous_commit` is set for the session.

**Erased.**  A deleted row's bytes stay in its page, VACUUM or not.  So `erase` writes the table
anew (VACUUM FULL), part by part, each under a lock of its own, once no transaction sees the old
rows any more; then it ends the WAL's segment and makes a checkpoint.  That covers the data files,
and the WAL where `wal_recycle` is off: else old segments are kept as room for new ones, with what
was in them.  Standbys, archives and base backups follow their own schedule.  The columns here have
no planner statistics, as these would hold values; yours do unless you say SET STATISTICS 0.
"""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import psycopg
from psycopg import errors, sql

from streams.errors import Busy, Unreachable, UsageProblem
from streams.sinks.columns import FENCE, ITEM, Row, split, upsert
from streams.sinks.contents import FIELDS, PAGE_ROWS, Key, Remembered, Shown
from streams.sinks.sink import TRAINING_CONTENT, TRAINING_USERS, Batch, Place, Position

DEFAULT_SCHEMA: Final = "objections"
PARTS: Final = 16  # of the table: how much of it is locked while that is written anew
ERASE_EVERY_S: Final = 86_400.0  # it reads and writes all of the table, indexes of yours included
CONNECT_TIMEOUT_S: Final = 10
LOCK_TIMEOUT_MS: Final = 5_000  # who waits for a lock holds up all readers behind
OLD_SNAPSHOT_S: Final = 30.0
LOOK_AGAIN_S: Final = 0.1
RETRY_AFTER_S: Final = 0.5
ONE_AT_A_TIME: Final = 7_309_453  # the advisory lock of those that make tables or erase

logger = logging.getLogger(__name__)

_SCHEMA: Final = """
CREATE SCHEMA IF NOT EXISTS {schema};
CREATE TABLE IF NOT EXISTS {schema}.positions (topic text, partition int, topic_id text NOT NULL,
    next_offset bigint NOT NULL, generation int NOT NULL, PRIMARY KEY (topic, partition));
CREATE TABLE IF NOT EXISTS {schema}.accounts (key text PRIMARY KEY, epoch bigint NOT NULL,
    revision bigint NOT NULL, allowed boolean NOT NULL, partition int NOT NULL,
    generation int NOT NULL);
CREATE TABLE IF NOT EXISTS {schema}.fences (key text PRIMARY KEY, epoch bigint NOT NULL,
    revision bigint NOT NULL, allowed boolean NOT NULL, partition int NOT NULL,
    generation int NOT NULL);
CREATE TABLE IF NOT EXISTS {schema}.items (content_id text PRIMARY KEY, user_id text NOT NULL,
    revision bigint NOT NULL, product text NOT NULL, kind text, modality text, language text,
    created_at timestamptz) PARTITION BY HASH (content_id);
CREATE OR REPLACE VIEW {schema}.usable AS SELECT items.* FROM {schema}.items
    JOIN {schema}.accounts ON accounts.key = items.product || '/' || items.user_id
    WHERE accounts.allowed;
"""
_PART: Final = """
CREATE TABLE IF NOT EXISTS {schema}.{part} PARTITION OF {schema}.items
    FOR VALUES WITH (MODULUS {parts}, REMAINDER {number});
"""
_VALUES: Final = ("user_id", "revision", "product", "kind", "modality", "language", "created_at")
_FENCE_TYPES: Final = "text[], %s::bigint[], %s::bigint[], %s::boolean[], %s::int[], %s::int[]"
_ACCOUNTS: Final = f"""
INSERT INTO {{schema}}.accounts AS accounts
SELECT * FROM unnest(%s::{_FENCE_TYPES}) ON CONFLICT (key)
{upsert("accounts", FENCE, "greatest")}
"""  # noqa: S608 - put together from constants
_ITEMS: Final = f"""
WITH incoming AS (
    SELECT * FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[],
        %s::timestamptz[], %s::bigint[], %s::bigint[], %s::boolean[], %s::int[], %s::int[])
    AS incoming (content_id, user_id, product, kind, modality, language, created_at,
        epoch, revision, allowed, partition, generation)
), won AS (
    INSERT INTO {{schema}}.fences AS fences
    SELECT content_id, epoch, revision, allowed, partition, generation FROM incoming
    ON CONFLICT (key) {upsert("fences", FENCE, "greatest")}
    RETURNING key, allowed
), gone AS (
    DELETE FROM {{schema}}.items USING won WHERE content_id = won.key AND NOT won.allowed
)
INSERT INTO {{schema}}.items (content_id, {", ".join(_VALUES)})
SELECT content_id, {", ".join(_VALUES)} FROM incoming JOIN won ON won.key = content_id
WHERE won.allowed AND incoming.allowed
ON CONFLICT (content_id) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in _VALUES)}
"""  # noqa: S608 - as above
_POSITIONS: Final = """
INSERT INTO {schema}.positions AS known
SELECT * FROM unnest(%s::text[], %s::int[], %s::text[], %s::bigint[], %s::int[])
ON CONFLICT (topic, partition) DO UPDATE SET topic_id = excluded.topic_id,
    next_offset = excluded.next_offset, generation = excluded.generation
WHERE (excluded.generation, excluded.next_offset) >= (known.generation, known.next_offset)
"""
_SWEEP_ACCOUNTS: Final = "DELETE FROM {schema}.accounts WHERE partition = %s AND generation < %s"
_SWEEP_ITEMS: Final = """
WITH gone AS (
    DELETE FROM {schema}.fences WHERE partition = %s AND generation < %s RETURNING key
)
DELETE FROM {schema}.items USING gone WHERE content_id = gone.key
"""
_SHOWN: Final = f"""
SELECT content_id, product || '/' || user_id, {", ".join(FIELDS)} FROM {{schema}}.usable
"""  # noqa: S608 - as above
_FENCES: Final = {TRAINING_USERS: "accounts", TRAINING_CONTENT: "fences"}  # tables, by topic
_EXPEL: Final = """
WITH gone AS (DELETE FROM {schema}.items WHERE content_id = ANY(%s))
DELETE FROM {schema}.fences WHERE key = ANY(%s)
"""
# Who may still see rows that were deleted before the transaction %s: nothing of theirs goes.
_HOLDERS: Final = """
SELECT string_agg(who, ', ') FROM (
    SELECT 'process ' || pid AS who, backend_xmin AS xmin FROM pg_stat_activity
        WHERE pid <> pg_backend_pid() AND datname = current_database()
    UNION ALL SELECT 'process ' || pid, backend_xid FROM pg_stat_activity
        WHERE pid <> pg_backend_pid() AND datname = current_database()
    UNION ALL SELECT 'replication slot ' || slot_name, xmin FROM pg_replication_slots
    UNION ALL SELECT 'prepared transaction ' || gid, transaction FROM pg_prepared_xacts
) AS holders WHERE xmin IS NOT NULL AND age(xmin) > age(%s::text::xid)
"""


class PostgresSink:
    """
    A store at *url*, as libpq reads it: `postgresql://user@host:5432/database`.

    `?schema=` of the tables, `?volatile=yes` to accept a server without fsync.
    """

    fields = FIELDS

    def __init__(self, url: str, *, erase_every_s: float = ERASE_EVERY_S) -> None:
        self.erase_every_s = erase_every_s
        parts = urlsplit(url)
        query = parse_qsl(parts.query, keep_blank_values=True)
        ours = {name: value for name, value in query if name in {"schema", "volatile"}}
        rest = [(name, value) for name, value in query if name not in ours]
        self._url = urlunsplit(parts._replace(query=urlencode(rest)))
        self._where = f"{parts.hostname or 'this machine'}:{parts.port or 5432}"
        self._schema = ours.get("schema", DEFAULT_SCHEMA)
        self._volatile = ours.get("volatile") == "yes"
        self._connection: psycopg.Connection[Any] | None = None

    def open(self) -> None:
        with self._translated():
            # Several statements a call, in autocommit: each is a transaction by itself.
            self._connection = psycopg.connect(
                self._url,
                autocommit=True,
                connect_timeout=CONNECT_TIMEOUT_S,
                client_encoding="utf8",  # texts, also of a database that knows no encoding
            )
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    def _prepare(self) -> None:
        with self._answers() as connection:
            self._check(connection)
            connection.execute("SET synchronous_commit = on")
            # None of our statements takes that long; a lock held by others would, unseen.
            connection.execute(f"SET lock_timeout = {LOCK_TIMEOUT_MS}")
            # A batch looks up its keys; a plan that reads whole tables for it is never better.
            connection.execute("SET enable_seqscan = off")
            self._make(connection)

    def positions(self) -> Mapping[Place, Position]:
        with self._answers() as connection:
            rows = connection.execute(
                self._sql(
                    "SELECT topic, partition, topic_id, next_offset, generation "
                    "FROM {schema}.positions"
                )
            )
            return {Place(topic, number): Position(*rest) for topic, number, *rest in rows}

    def apply(self, batch: Batch) -> None:
        accounts, items = split(batch)
        fences = [(key, *fence) for key, _, _, *fence in accounts]
        reached = [(*place, *position) for place, position in batch.reached.items()]
        with self._answers() as connection, connection.transaction(), connection.pipeline():
            if fences:
                connection.execute(self._sql(_ACCOUNTS), _columns(fences))
            if items:
                connection.execute(self._sql(_ITEMS), _columns(items))
            if reached:
                connection.execute(self._sql(_POSITIONS), _columns(reached))

    def sweep(self, place: Place, generation: int) -> None:
        statement = _SWEEP_ACCOUNTS if place.topic == TRAINING_USERS else _SWEEP_ITEMS
        with self._answers() as connection:
            connection.execute(self._sql(statement), (place.partition, generation))

    def erase(self) -> None:
        with self._answers() as connection:
            connection.execute("SELECT pg_advisory_lock(%s)", (ONE_AT_A_TIME,))
            try:
                self._wait_for_old_snapshots(connection)
                for number in range(PARTS):
                    connection.execute(self._sql("VACUUM (FULL) {schema}.{part}", number))
                self._end_segment(connection)
            finally:
                connection.execute("SELECT pg_advisory_unlock(%s)", (ONE_AT_A_TIME,))

    def shown(self) -> Iterator[Sequence[Shown]]:
        for rows in self._scan(_SHOWN):
            yield [Shown(key, account, tuple(values)) for key, account, *values in rows]

    def remembered(self) -> Iterator[Remembered]:
        for topic, table in _FENCES.items():
            statement = f"SELECT key, epoch, revision, allowed FROM {{schema}}.{table}"  # noqa: S608
            for rows in self._scan(statement):
                yield Remembered(topic, *zip(*rows, strict=True))

    def expel(self, topic: str, found: Sequence[tuple[Key, str]]) -> None:
        keys = [key for key, _ in found]
        with self._answers() as connection:
            if topic == TRAINING_USERS:
                statement = self._sql("DELETE FROM {schema}.accounts WHERE key = ANY(%s)")
                connection.execute(statement, (keys,))
            else:
                connection.execute(self._sql(_EXPEL), (keys, keys))

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _scan(self, statement: str) -> Iterator[list[Row]]:
        """Yield the rows of one snapshot, in parts."""
        with self._answers() as connection, connection.transaction():
            connection.execute("SET LOCAL enable_seqscan = on")  # All rows are wanted here.
            connection.execute("SET LOCAL cursor_tuple_fraction = 1")
            with connection.cursor(name="audit") as cursor:
                cursor.execute(self._sql(statement))
                while rows := cursor.fetchmany(PAGE_ROWS):
                    yield rows

    def _make(self, connection: "psycopg.Connection[Any]") -> None:
        """Make what is missing; several processes may come at once."""
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (ONE_AT_A_TIME,))
            there = connection.execute("SELECT to_regclass(%s)", (f"{self._schema}.usable",))
            if there.fetchall() != [(None,)]:
                return
            connection.execute(self._sql(_SCHEMA))
            for number in range(PARTS):
                connection.execute(self._sql(_PART, number))
                for name in ITEM:
                    text = f"ALTER TABLE {{schema}}.{{part}} ALTER {name} SET STATISTICS 0"
                    connection.execute(self._sql(text, number))
            for name in ITEM:
                text = f"ALTER TABLE {{schema}}.items ALTER {name} SET STATISTICS 0"
                connection.execute(self._sql(text))

    def _check(self, connection: "psycopg.Connection[Any]") -> None:
        ((fsync, recycles),) = connection.execute(
            "SELECT current_setting('fsync'), current_setting('wal_recycle')"
        ).fetchall()
        if fsync != "on" and not self._volatile:
            message = (
                f"PostgreSQL at {self._where} has fsync off: a power failure would bring back what "
                "was purged. Remedy: fsync = on; or accept it with ?volatile=yes in the sink's URL."
            )
            raise UsageProblem(message)
        if recycles == "on" and self.erase_every_s:
            logger.info(
                "PostgreSQL recycles its WAL (wal_recycle is on): old segments keep what was "
                "purged until they are written over; `erased` is said of the data files"
            )

    def _wait_for_old_snapshots(self, connection: "psycopg.Connection[Any]") -> None:
        """Return when nobody sees rows any more that are deleted by now."""
        ((now,),) = connection.execute("SELECT pg_current_xact_id()::xid::text").fetchall()
        deadline_s = time.monotonic() + OLD_SNAPSHOT_S
        while True:
            ((holders,),) = connection.execute(_HOLDERS, (now,)).fetchall()
            if holders is None:
                return
            if time.monotonic() > deadline_s:
                message = f"PostgreSQL must keep deleted rows for {holders}"
                raise Busy(message, OLD_SNAPSHOT_S)
            time.sleep(LOOK_AGAIN_S)

    def _end_segment(self, connection: "psycopg.Connection[Any]") -> None:
        """Let the WAL go that holds what is gone."""
        try:
            connection.execute("SELECT pg_switch_wal()")
            connection.execute("CHECKPOINT")
        except errors.InsufficientPrivilege as error:
            logger.warning(
                "the sink may not end a segment of the WAL or make a checkpoint (%s): old segments "
                "go when PostgreSQL makes its next ones. Remedy: GRANT pg_checkpoint TO its role, "
                "and GRANT EXECUTE ON FUNCTION pg_switch_wal",
                error.diag.message_primary,
            )

    def _sql(self, text: str, number: int = 0) -> sql.Composed:
        return sql.SQL(text).format(
            schema=sql.Identifier(self._schema),
            part=sql.Identifier(f"items_{number}"),
            parts=sql.Literal(PARTS),
            number=sql.Literal(number),
        )

    @contextmanager
    def _answers(self) -> Iterator["psycopg.Connection[Any]"]:
        assert self._connection is not None, "the sink is not open"
        with self._translated():
            yield self._connection

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn the client's errors into what the subscriber reacts to."""
        try:
            yield
        except psycopg.OperationalError as error:
            state = error.sqlstate or ""
            if state.startswith(("40", "53", "55", "57014")):
                raise Busy(f"PostgreSQL asks for a pause: {error}", RETRY_AFTER_S) from error
            if state.startswith("28") or "authentication failed" in str(error):
                message = f"PostgreSQL at {self._where} refuses the sink's login: {error}"
                raise UsageProblem(message) from error
            message = (
                f"PostgreSQL at {self._where} cannot be reached: {error}. Remedy: start it, or "
                "name another with --sink"
            )
            raise Unreachable(message) from error


def _columns(rows: list[Row]) -> list[list[Any]]:
    """Return *rows* as one array for each column."""
    return [list(column) for column in zip(*rows, strict=True)]
