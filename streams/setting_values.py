"""
How the text of a setting becomes a value.

Every function takes the text and returns the value.
Each raises ValueError whose message completes the sentence "expected ...".
"""

import math
import re
from dataclasses import dataclass

_TIMEOUT_MS_MIN = 1_000  # librdkafka's least transaction timeout
_TIMEOUT_MS_MAX = 1_800_000  # Kafka's default for the longest session
_CACHE_BYTES_MIN = 1024 * 1024
_COUNT_MAX = 1_000_000
_TOPIC_PREFIX_LENGTH_MAX = 200  # Kafka's 249 for a name, less our longest one and some room
_PORT_MAX = 65_535

# Output topics a data store can follow.  Source: contract.md, "Topics" and "Settings".
STORE_TOPICS = ("eligibility", "training-users", "training-content")

_NAME = re.compile(r"[A-Za-z0-9._-]+")
_TOKEN_LENGTH_MIN = 16
_KEY_LENGTH_MIN = 32  # of HMAC-SHA-256, as RFC 7518 asks
_CONTACT = re.compile(r"(https://|mailto:)[^\s<>\"]+")
_TOKEN = re.compile(rf"[A-Za-z0-9._~+/=-]{{{_TOKEN_LENGTH_MIN},}}")  # as RFC 6750 has them


@dataclass(frozen=True, slots=True)
class Store:
    """
    A data store whose progress the receipts tell.

    topics: the outputs it follows, without the prefix.
    group: the consumer group whose committed offsets count as `hidden`; None if it writes acks.
    """

    name: str
    topics: tuple[str, ...]
    group: str | None = None


def text(value: str) -> str:
    """Return any text."""
    return value


def token(value: str) -> str:
    """Return a secret that goes into an HTTP header, too long to be guessed."""
    if not _TOKEN.fullmatch(value):
        message = (
            f"at least {_TOKEN_LENGTH_MIN} letters, digits or -._~+/= (make one with "
            "`openssl rand -hex 32`)"
        )
        raise ValueError(message)
    return value


def subject_key(value: str) -> str:
    """Return a key for pseudonyms, too long to be guessed: whoever has it can try all ids."""
    if len(value) < _KEY_LENGTH_MIN:
        message = (
            f"at least {_KEY_LENGTH_MIN} characters, at random (make one with "
            "`openssl rand -hex 32`)"
        )
        raise ValueError(message)
    return value


def keys(value: str) -> tuple[str, ...]:
    """Return the secrets that sign links: the first signs, all are believed."""
    found = tuple(each.strip() for each in value.split(","))
    if not all(len(each) >= _KEY_LENGTH_MIN and _TOKEN.fullmatch(each) for each in found):
        message = (
            f"secrets of at least {_KEY_LENGTH_MIN} letters, digits or -._~+/=, separated by "
            "commas (make one with `openssl rand -hex 32`)"
        )
        raise ValueError(message)
    return found


def contact(value: str) -> str:
    """Return where people may ask: an address of the web or of mail."""
    if not _CONTACT.fullmatch(value):
        message = "https://..., or mailto:..."
        raise ValueError(message)
    return value


def topic_prefix(value: str) -> str:
    """Return the start of a topic's name, in Kafka's characters."""
    if not _NAME.fullmatch(value) or len(value) > _TOPIC_PREFIX_LENGTH_MAX:
        message = (
            f"at most {_TOPIC_PREFIX_LENGTH_MAX} letters, digits, dots, underscores and hyphens"
        )
        raise ValueError(message)
    return value


def address(value: str, port_min: int = 0) -> tuple[str, int]:
    """Return host and port of `host:port` or `[::1]:port`."""
    host, colon, port = value.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    bare_ipv6 = ":" in host and not value.startswith("[")
    if not (colon and host and port.isascii() and port.isdigit()) or bare_ipv6:
        message = "HOST:PORT, such as 127.0.0.1:9092"
        raise ValueError(message)
    if not port_min <= int(port) <= _PORT_MAX:
        message = f"a port from {port_min} to {_PORT_MAX}"
        raise ValueError(message)
    return host, int(port)


def addresses(value: str) -> str:
    """Return a list of Kafka brokers as librdkafka takes it: HOST:PORT,HOST:PORT."""
    brokers = [broker.strip() for broker in value.split(",")]
    for broker in brokers:
        address(broker, port_min=1)
    return ",".join(brokers)


def seconds(value: str) -> float:
    """Return a finite number of seconds, which may be negative."""
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        message = "a number of seconds, such as 86400 or -0.5"
        raise ValueError(message)
    return number


def timeout_ms(value: str) -> int:
    """Return a time-out that both Kafka and librdkafka accept."""
    return _whole(value, _TIMEOUT_MS_MIN, _TIMEOUT_MS_MAX, "milliseconds")


def cache_bytes(value: str) -> int:
    """Return a size of at least a mebibyte, below which a cache holds next to nothing."""
    return _whole(value, _CACHE_BYTES_MIN, 2**40, "bytes")


def count_from_0(value: str) -> int:
    """Return how many, where none is an answer."""
    return _whole(value, 0, _COUNT_MAX, "")


def count_from_1(value: str) -> int:
    """Return how many, where none would be standstill."""
    return _whole(value, 1, _COUNT_MAX, "")


def switch(value: str) -> bool:
    """Return whether something is on."""
    if value not in ("on", "off"):
        message = "on or off"
        raise ValueError(message)
    return value == "on"


def percent(value: str) -> float:
    """Return a share in percent."""
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 <= number <= 100:
        message = "a share in percent from 0 to 100, such as 5 or 0.5"
        raise ValueError(message)
    return number


def stores(value: str) -> tuple[Store, ...]:
    """
    Return the stores of `feature-store=training-users;index=group:connect-es:training-content`.

    Topics are joined by `+`.  A group may itself hold colons: its topics follow the last one.
    """
    found: dict[str, Store] = {}
    for entry in filter(None, (part.strip() for part in value.split(";"))):
        store = _store(entry)
        if store.name in found:
            message = f"each store once, but {store.name!r} comes twice"
            raise ValueError(message)
        found[store.name] = store
    return tuple(found.values())


def _store(entry: str) -> Store:
    name, equals, follows = (part.strip() for part in entry.partition("="))
    if not equals or not _NAME.fullmatch(name):
        message = (
            "NAME=TOPIC+TOPIC or NAME=group:GROUP:TOPIC, separated by semicolons, "
            f"and {entry!r} is neither"
        )
        raise ValueError(message)
    group = None
    if follows.startswith("group:"):
        group, colon, follows = follows.removeprefix("group:").rpartition(":")
        if not colon or not group:
            message = f"group:GROUP:TOPIC after {name!r}, with a consumer group's name"
            raise ValueError(message)
    topics = tuple(topic.strip() for topic in follows.split("+"))
    for topic in topics:
        if topic not in STORE_TOPICS:
            message = f"topics out of {', '.join(STORE_TOPICS)}, and {name!r} follows {topic!r}"
            raise ValueError(message)
    if len(set(topics)) < len(topics):
        message = f"each topic of {name!r} once"
        raise ValueError(message)
    return Store(name, topics, group)


def _whole(value: str, least: int, most: int, unit: str) -> int:
    try:
        number = int(value)
    except ValueError:
        number = least - 1
    if not least <= number <= most:
        unit_of = f" of {unit}" if unit else ""
        message = f"a whole number{unit_of} from {least} to {most}"
        raise ValueError(message)
    return number
