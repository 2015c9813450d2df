"""
Which key a partition's state names users by: noted with its first users, compared at take-over.

A state without the note has users by their ids.  So no worker adds users by another key, or none.
"""

from streams.core.subjects import Subjects
from streams.settings import Settings
from streams.state import rows
from streams.state.store import Row, Store
from streams.worker.names import USERS_CHANGELOG


def check_naming(settings: Settings, subjects: Subjects, number: int, store: Store) -> None:
    """Raise UsageProblem where *store*, of partition *number*, names users by another key."""
    data = store.get(rows.SUBJECTS_KEY)
    if data is None and next(iter(store.scan(rows.USER)), None) is None:
        return
    found = "" if data is None else rows.decode_text(data)
    subjects.check(found, f"{settings.topic(USERS_CHANGELOG)}/{number}")


class NamingNote:
    """The row that says which key names the users of *store*, until it is there."""

    def __init__(self, store: Store, subjects: Subjects) -> None:
        self._due: list[Row] = []
        if store.get(rows.SUBJECTS_KEY) is None:
            self._due = naming_rows(subjects)

    def rows(self) -> list[Row]:
        """Return what is to be written with users' rows."""
        return self._due

    def persisted(self, written: list[Row]) -> None:
        """Note that *written* are in the store."""
        if self._due and self._due[0] in written:
            self._due = []


def naming_rows(subjects: Subjects) -> list[Row]:
    """Return the row by which a state says which key it has; none for ids as they are."""
    if not subjects.keyed:
        return []
    return [(rows.SUBJECTS_KEY, rows.encode_text(subjects.fingerprint))]
