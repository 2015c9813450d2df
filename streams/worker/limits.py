"""
Says so when as much is known of a user or an item as is kept: from then on what is not restricts.

No ids: `objections dead-letters list` and `explain` name whom it is about.
"""

import logging
from collections import Counter
from typing import Final

from streams.core.fold import Fold
from streams.core.item import DEAD_LETTERS_MAX
from streams.core.user import limits_reached
from streams.state.layer import Layer

logger = logging.getLogger(__name__)

_REMEDY: Final = {
    "dead letters": "mend what is to count and dismiss the rest: `objections dead-letters list`",
    "dead letters of an item": "mend or dismiss them, or send a good record of the item",
    "objections": "find out who files them; nothing but the account's deletion ends it",
    "linked accounts": "find out who links them; nothing but the account's deletion ends it",
    "objections on linked accounts": "find out who files and links; nothing ends it",
    "statements on age": "send one with a newer observed_at",
}


def tell_of_limits(number: int, fold: Fold, layer: Layer) -> None:
    """Warn of the users and items of partition *number* that a cycle has brought to a limit."""
    reached: Counter[str] = Counter()
    for change in fold.users.values():
        if change.before is not None and change.before.user is change.after.user:
            continue
        if names := limits_reached(change.after.user):
            before = () if change.before is None else limits_reached(change.before.user)
            reached.update(set(names).difference(before))
    if layer.dead_letters:
        reached["dead letters of an item"] = sum(
            item.after is not None
            and len(item.after.dead_letters) >= DEAD_LETTERS_MAX
            and (item.before is None or len(item.before.dead_letters) < DEAD_LETTERS_MAX)
            for item in fold.items.values()
        )
    for name, count in reached.items():
        if count:
            logger.warning(
                "partition %d: %d more with as many %s as are kept: all there may be besides "
                "restrict. Remedy: %s",
                number,
                count,
                name,
                _REMEDY[name],
            )
