"""
Which state of the topics something stands for: a filtered data set, or a stored index.

Beside every data set lies `OUT.positions.json`.  It is written last: a data set without it is not
finished.  Pure but for `read`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from streams.core.refusals import REFUSALS
from streams.core.times import rfc3339
from streams.errors import UsageProblem

SUFFIX: Final = ".positions.json"


class TopicPosition(Struct, frozen=True, rename={"offsets": "end_offsets"}):
    """
    name: in full, with its prefix.
    offsets: by partition number; everything below is accounted for.
    delete_retention_ms: how long Kafka keeps a tombstone at least; 0 where that is not known.
    """

    name: str
    topic_id: str
    offsets: list[int]
    delete_retention_ms: int


class Positions(Struct, frozen=True):
    """
    A place in both topics.

    noted_ms: when the ends were asked for, ms since 1970, by this machine's clock.
    topics: by their names in the contract.
    """

    cluster_id: str
    noted_ms: int
    topics: dict[str, TopicPosition]

    def offsets(self) -> dict[str, list[int]]:
        """Return the offsets of each topic by partition."""
        return {name: topic.offsets for name, topic in self.topics.items()}

    def topic_ids(self) -> tuple[str, dict[str, str]]:
        """Return the cluster's id and those of the topics: other ones are other topics."""
        return self.cluster_id, {name: topic.topic_id for name, topic in self.topics.items()}

    def contradiction(self, later: "Positions") -> str | None:
        """Return why *later* is not the same log further on, or None."""
        if self.cluster_id != later.cluster_id:
            return f"they were cluster {self.cluster_id}'s, and this is {later.cluster_id}"
        for name, topic in self.topics.items():
            other = later.topics[name]
            if topic.topic_id != other.topic_id:
                return f"topic {other.name} was made anew since ({topic.name}, {topic.topic_id})"
            if len(topic.offsets) > len(other.offsets):
                return f"topic {other.name} has fewer partitions than it had"
            for number, offset in enumerate(topic.offsets):
                if offset > other.offsets[number]:
                    return (
                        f"{other.name}/{number} ends at {other.offsets[number]}, "
                        f"before the stored position {offset}: it has lost records"
                    )
        return None

    def too_old(self, later: "Positions") -> str | None:
        """
        Return why tombstones after these positions may be gone by *later*, or None.

        Half of the retention is the limit, as for every reader that goes on from a position.
        """
        age_ms = later.noted_ms - self.noted_ms
        for name, topic in self.topics.items():
            retention_ms = min(topic.delete_retention_ms, later.topics[name].delete_retention_ms)
            if not 0 <= age_ms <= retention_ms // 2:
                return (
                    f"the positions are {age_ms // 1000} s old, and {topic.name} keeps tombstones "
                    f"for {retention_ms // 1000} s only"
                )
            if len(topic.offsets) != len(later.topics[name].offsets):
                return f"topic {topic.name} has got more partitions"
        return None


class File(Struct, frozen=True):
    """One file of a data set: its name in the folder, or the data set's own."""

    name: str
    sha256: str
    rows: int


class Rows(Struct, kw_only=True):
    """How many rows came, stayed, and why the others did not."""

    read: int = 0
    kept: int = 0
    purged: int = 0
    account_locked: int = 0
    unknown: int = 0
    malformed: int = 0

    @property
    def dropped(self) -> int:
        """How many rows did not stay."""
        return self.read - self.kept


class DataSet(Struct, frozen=True, kw_only=True):
    """What `OUT.positions.json` holds."""

    tool: str
    filtered_at: str
    column: str
    delimiter: str | None
    format: str | None
    positions: Positions
    rows: Rows
    files: list[File]


def beside(out: Path) -> Path:
    """Return where the positions of data set *out* lie."""
    return out.with_name(out.name + SUFFIX)


def encode(data_set: DataSet) -> bytes:
    """Return *data_set* as people and machines read it."""
    rows = data_set.rows
    content: dict[str, Any] = {
        "tool": data_set.tool,
        "filtered_at": data_set.filtered_at,
        "positions_noted_at": rfc3339(data_set.positions.noted_ms),
        **msgspec.to_builtins(data_set.positions),
        "column": data_set.column,
        "delimiter": data_set.delimiter,
        "format": data_set.format,
        "rows": {
            "read": rows.read,
            "kept": rows.kept,
            "dropped": {
                "purged": rows.purged,
                "account_locked": rows.account_locked,
                "unknown": rows.unknown,
                "malformed": rows.malformed,
            },
        },
        "files": msgspec.to_builtins(data_set.files),
    }
    if len(data_set.files) == 1:
        content["sha256"] = data_set.files[0].sha256
    return msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n"


def decode(data: bytes) -> DataSet:
    """Return what `encode` wrote; raises REFUSALS, TypeError or KeyError."""
    content = msgspec.json.decode(data)
    if not isinstance(content, Mapping):
        message = "expected a JSON object"
        raise TypeError(message)
    rows = content["rows"]
    return msgspec.convert(
        {**content, "positions": content, "rows": {**rows, **rows["dropped"]}}, DataSet
    )


def read(path: Path) -> DataSet:
    """Return what the positions file *path* holds; raises UsageProblem."""
    try:
        return decode(path.read_bytes())
    except (OSError, KeyError, TypeError, *REFUSALS) as error:
        why = f"{type(error).__name__}: {error}"
        message = (
            f"{path} cannot be read as the positions of a data set ({why}). Expected the file that "
            "`objections filter MANIFEST -o OUT` writes last, beside OUT. Remedy: filter the "
            "manifest again."
        )
        raise UsageProblem(message) from error
