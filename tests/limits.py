"""
A core that keeps little of one user or item, so that a few records reach its limits.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from streams.core import item as items
from streams.core import links, refs
from streams.core import user as users


@contextmanager
def limits(number: int) -> Iterator[None]:
    """Let as many of each be kept."""
    with (
        patch.multiple(
            users,
            DEAD_LETTERS_MAX=number,
            RESOLVED_MAX=2 * number,
            OBJECTIONS_MAX=number,
            NOTICES_MAX=number,
            STATEMENTS_MAX=number,
        ),
        patch.multiple(links, LINKS_MAX=number, INHERITED_MAX=number, FILED_MAX=number),
        patch.object(items, "DEAD_LETTERS_MAX", number),
        patch.object(refs, "PARTITIONS_MAX", number + 1),
    ):
        yield
