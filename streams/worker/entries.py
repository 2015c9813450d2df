"""
The records of an intake, one by one, into the fold and to the receipts.
"""

from typing import Final

from streams.core.decode import ItemFacts, UserFacts
from streams.core.fold import Fold
from streams.state.view import View
from streams.worker.folded import Handled
from streams.worker.intake import Entry, Intake
from streams.worker.names import ACCOUNT_AGES, ACCOUNT_LINKS, CONTENT, OBJECTIONS, WITH_LINKS
from streams.worker.receipts import Receipts

_ORDER: Final = WITH_LINKS.all


class Entries:
    """
    Folds intakes of one partition.

    positions: where the inputs stood before, by their names in the contract: a release of the
    breaker lets go what waited for records below.
    """

    def __init__(
        self,
        fold: Fold,
        view: View,
        receipts: Receipts,
        positions: dict[str, int],
        number: int,
        now_ms: int,
    ) -> None:
        self._fold = fold
        self._view = view
        self._receipts = receipts
        self._positions = positions
        self._number = number
        self._now_ms = now_ms

    def fold(self, intake: Intake) -> Handled:
        """Fold all entries; return what became of them."""
        applied = 0
        for entry in intake.entries:
            if self._fold_entry(intake.topic, entry):
                applied += 1
        bad = len(intake.dead_letters)
        received_ms = [entry.origin.received_ms for entry in intake.entries]
        return Handled(intake.topic, applied, len(received_ms) - applied - bad, bad, received_ms)

    def _fold_entry(self, topic: str, entry: Entry) -> bool:
        """Fold one record; return whether it is a good one that told anything new."""
        fold, origin, event = self._fold, entry.origin, entry.event
        if isinstance(event, ItemFacts):
            applied = fold.item_record(event, origin)
            if entry.resolves is not None:
                fold.resolution(event.user_id, entry.resolves, origin)
        elif isinstance(event, UserFacts):
            if event.facts.objections:
                return self._fold_objection(event, entry)
            applied = fold.user_record(event, origin)
            if event.release is not None and event.release.partition == self._number:
                below = self._positions_before(entry)
                applied = fold.release(event.release.trip_ms, below) or applied
        else:
            user_id, content_id = event.user_id, event.content_id
            if user_id is None:
                return False
            if topic == CONTENT:
                fold.bad_item_record(user_id, content_id, origin.offset, origin)
            else:
                fold.bad_user_record(user_id, _restricting_ref(topic, entry), origin)
            return False
        return applied

    def _fold_objection(self, event: UserFacts, entry: Entry) -> bool:
        user_id, origin = event.user_id, entry.origin
        change = self._fold.users.get(user_id)
        before = self._view.user(user_id) if change is None else change.after
        applied = self._fold.user_record(event, origin)
        after = self._fold.users[user_id].after
        objections = event.facts.objections
        self._receipts.hear(user_id, objections, origin, before, after, self._now_ms)
        return applied

    def _positions_before(self, entry: Entry) -> dict[str, int]:
        """Return what lay before *entry*, an objection, by topic's full name."""
        topic = entry.origin.topic
        prefix = topic.removesuffix(OBJECTIONS)
        positions = {f"{prefix}{name}": offset for name, offset in self._positions.items()}
        return {**positions, topic: entry.origin.offset}


def objections_first(intake: Intake) -> int:
    """Return the rank of *intake* in the order of folding."""
    return _ORDER.index(intake.topic)


def _restricting_ref(topic: str, entry: Entry) -> str | None:
    """Return the dead letter that restricts the user; bad notices restrict nobody."""
    origin = entry.origin
    if topic not in (OBJECTIONS, ACCOUNT_AGES, ACCOUNT_LINKS):
        return None
    return f"{origin.topic}/{origin.partition}/{origin.offset}"
