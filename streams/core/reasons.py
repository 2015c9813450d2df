"""
The reasons against using data, and the words records use: each listed once.

Reasons are bits, so that a set of them is one integer, "no reason" is 0, and adding one is `|`.
Source: contract.md, "Decisions".
"""

from enum import IntFlag
from functools import lru_cache
from typing import Final


class Reason(IntFlag):
    """Why a user's data in a product, or one item, may not be used."""

    OBJECTION = 1
    UNDER_AGE = 2
    AGE_UNKNOWN = 4
    COUNTRY_NOT_COVERED = 8
    NOTICE_PENDING = 16
    ACCOUNT_DELETED = 32
    UNREADABLE_INPUT = 64
    PRODUCT_NOT_COVERED = 128
    KIND_NOT_COVERED = 256
    PRIVATE_MESSAGE = 512
    NOT_PUBLIC = 1024
    MINOR_AT_CREATION = 2048
    DELETED = 4096


PRODUCTS: Final = ("facebook", "instagram", "whatsapp", "messenger")
PRODUCT_INDEX: Final = {name: index for index, name in enumerate(PRODUCTS)}
ALL_PRODUCTS: Final = (1 << len(PRODUCTS)) - 1  # the set of all products, a bit each

KINDS: Final = ("post", "comment", "ai_interaction", "private_message")
KIND_INDEX: Final = {name: index for index, name in enumerate(KINDS)}
AI_INTERACTION: Final = KIND_INDEX["ai_interaction"]
PRIVATE_MESSAGE: Final = KIND_INDEX["private_message"]

# From the most to the least visible: at a tie of revisions the less visible holds.
VISIBILITIES: Final = ("public", "friends", "private", "deleted")
VISIBILITY_RANK: Final = {name: rank for rank, name in enumerate(VISIBILITIES)}
PUBLIC: Final = VISIBILITY_RANK["public"]
PRIVATE: Final = VISIBILITY_RANK["private"]
DELETED: Final = VISIBILITY_RANK["deleted"]

MODALITIES: Final = ("text", "voice", "video", "image")


@lru_cache(maxsize=4096)
def reason_names(reasons: int) -> tuple[str, ...]:
    """Return the sorted names of the reasons in the set *reasons*."""
    return tuple(sorted(reason.name or "" for reason in Reason if reasons & reason))
