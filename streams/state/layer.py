"""
What one cycle changed in a partition, decoded, and the rows that this makes.
"""

from collections.abc import Mapping

from streams.core.changes import UserRow
from streams.core.fanout import Job
from streams.core.item import Item
from streams.state import rows
from streams.state.store import Row


class Layer:
    """
    What one cycle changed; None for what it removed.

    dead_letters: content ids by (user_id, offset of an unreadable record of the item).
    """

    def __init__(self) -> None:
        self.users: dict[str, UserRow] = {}
        self.items: dict[str, dict[bytes, Item | None]] = {}
        self.jobs: dict[str, Job | None] = {}
        self.dead_letters: dict[tuple[str, int], str | None] = {}

    def users_rows(self) -> list[Row]:
        """Return the rows for the users' changelog."""
        found: list[Row] = [
            (rows.user_key(user_id), rows.encode_user(row)) for user_id, row in self.users.items()
        ]
        for user_id, job in self.jobs.items():
            found.append((rows.job_key(user_id), None if job is None else rows.encode_job(job)))
        for (user_id, offset), content_id in self.dead_letters.items():
            data = None if content_id is None else rows.encode_text(content_id)
            found.append((rows.dead_letter_key(user_id, offset), data))
        return found

    def content_rows(self) -> list[Row]:
        """Return the rows for the items' changelog."""
        found: list[Row] = []
        for user_id, of_user in self.items.items():
            prefix = rows.items_prefix(user_id)
            for content_id, item in of_user.items():
                data = None if item is None else rows.encode_item(item)
                found.append((prefix + content_id, data))
        return found


def position_rows(positions: Mapping[str, int]) -> list[Row]:
    """Return the rows that say how far inputs are folded; by their names in the contract."""
    return [
        (rows.position_key(topic), rows.encode_number(offset))
        for topic, offset in positions.items()
    ]
