"""
The settings of a process: OBJECTIONS_ variables, read once into a frozen value.

`VARIABLES` is the table people look up: every variable, its default, its meaning and why.
Reading reports all problems at once; each names the variable, what it held, what is expected.
Values of OBJECTIONS_KAFKA_ variables that may be secrets are never shown.
No I/O: whoever reads a file named here reports on that file.  Source: contract.md, "Settings".
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Self, TypeVar

from streams import setting_values as values
from streams.core.subjects import Subjects
from streams.errors import SettingsError
from streams.setting_values import Store

PREFIX = "OBJECTIONS_"
KAFKA_PREFIX = "OBJECTIONS_KAFKA_"

DEFAULT_BOOTSTRAP = "127.0.0.1:9092"
DEFAULT_HTTP = "127.0.0.1:6066"
DEFAULT_INTAKE_HTTP = "127.0.0.1:6067"
DEFAULT_INTAKE_RATE = 20
DEFAULT_INTAKE_CONFIRM_MS = 8_000
DEFAULT_STATE_DIR = "objections-state"
DEFAULT_SESSION_TIMEOUT_MS = 6_000  # the least that a broker allows by default
DEFAULT_REBALANCE_TIMEOUT_MS = 60_000
DEFAULT_BLOCK_CACHE_BYTES = 64 * 1024 * 1024
DEFAULT_FANOUT_INLINE_ITEMS = 64
DEFAULT_FANOUT_SLICE_ITEMS = 2_000
DEFAULT_BATCH_RECORDS = 4_000
DEFAULT_GRANT_RATE = 2_000
DEFAULT_BREAKER_PERCENT = 5.0
DEFAULT_BREAKER_USERS_MIN = 1_000
DEFAULT_BREAKER_WINDOW_S = 24 * 3_600
assert DEFAULT_SESSION_TIMEOUT_MS <= DEFAULT_REBALANCE_TIMEOUT_MS  # librdkafka refuses otherwise

# variable without its prefix: (default for people, meaning, unit and reason)
VARIABLES: Mapping[str, tuple[str, str]] = {
    "BOOTSTRAP": (DEFAULT_BOOTSTRAP, "Kafka to talk to: HOST:PORT, several separated by commas."),
    "TOPIC_PREFIX": ("none", "Put before every topic's name, internal ones included."),
    "GROUP": ("the prefix and 'objections'", "The consumer group of the workers."),
    "STATE_DIR": (DEFAULT_STATE_DIR, "Folder of the local stores; a copy, Kafka holds the truth."),
    "STANDBY": (
        "off",
        "on: keep warm copies of the partitions that other workers own, to take them over within "
        "a second however large they are. Each worker then reads all changelogs, and has room for "
        "all of the state.",
    ),
    "CLOCK_OFFSET_S": ("0", "Seconds added to the worker's clock, for tests and rehearsals."),
    "POLICY": ("built in", "The policy's YAML file."),
    "HTTP": (DEFAULT_HTTP, "HOST:PORT of status page and metrics; port 0 takes a free one."),
    "HTTP_TOKEN": (
        "none",
        "What `Authorization: Bearer ...` must carry to see status page and metrics. Demanded "
        "where OBJECTIONS_HTTP is not on loopback; /healthz and /readyz stay open, for probes.",
    ),
    "SUBJECT_KEY": (
        "none",
        "Key of the pseudonyms that stand for user ids in outputs and state: HMAC-SHA-256 of the "
        "id, in hexadecimal. The same for all workers, for the life of a prefix; commands that "
        "are given a user's id, or compare inputs with outputs, need it too.",
    ),
    "INTAKE_HTTP": (DEFAULT_INTAKE_HTTP, "HOST:PORT of the form to object with and of its API."),
    "INTAKE_KEY": (
        "none",
        "Secrets that sign the links in notices (HMAC-SHA-256), separated by commas: the first "
        "signs, all are believed, so that one can be replaced while links with it are out.",
    ),
    "INTAKE_PROXIES": (
        "0",
        "Proxies between people and the form, whose X-Forwarded-For says who asks. Without the "
        "right number all people count as one, or anybody may claim an address.",
    ),
    "INTAKE_RATE": (
        str(DEFAULT_INTAKE_RATE),
        "Requests a second that the form answers for one address; five times as many at once.",
    ),
    "INTAKE_CONFIRM_MS": (
        str(DEFAULT_INTAKE_CONFIRM_MS),
        "Milliseconds that people wait, at most, for Kafka to confirm an objection before they are "
        "told that it was not saved: longer than a fail-over, shorter than their patience.",
    ),
    "INTAKE_CONTACT": ("none", "Where people may ask, on each page: https://... or mailto:..."),
    "STORES": ("none", "What each store follows: NAME=TOPIC+TOPIC;NAME=group:GROUP:TOPIC."),
    "SESSION_TIMEOUT_MS": (
        str(DEFAULT_SESSION_TIMEOUT_MS),
        "Milliseconds without a heartbeat until a worker's partitions move. "
        "Shorter recovers sooner, longer forgives more.",
    ),
    "TRANSACTION_TIMEOUT_MS": (
        "the session timeout",
        "Milliseconds until the broker aborts a dead worker's transaction. At most the session "
        "timeout: it holds up readers and the worker that takes over.",
    ),
    "REBALANCE_TIMEOUT_MS": (
        str(DEFAULT_REBALANCE_TIMEOUT_MS),
        "Milliseconds a worker may take to give up its partitions (max.poll.interval.ms). At least "
        "the session timeout. A longer restore does no harm: it runs outside of the rebalance.",
    ),
    "BLOCK_CACHE_BYTES": (
        str(DEFAULT_BLOCK_CACHE_BYTES),
        "Bytes of cache for reading state, one for all partitions: the memory of a worker "
        "does not grow with their number.",
    ),
    "FANOUT_INLINE_ITEMS": (
        str(DEFAULT_FANOUT_INLINE_ITEMS),
        "Items answered in the same transaction as their user's decision. More become a job, "
        "so that no account delays another.",
    ),
    "FANOUT_SLICE_ITEMS": (
        str(DEFAULT_FANOUT_SLICE_ITEMS),
        "Items of a job answered in one transaction: the longest that others wait for it.",
    ),
    "GRANT_RATE": (
        str(DEFAULT_GRANT_RATE),
        "Users and items a second that a worker allows, at most, because time has passed or the "
        "policy has changed. When millions fall due at once, objections must not wait for them.",
    ),
    "BREAKER_PERCENT": (
        f"{DEFAULT_BREAKER_PERCENT:g}",
        "Share of a partition's known users, in percent, who may be allowed again within a window "
        "after they were kept out for a reason. At more, its grants are held until `objections "
        "grants release`: a bad policy or age feed looks like this. 0 is off.",
    ),
    "BREAKER_USERS_MIN": (
        str(DEFAULT_BREAKER_USERS_MIN),
        "Users of a partition who may be allowed again within a window however few are known.",
    ),
    "BREAKER_WINDOW_S": (
        str(DEFAULT_BREAKER_WINDOW_S),
        "Seconds of that window: long enough for a slow mistake to add up.",
    ),
    "BATCH_RECORDS": (
        str(DEFAULT_BATCH_RECORDS),
        "Records taken in one fetch at most: bounds memory and the length of a transaction.",
    ),
}

# Kafka options that have a variable of their own, ...
_OWN_VARIABLE = {
    "bootstrap.servers": "OBJECTIONS_BOOTSTRAP",
    "metadata.broker.list": "OBJECTIONS_BOOTSTRAP",
    "group.id": "OBJECTIONS_GROUP",
    "session.timeout.ms": "OBJECTIONS_SESSION_TIMEOUT_MS",
    "transaction.timeout.ms": "OBJECTIONS_TRANSACTION_TIMEOUT_MS",
    "max.poll.interval.ms": "OBJECTIONS_REBALANCE_TIMEOUT_MS",
}
# ... and those on which the service's promises rest.
_FIXED = frozenset(
    {
        "auto.offset.reset",
        "enable.auto.commit",
        "enable.auto.offset.store",
        "enable.idempotence",
        "enable.partition.eof",
        "isolation.level",
        "partition.assignment.strategy",
        "partitioner",
        "transactional.id",
    }
)
_SECRET_VARIABLES = frozenset({"HTTP_TOKEN", "INTAKE_KEY", "SUBJECT_KEY"})
_SECRET_WORDS = ("password", "secret", "key", "token", "credential", "jaas", "oauth")

_NEAR_ENOUGH = 0.8  # All names share their beginning; with less, anything is near something.

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a process was told by its environment; times and sizes as their names' ends say."""

    bootstrap: str = DEFAULT_BOOTSTRAP
    topic_prefix: str = ""
    group: str = "objections"
    state_dir: Path = Path(DEFAULT_STATE_DIR)
    standby: bool = False
    clock_offset_s: float = 0.0
    policy: Path | None = None
    http_host: str = DEFAULT_HTTP.partition(":")[0]
    http_port: int = int(DEFAULT_HTTP.partition(":")[2])
    http_token: str | None = field(default=None, repr=False)
    subject_key: str | None = field(default=None, repr=False)
    intake_http: tuple[str, int] = values.address(DEFAULT_INTAKE_HTTP)
    intake_key: tuple[str, ...] = field(default=(), repr=False)
    intake_proxies: int = 0
    intake_rate: int = DEFAULT_INTAKE_RATE
    intake_confirm_ms: int = DEFAULT_INTAKE_CONFIRM_MS
    intake_contact: str = ""
    stores: tuple[Store, ...] = ()
    session_timeout_ms: int = DEFAULT_SESSION_TIMEOUT_MS
    transaction_timeout_ms: int = DEFAULT_SESSION_TIMEOUT_MS
    rebalance_timeout_ms: int = DEFAULT_REBALANCE_TIMEOUT_MS
    block_cache_bytes: int = DEFAULT_BLOCK_CACHE_BYTES
    fanout_inline_items: int = DEFAULT_FANOUT_INLINE_ITEMS
    fanout_slice_items: int = DEFAULT_FANOUT_SLICE_ITEMS
    batch_records: int = DEFAULT_BATCH_RECORDS
    grant_rate: int = DEFAULT_GRANT_RATE
    breaker_percent: float = DEFAULT_BREAKER_PERCENT
    breaker_users_min: int = DEFAULT_BREAKER_USERS_MIN
    breaker_window_s: int = DEFAULT_BREAKER_WINDOW_S
    # Handed on to librdkafka; not in `repr`, which ends up in logs, as it may hold secrets.
    kafka_options: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Self:
        """
        Return the settings *environ* holds; an empty variable counts as not set.

        Raises SettingsError with every problem found.
        """
        reader = _Reader(environ)
        topic_prefix = reader.get("TOPIC_PREFIX", "", values.topic_prefix)
        session_ms = reader.get("SESSION_TIMEOUT_MS", cls().session_timeout_ms, values.timeout_ms)
        http_host, http_port = reader.get("HTTP", values.address(DEFAULT_HTTP), values.address)
        settings = cls(
            bootstrap=reader.get("BOOTSTRAP", DEFAULT_BOOTSTRAP, values.addresses),
            topic_prefix=topic_prefix,
            group=reader.get("GROUP", f"{topic_prefix}objections", values.text),
            state_dir=reader.get("STATE_DIR", cls().state_dir, Path),
            standby=reader.get("STANDBY", cls().standby, values.switch),
            clock_offset_s=reader.get("CLOCK_OFFSET_S", 0.0, values.seconds),
            policy=reader.get("POLICY", None, Path),
            http_host=http_host,
            http_port=http_port,
            http_token=reader.get("HTTP_TOKEN", None, values.token),
            subject_key=reader.get("SUBJECT_KEY", None, values.subject_key),
            intake_http=reader.get("INTAKE_HTTP", cls().intake_http, values.address),
            intake_key=reader.get("INTAKE_KEY", (), values.keys),
            intake_proxies=reader.get("INTAKE_PROXIES", 0, values.count_from_0),
            intake_rate=reader.get("INTAKE_RATE", cls().intake_rate, values.count_from_1),
            intake_confirm_ms=reader.get(
                "INTAKE_CONFIRM_MS", cls().intake_confirm_ms, values.timeout_ms
            ),
            intake_contact=reader.get("INTAKE_CONTACT", "", values.contact),
            stores=reader.get("STORES", (), values.stores),
            session_timeout_ms=session_ms,
            transaction_timeout_ms=reader.get(
                "TRANSACTION_TIMEOUT_MS", session_ms, values.timeout_ms
            ),
            rebalance_timeout_ms=reader.get(
                "REBALANCE_TIMEOUT_MS",
                max(DEFAULT_REBALANCE_TIMEOUT_MS, session_ms),
                values.timeout_ms,
            ),
            block_cache_bytes=reader.get(
                "BLOCK_CACHE_BYTES", cls().block_cache_bytes, values.cache_bytes
            ),
            fanout_inline_items=reader.get(
                "FANOUT_INLINE_ITEMS", cls().fanout_inline_items, values.count_from_0
            ),
            fanout_slice_items=reader.get(
                "FANOUT_SLICE_ITEMS", cls().fanout_slice_items, values.count_from_1
            ),
            batch_records=reader.get("BATCH_RECORDS", cls().batch_records, values.count_from_1),
            grant_rate=reader.get("GRANT_RATE", cls().grant_rate, values.count_from_1),
            breaker_percent=reader.get("BREAKER_PERCENT", cls().breaker_percent, values.percent),
            breaker_users_min=reader.get(
                "BREAKER_USERS_MIN", cls().breaker_users_min, values.count_from_1
            ),
            breaker_window_s=reader.get(
                "BREAKER_WINDOW_S", cls().breaker_window_s, values.count_from_1
            ),
            kafka_options=reader.kafka_options(),
        )
        problems = [*reader.unknown(), *reader.problems]
        if not reader.problems:
            problems += settings.contradictions()
        if problems:
            raise SettingsError(problems)
        return settings

    def contradictions(self) -> list[str]:
        """Return what does not fit together, one line each; empty is well."""
        found = []
        if self.transaction_timeout_ms > self.session_timeout_ms:
            found.append(
                f"OBJECTIONS_TRANSACTION_TIMEOUT_MS is {self.transaction_timeout_ms}, expected at "
                f"most OBJECTIONS_SESSION_TIMEOUT_MS ({self.session_timeout_ms}): a dead worker's "
                "transaction must not hold up the one that takes over."
            )
        if self.rebalance_timeout_ms < self.session_timeout_ms:
            found.append(
                f"OBJECTIONS_REBALANCE_TIMEOUT_MS is {self.rebalance_timeout_ms}, expected at "
                f"least OBJECTIONS_SESSION_TIMEOUT_MS ({self.session_timeout_ms})."
            )
        return found

    def topic(self, name: str) -> str:
        """Return the full name of the contract's topic *name* (`objections`) on this cluster."""
        return f"{self.topic_prefix}{name}"

    def subjects(self) -> Subjects:
        """Return how users are named in state and outputs; whoever asks keeps it."""
        return Subjects(self.subject_key)

    def kafka(self, **extra: object) -> dict[str, Any]:
        """
        Return the configuration of a Kafka client; *extra* wins over the environment's options.

        Names in *extra* are librdkafka's, also with `_` for `.`: `kafka(group_id="x")`.
        Callbacks (`error_cb`) and `logger` are the Python client's and keep their names.
        """
        options: dict[str, Any] = {
            "bootstrap.servers": self.bootstrap,
            # The default, "rebootstrap", leaves a transactional producer of librdkafka 2.16 with a
            # dead handle after all brokers were away: its next transaction never ends.
            "metadata.recovery.strategy": "none",
        }
        options.update(self.kafka_options)
        options.update({_option_name(name): value for name, value in extra.items()})
        return options

    def shown_kafka_options(self) -> dict[str, str]:
        """Return the options handed on to librdkafka, fit for logs: secrets are masked."""
        return {
            name: "(hidden)" if is_secret(name) else value for name, value in self.kafka_options
        }


