"""
A URL -> a sink.  `SINKS` is the table people look up; clients are imported when they are needed.

A store on a disk is a path: `sqlite:///var/lib/features.sqlite`, or `sqlite:features.sqlite` from
where the command runs; one elsewhere has a scheme of its own behind a plus sign
(`delta+s3://bucket/table`).  Servers are named as their own clients name them.
`?erase_every_s=60` sets how often a store erases what it has purged, for all of them.
"""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from streams.errors import UsageProblem
from streams.sinks.sink import Sink


class Kind(NamedTuple):
    """
    What a scheme stands for.

    target: module and class.
    extra: what to install for it; None where nothing is needed.
    takes: "path" of a file or folder, "url", or "catalog" for one in SQLite in a folder, and it.
    beside: it can erase while it writes.
    meaning: for `--help`.
    """

    target: str
    extra: str | None
    takes: str
    beside: bool
    meaning: str


SINKS: Final[Mapping[str, Kind]] = {
    "redis": Kind("streams.sinks.redis:RedisSink", "redis", "url", True, "Redis hashes"),
    "rediss": Kind("streams.sinks.redis:RedisSink", "redis", "url", True, "the same, by TLS"),
    "feast+redis": Kind(
        "streams.sinks.feast:FeastSink", "feast", "url", True, "the Redis online store of Feast"
    ),
    "feast+rediss": Kind("streams.sinks.feast:FeastSink", "feast", "url", True, "the same, by TLS"),
    "postgresql": Kind(
        "streams.sinks.postgres:PostgresSink", "postgres", "url", True, "PostgreSQL, pgvector"
    ),
    "sqlite": Kind("streams.sinks.sqlite:SqliteSink", None, "path", False, "an SQLite file"),
    "delta": Kind("streams.sinks.delta:DeltaSink", "delta", "path", False, "Delta Lake tables"),
    "iceberg": Kind(
        "streams.sinks.iceberg:IcebergSink", "iceberg", "catalog", False, "Apache Iceberg tables"
    ),
    "lancedb": Kind("streams.sinks.lance:LanceSink", "lancedb", "path", False, "LanceDB"),
    "parquet": Kind(
        "streams.sinks.parquet:ParquetSink", "parquet", "path", False, "Parquet manifests"
    ),
}


def kind_of(url: str) -> Kind:
    """Return what *url* names; raises UsageProblem."""
    scheme = url.partition(":")[0]
    kind = SINKS.get(scheme) or SINKS.get(scheme.partition("+")[0])
    if kind is None or ":" not in url:
        message = (
            f"the sink {_shown(url)} is of no known kind; expected one of "
            f"{', '.join(f'{name}:' for name in SINKS)} and where it is, as in "
            "sqlite:features.sqlite or redis://127.0.0.1:6379/0"
        )
        raise UsageProblem(message)
    return kind


def make_sink(url: str) -> Sink:
    """
    Return the sink that *url* names, not yet opened.

    Raises UsageProblem with the extra to install where the client is missing, and for a URL that
    cannot be read.
    """
    kind = kind_of(url)
    bare, options = _split(url)
    module, _, name = kind.target.partition(":")
    try:
        factory: Any = getattr(import_module(module), name)
    except ImportError as error:
        if kind.extra is None or (error.name or "").startswith("streams"):
            message = f"this version has no sink for {url.partition(':')[0]}: ({error})"
        else:
            message = (
                f"the sink {_shown(url)} needs more than the service itself ({error.name} is "
                f"missing): pip install 'objection-streams[{kind.extra}]'"
            )
        raise UsageProblem(message) from error
    sink: Sink = factory(*_arguments(kind, bare), **options)
    return sink


def place_of(url: str) -> Path | None:
    """Return the file or folder on this machine that *url* names; None where it is none."""
    kind = kind_of(url)
    if kind.takes == "url" or "+" in url.partition(":")[0]:
        return None
    return Path(_path(_split(url)[0])).expanduser()


def shown(url: str) -> str:
    """Return *url* for people, without its password."""
    return _shown(url)[1:-1]


def make_eraser(url: str) -> Sink | None:
    """Return another sink on the same store that erases beside the first, where that helps."""
    return make_sink(url) if kind_of(url).beside else None


def _split(url: str) -> tuple[str, dict[str, float]]:
    """Return *url* without the options that all sinks have, and these."""
    try:
        parts = urlsplit(url)
        query = parse_qsl(parts.query, keep_blank_values=True)
        ours = [value for name, value in query if name == "erase_every_s"]
        options = {"erase_every_s": float(ours[-1])} if ours else {}
    except ValueError as error:
        raise UsageProblem(f"the sink {_shown(url)} cannot be read: {error}") from error
    rest = urlencode([(name, value) for name, value in query if name != "erase_every_s"])
    if not ours:
        return url, options
    return urlunsplit(parts._replace(query=rest)), options


def _arguments(kind: Kind, url: str) -> tuple[str, ...]:
    if kind.takes == "url":
        return (url,)
    path = _path(url)
    return (path,) if kind.takes == "path" else (f"sqlite:///{path}/catalog.db", path)


def _path(url: str) -> str:
    scheme, _, rest = url.partition(":")
    elsewhere = scheme.partition("+")[2]
    if elsewhere:
        return f"{elsewhere}:{rest}"
    path = urlsplit(url).path if rest.startswith("//") else rest
    if not path.strip("/") or (rest.startswith("//") and urlsplit(url).netloc):
        message = (
            f"the sink {_shown(url)} names no path; expected {scheme}:///absolute/path or "
            f"{scheme}:relative/path"
        )
        raise UsageProblem(message)
    return path


def _shown(url: str) -> str:
    """Return *url* without its password."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return repr(url)
    if parts.password is None:
        return repr(url)
    return repr(url.replace(f":{parts.password}@", ":(hidden)@"))
