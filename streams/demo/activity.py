"""
The bundled real activity: who wrote what kind of item, and when.  See ORIGIN.md.
"""

import csv
import gzip
from collections import Counter
from collections.abc import Iterable
from importlib.resources import files
from random import Random
from typing import Final, NamedTuple

FILE: Final = "activity-small.csv.gz"
# Chosen so that the largest account may be used at first, and has something to lose.
SEED: Final = "objection-streams"


class Activity(NamedTuple):
    """One item as it was really written."""

    user_id: str
    content_id: str
    kind: str
    created_at: str


def read_activity() -> list[Activity]:
    """Return the bundled rows, ordered by their times."""
    packed = files(__package__).joinpath(FILE).read_bytes()
    rows = csv.DictReader(gzip.decompress(packed).decode().splitlines())
    return [
        Activity(row["user_id"], row["content_id"], row["kind"], row["created_at"]) for row in rows
    ]


def by_size(activity: Iterable[Activity]) -> list[str]:
    """Return the accounts, the largest first."""
    return [user_id for user_id, _ in Counter(each.user_id for each in activity).most_common()]


def chance(*about: str) -> Random:
    """Return dice that fall the same for the same words in every run."""
    return Random("/".join((SEED, *about)))
