"""
Facts in words, the same in every part of an explanation; and what is not to be shown.

`--redact` leaves out birth dates, the days and instants that follow from them, and countries.
"""

from msgspec import Struct

from streams.core.reasons import ALL_PRODUCTS, PRODUCTS, reason_names
from streams.core.times import NEVER_MS, from_day, rfc3339
from streams.core.user import ADULT, ASSURANCES, UNDER_18, WITHDRAWN, Statement
from streams.explain.evidence import Stated
from streams.explain.explanation import HIDDEN, Change

_BANDS = {ADULT: "adult", UNDER_18: "under_18", 0: None}


class Shown(Struct, frozen=True):
    """What may be shown; *redact* hides what tells when somebody was born, and where they live."""

    redact: bool = False

    def day(self, day: int) -> str | None:
        """Return a day that tells somebody's age."""
        return None if self.redact else from_day(day).isoformat()

    def instant(self, instant_ms: int) -> str | None:
        """Return an instant that tells somebody's age; None for never, too."""
        return None if self.redact or instant_ms == NEVER_MS else rfc3339(instant_ms)

    def country(self, country: str) -> str | None:
        """Return a country; None where it is unknown."""
        return (HIDDEN if self.redact else country) or None if country else None

    def until(self, instant_ms: int) -> str:
        """Return when something of somebody's age ends, in words."""
        if instant_ms == NEVER_MS:
            return "with no end in sight"
        return f"until {HIDDEN if self.redact else rfc3339(instant_ms)}"

    def statement(self, said: Statement) -> str:
        """Return what a record states of age and country, in words."""
        if said.has_birth_date:
            words = f"birth date {self.day(said.birth_day) or HIDDEN}"
        elif said.band:
            words = f"age band {_BANDS[said.band]}"
            if said.has_adult_since:
                words += f" since {self.day(said.adult_since_day) or HIDDEN}"
        else:
            words = "age unknown"
        return f"{words}, country {self.country(said.country) or 'unknown'}"

    def record(self, said: Stated) -> str:
        """Return what an input record says, in words."""
        if said.error:
            return f"unreadable ({said.error})"
        parts = []
        facts = said.facts
        if facts.deleted:
            parts.append("account deleted")
        for objection_id, flags in facts.objections.items():
            what = "withdrawn" if flags & WITHDRAWN else f"filed for {covered(flags)}"
            parts.append(f"objection {objection_id} {what}")
        for (origin, objection_id), told in facts.inherited.items():
            what = "withdrawn" if told.flags & WITHDRAWN else f"filed for {covered(told.flags)}"
            name = f"objection {objection_id}" if objection_id else "whatever may stand"
            parts.append(f"{name} on the linked account {origin} {what}")
        for other, link in facts.links.items():
            parts.append(f"{'linked' if link.is_open else 'not linked'} with {other}")
        for assurance, level in zip(ASSURANCES, facts.levels, strict=True):
            statements = () if level is None else level.statements
            parts += [f"{self.statement(each)} ({assurance})" for each in statements]
        parts += [f"notice delivered {rfc3339(each)}" for each in facts.notices_ms]
        if said.item is not None:
            parts.append(f"item {said.content_id}, revision {said.item.revision}")
        parts += [f"dead letter {ref} resolved" for ref in facts.resolved]
        parts += [
            f"all dead letters up to {partition}/{offset} dismissed"
            for partition, offset in facts.dismissed.items()
        ]
        return "; ".join(parts)


def band_name(band: int) -> str | None:
    """Return the name of an age band; None for none."""
    return _BANDS[band]


def product_names(products: int) -> tuple[str, ...]:
    """Return the products in a set of them, a bit each."""
    return tuple(name for index, name in enumerate(PRODUCTS) if products >> index & 1)


def covered(flags: int) -> str:
    """Return the products that an objection covers, in words."""
    products = flags & ALL_PRODUCTS
    return "all products" if products == ALL_PRODUCTS else ", ".join(product_names(products))


def changes_between(
    before: tuple[frozenset[str], ...], after: tuple[frozenset[str], ...]
) -> tuple[Change, ...]:
    """Return what differs between the reasons by product, in the order of `PRODUCTS`."""
    return tuple(
        Change(product, tuple(sorted(new - old)), tuple(sorted(old - new)), not new)
        for product, old, new in zip(PRODUCTS, before, after, strict=True)
        if old != new
    )


def reason_sets(reasons: tuple[int, ...]) -> tuple[frozenset[str], ...]:
    """Return sets of reasons by their names."""
    return tuple(frozenset(reason_names(each)) for each in reasons)


def shown_changes(changes: tuple[Change, ...]) -> str:
    """Return *changes* in words; products that change alike are told together."""
    alike: dict[tuple[tuple[str, ...], tuple[str, ...], bool], list[str]] = {}
    for each in changes:
        alike.setdefault((each.begun, each.ended, each.allowed), []).append(each.product)
    parts = []
    for (begun, ended, allowed), products in alike.items():
        names = "all products" if len(products) == len(PRODUCTS) else ", ".join(products)
        signs = [f"+{each}" for each in begun] + [f"-{each}" for each in ended]
        parts.append(f"{names}: {' '.join(signs)}{' = allowed' if allowed else ''}")
    return "; ".join(parts)