def _option_name(name: str) -> str:
    return name if name.endswith("_cb") or name == "logger" else name.replace("_", ".")


def is_secret(option: str) -> bool:
    """Return whether librdkafka's *option* may hold a secret; doubtful ones count as such."""
    return any(word in option for word in _SECRET_WORDS)


class _Reader:
    """Takes variables out of an environment and collects what is wrong with them."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._given = {
            name: value.strip()
            for name, value in environ.items()
            if name.startswith(PREFIX) and value.strip()
        }
        self.problems: list[str] = []

    def get(self, variable: str, default: T, parse: Callable[[str], T]) -> T:
        """Return the parsed value, or *default* if there is none or a wrong one is noted down."""
        assert variable in VARIABLES, f"{variable} is missing in VARIABLES"
        text = self._given.get(PREFIX + variable)
        if text is None:
            return default
        try:
            return parse(text)
        except ValueError as error:
            found = "hidden" if variable in _SECRET_VARIABLES else repr(text)
            self.problems.append(f"{PREFIX}{variable} is {found}, expected {error}.")
            return default

    def kafka_options(self) -> tuple[tuple[str, str], ...]:
        """Return what goes on to librdkafka: OBJECTIONS_KAFKA_SASL_USERNAME is sasl.username."""
        options = []
        for variable, value in sorted(self._given.items()):
            if not variable.startswith(KAFKA_PREFIX):
                continue
            name = variable.removeprefix(KAFKA_PREFIX).lower().replace("_", ".")
            if not name:
                self.problems.append(f"{variable} names no option of librdkafka.")
            elif name in _OWN_VARIABLE:
                self.problems.append(f"{variable} is not handed on: set {_OWN_VARIABLE[name]}.")
            elif name in _FIXED:
                self.problems.append(
                    f"{variable} cannot be set: the service's promises rest on its own {name}."
                )
            else:
                options.append((name, value))
        return tuple(options)

    def unknown(self) -> list[str]:
        """Return a line for each variable nobody reads: a misspelt one must not pass unseen."""
        known = [PREFIX + name for name in VARIABLES]
        lines = []
        for variable in sorted(self._given):
            if variable in known or variable.startswith(KAFKA_PREFIX):
                continue
            near = get_close_matches(variable, known, n=1, cutoff=_NEAR_ENOUGH)
            remedy = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}."
            lines.append(f"{variable} is not a setting; {remedy}")
        return lines
