"""
The rows of a partition's receipts: the store, and above it what is not persisted yet.

Receipts that were lately changed are kept decoded, as the stores soon have more to say of them.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final, NamedTuple

import msgspec

from streams.core import receipts
from streams.core.outputs import Header, Output
from streams.core.receipts import Offsets, ReceiptRow
from streams.state import rows
from streams.state.store import Row, Store
from streams.worker.names import RECEIPTS

RECENT_MAX: Final = 4_000

_encode: Final = msgspec.json.Encoder().encode


class Told(NamedTuple):
    """
    A receipt whose last outputs are committed, as of its *records*; targets are still to be found.

    with_stores: whether it needs targets.  targets: None until it is known where outputs end.
    """

    key: bytes
    records: int
    with_stores: bool
    at_ms: int
    targets: Offsets | None


class Part:
    """
    What a cycle changed in the receipts, and publishes of them.

    before: the rows as they were.  numbers: those given, with the keys of their rows.
    committing: receipts of which the last outputs are in this cycle.
    """

    def __init__(self) -> None:
        self.outputs: list[Output] = []
        self.users_rows: list[Row] = []
        self.local_rows: list[Row] = []
        self.rows: dict[bytes, ReceiptRow | None] = {}
        self.before: dict[bytes, ReceiptRow | None] = {}
        self.numbers: dict[int, bytes] = {}
        self.to_publish: dict[bytes, None] = {}
        self.committing: list[Told] = []


class ReceiptRows:
    """
    The receipts in *store* and in cycles under way; *now* is the cycle being folded.

    headers: of the records.
    """

    def __init__(self, store: Store, headers: Sequence[Header] = ()) -> None:
        self.store = store
        self._headers = list(headers)
        self.now = Part()
        self.layers: deque[Part] = deque()
        self._recent: dict[bytes, ReceiptRow] = {}  # as in the store

    def get(self, key: bytes) -> ReceiptRow | None:
        """Return the row of *key* as of now."""
        if key in self.now.rows:
            return self.now.rows[key]
        for layer in reversed(self.layers):
            if key in layer.rows:
                return layer.rows[key]
        if (row := self._recent.get(key)) is not None:
            return row
        data = self.store.get(key)
        return None if data is None else rows.decode_receipt(data)

    def put(
        self, key: bytes, before: ReceiptRow | None, row: ReceiptRow, *, publish: bool = True
    ) -> None:
        """Let *row* take the place of *before*, in the cycle being folded."""
        now = self.now
        if key not in now.rows:
            now.before[key] = before
        now.rows[key] = row
        if publish:
            now.to_publish[key] = None

    def numbered(self, after: int) -> Iterator[tuple[int, bytes, ReceiptRow | None]]:
        """Yield published receipts behind number *after*; None for a number of no row any more."""
        start = rows.receipt_number_key(after)[1:]
        for number_key, row_key in self.store.scan(rows.RECEIPT_NUMBER, start):
            yield self._with_row(rows.receipt_number_of(number_key), row_key)
        for layer in (*self.layers, self.now):
            for number, row_key in list(layer.numbers.items()):
                if number > after:
                    yield self._with_row(number, row_key)

    def _with_row(self, number: int, key: bytes) -> tuple[int, bytes, ReceiptRow | None]:
        row = self.get(key)
        if row is None or row.number != number:
            self.now.local_rows.append((rows.receipt_number_key(number), None))
            return number, key, None
        return number, key, row

    def unpublished(self) -> Iterator[tuple[bytes, ReceiptRow]]:
        """Yield the receipts in the store that are not published yet."""
        for key, _ in self.store.scan(rows.RECEIPT_OPEN):
            row = self.get(key[1:])
            if row is not None and not row.published_ms:
                yield key[1:], row

    def of_user(self, user_id: str) -> Iterator[tuple[bytes, ReceiptRow]]:
        """Yield the receipts of a user."""
        prefix = rows.receipts_prefix(user_id)
        keys = {key for key, _ in self.store.scan(prefix)}
        for layer in (*self.layers, self.now):
            keys.update(key for key in layer.rows if key.startswith(prefix))
        for key in keys:
            row = self.get(key)
            if row is not None:
                yield key, row

    def finish(self) -> Part:
        """Return the cycle being folded with its rows and records made; another begins."""
        part, self.now = self.now, Part()
        for key in part.to_publish:
            row = part.rows[key]
            assert row is not None
            receipt = receipts.record(*rows.receipt_of(key), row)
            part.outputs.append(
                Output(RECEIPTS, receipt.key.encode(), _encode(receipt), self._headers)
            )
        for key, row in part.rows.items():
            kept = None if row is None or (row.forget and row.completed_ms) else row
            part.rows[key] = kept
            part.users_rows.append((key, None if kept is None else rows.encode_receipt(kept)))
            part.local_rows += _index_rows(key, part.before[key], kept)
        self.layers.append(part)
        return part

    def persisted(self, part: Part) -> None:
        """Note that *part*, the oldest layer, is in the store."""
        assert self.layers[0] is part
        self.layers.popleft()
        for key, row in part.rows.items():
            self._recent.pop(key, None)
            if row is not None:
                self._recent[key] = row
        for key in list(islice(self._recent, max(len(self._recent) - RECENT_MAX, 0))):
            del self._recent[key]

    def roll_back(self) -> None:
        """Forget all that is not persisted."""
        self.layers.clear()
        self.now = Part()


def _index_rows(key: bytes, before: ReceiptRow | None, after: ReceiptRow | None) -> list[Row]:
    """Return what changes in the rows that find a receipt."""
    old = None if before is None else rows.receipt_index(key, before)
    new = None if after is None else rows.receipt_index(key, after)
    if old == new:
        return []
    found: list[Row] = []
    if old is not None and (new is None or new[0] != old[0]):
        found.append((old[0], None))
    if new is not None:
        found.append(new)
    return found
