"""
Which key a partition's state names users by: noted with its first users, compared at take-over.

A state without the note has users by their ids; where the state is lost, the outputs tell.  So no
worker adds users by another key, or none.
"""

import threading
from collections.abc import Mapping

from confluent_kafka import Consumer

from streams.core.subjects import Subjects
from streams.settings import Settings
from streams.state import rows
from streams.state.store import Row, Store
from streams.worker.committed import first_committed
from streams.worker.names import ELIGIBILITY, USERS_CHANGELOG


def check_naming(settings: Settings, subjects: Subjects, number: int, store: Store) -> bool:
    """
    Raise UsageProblem where *store*, of partition *number*, names users by another key.

    Return whether it names any.
    """
    data = store.get(rows.SUBJECTS_KEY)
    if data is None and next(iter(store.scan(rows.USER)), None) is None:
        return False
    found = "" if data is None else rows.decode_text(data)
    subjects.check(found, f"{settings.topic(USERS_CHANGELOG)}/{number}")
    return True


def check_outputs(
    settings: Settings,
    subjects: Subjects,
    consumer: Consumer,
    ends: Mapping[int, int],
    cancelled: threading.Event,
) -> None:
    """Raise UsageProblem where `eligibility` up to *ends* names users by another key."""
    name = settings.topic(ELIGIBILITY)
    for number, end in ends.items():
        message = first_committed(settings, consumer, (name, number), end, cancelled)
        if message is not None:  # one tells of all
            subjects.check_record(message.headers(), f"{name}/{number}/{message.offset()}")


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
