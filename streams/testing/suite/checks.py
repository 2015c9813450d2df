"""
What all checks of a sink have in common.
"""

from collections.abc import Iterable
from typing import Final

import pytest

from streams.sinks.sink import Change
from streams.testing.output_log import FIELDS, Seen, seen, seen_of
from streams.testing.store import StoreUnderTest

SHORT: Final = 60  # changes of the invented logs


class SinkChecks:
    """
    Compares a store with the model of an invented log.

    fields: of an item, that the store keeps; at least its user, product and language.
    """

    fields: tuple[str, ...] = FIELDS

    @pytest.fixture
    def store(self) -> StoreUnderTest:
        raise NotImplementedError("a subclass of SinkTests needs the fixture `store`")

    def check(self, store: StoreUnderTest, changes: Iterable[Change]) -> None:
        """Compare what can be found with the model of *changes*."""
        assert self.only(seen_of(changes)) == self.only(seen(store.usable()))

    def only(self, rows: Seen) -> Seen:
        """Return *rows* with the fields that this store keeps."""
        columns = [FIELDS.index(name) for name in self.fields]
        return {key: tuple(row[column] for column in columns) for key, row in rows.items()}
