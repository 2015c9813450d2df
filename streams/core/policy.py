"""
What a company has decided to cover: ages, notice window, countries, products, kinds.

The defaults are the contract's and stand as version 1.
"""

from functools import lru_cache
from hashlib import sha256
from typing import Final

import msgspec

from streams.core.reasons import KIND_INDEX, KINDS, PRIVATE_MESSAGE, PRODUCT_INDEX, PRODUCTS
from streams.core.times import DAY_MS

# ISO 3166-1; the EEA is the EU with Iceland, Liechtenstein and Norway.
EU: Final = frozenset(
    {
        "AT",
        "BE",
        "BG",
        "CY",
        "CZ",
        "DE",
        "DK",
        "EE",
        "ES",
        "FI",
        "FR",
        "GR",
        "HR",
        "HU",
        "IE",
        "IT",
        "LT",
        "LU",
        "LV",
        "MT",
        "NL",
        "PL",
        "PT",
        "RO",
        "SE",
        "SI",
        "SK",
    }
)
EEA: Final = EU | {"IS", "LI", "NO"}
COVERABLE_KINDS: Final = tuple(kind for kind in KINDS if KIND_INDEX[kind] != PRIVATE_MESSAGE)


DIGEST_LENGTH: Final = 16


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """One policy; `notices_from_ms` None lets every notice count."""

    version: int = 1
    adult_age: int = 18
    notice_window_days: int = 30
    notices_from_ms: int | None = None
    countries: frozenset[str] = EEA
    products: frozenset[str] = frozenset(PRODUCTS)
    kinds: frozenset[str] = frozenset(COVERABLE_KINDS)

    @property
    def digest(self) -> str:
        """What tells policies of one version apart: equal where they decide alike."""
        return _digest(self)

    @property
    def notice_window_ms(self) -> int:
        """How long after its delivery a notice still has to be waited for."""
        return self.notice_window_days * DAY_MS

    @property
    def kinds_mask(self) -> int:
        """The kinds covered, a bit each; private messages never are."""
        return _kinds_mask(self.kinds)

    @property
    def products_mask(self) -> int:
        """The products covered, a bit each."""
        return _products_mask(self.products)


@lru_cache(maxsize=16)
def _digest(policy: Policy) -> str:
    said = (
        policy.adult_age,
        policy.notice_window_days,
        policy.notices_from_ms,
        sorted(policy.countries),
        sorted(policy.products),
        sorted(policy.kinds),
    )
    return sha256(msgspec.json.encode(said)).hexdigest()[:DIGEST_LENGTH]


@lru_cache(maxsize=16)
def _kinds_mask(kinds: frozenset[str]) -> int:
    return sum(1 << KIND_INDEX[kind] for kind in kinds if kind in COVERABLE_KINDS)


@lru_cache(maxsize=16)
def _products_mask(products: frozenset[str]) -> int:
    return sum(1 << PRODUCT_INDEX[product] for product in products)
