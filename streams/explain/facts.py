"""
A user's facts: which hold, which do not and why, what they cause, and the records that say so.

The state is what holds.  The inputs tell where it came from, as far as they have it still: notices
are kept for 30 days, and of the ages a compacted topic keeps the last record alone.
"""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final

from msgspec.structs import replace

from streams.core.policy import Policy
from streams.core.reasons import ALL_PRODUCTS, PRODUCTS
from streams.core.times import rfc3339
from streams.core.user import (
    ASSURANCES,
    WITHDRAWN,
    Level,
    Levels,
    Statement,
    User,
    is_resolved,
    stand_for_more,
)
from streams.core.verdict import counting_notice_ms, judge_age, under_age_until_ms
from streams.explain.evidence import Evidence, Stated
from streams.explain.explanation import IN_FORCE, SUPERSEDED, Fact, Source
from streams.explain.links import facts_of_links
from streams.explain.words import Shown, band_name, covered, product_names

UNREADABLE_ITEMS_MAX: Final = 100  # told one by one

Says = Callable[[Stated], bool]


class Facts:
    """The facts of *user* as of *now_ms*, by *policy*; *evidence* has the records behind them."""

    def __init__(
        self, user: User, evidence: Evidence, policy: Policy, now_ms: int, shown: Shown
    ) -> None:
        self._user = user
        self._policy = policy
        self._now_ms = now_ms
        self._shown = shown
        self._evidence = evidence
        bad = [*evidence.unreadable_content, *(each for each in evidence.stated if each.error)]
        self._why_bad = evidence.dead_letters | {each.place: each.error for each in bad}
        # What is not decided yet is told apart from what is.
        self._stated = [
            each for each in evidence.stated if each.offset < evidence.read_to(each.topic)
        ]

    def all(self) -> tuple[Fact, ...]:
        """Return all facts, those in force first."""
        if self._user.deleted:
            # What remains of a deleted account is that it was deleted, wherever more is still told.
            return (self._deletion(),)
        found = [
            *self._objections(),
            *facts_of_links(self._user, self._stated),
            *self._ages(),
            *self._older_ages(),
            *self._notices(),
            *self._unreadable(),
            *islice(self._unreadable_items(), UNREADABLE_ITEMS_MAX),
            *self._resolutions(),
        ]
        return tuple(sorted(found, key=_in_force_first))

    def _deletion(self) -> Fact:
        sources = self._sources("deleted", lambda said: said.facts.deleted)
        return Fact(
            "deletion",
            IN_FORCE,
            "the account is deleted",
            "final, whatever was or is said besides",
            ("ACCOUNT_DELETED",),
            PRODUCTS,
            None,
            sources,
            {},
        )

    def _objections(self) -> Iterator[Fact]:
        for objection_id, flags in self._user.objections.items():
            said = [each for each in self._stated if objection_id in each.facts.objections]
            sources = tuple(_source(_action(each, objection_id), each) for each in said)
            withdrawn = bool(flags & WITHDRAWN)
            filed = bool(flags & ALL_PRODUCTS)
            what = f"filed for {covered(flags)}" if filed else "never filed"
            yield Fact(
                "objection",
                SUPERSEDED if withdrawn else IN_FORCE,
                f"objection {objection_id}, {what}",
                "withdrawn, for good" if withdrawn else "",
                () if withdrawn else ("OBJECTION",),
                product_names(flags & ALL_PRODUCTS),
                None,
                sources,
                {"objection_id": objection_id, "withdrawn": withdrawn},
            )

    def _ages(self) -> Iterator[Fact]:
        """Yield the newest statements of each level, which are all the state keeps."""
        top = max((at for at, level in enumerate(self._user.levels) if level), default=-1)
        for at in range(top, -1, -1):
            level = self._user.levels[at]
            for statement in () if level is None else level.statements:
                assert level is not None
                if at == top:
                    why = "the newest of the highest level that has a record"
                    if len(level.statements) > 1:
                        why += "; records tied for it all hold"
                    standing, reasons = IN_FORCE, self._reasons_in_force(statement)
                else:
                    standing, why, reasons = self._below(at, statement, top)
                observed_ms = level.observed_ms
                sources = self._sources("stated", _stating(at, observed_ms, statement))
                yield self._age(at, observed_ms, statement, standing, why, reasons, sources)

    def _older_ages(self) -> Iterator[Fact]:
        """Yield statements that the topic still holds though a newer one has replaced them."""
        for said in self._stated:
            for at, level in enumerate(said.facts.levels):
                known = self._user.levels[at]
                if level is None or known is None or level.observed_ms >= known.observed_ms:
                    continue
                why = f"{ASSURANCES[at]} has a newer record, of {rfc3339(known.observed_ms)}"
                sources = (_source("stated", said),)
                for statement in level.statements:
                    observed_ms = level.observed_ms
                    yield self._age(at, observed_ms, statement, SUPERSEDED, why, (), sources)

    def _age(
        self,
        at: int,
        observed_ms: int,
        statement: Statement,
        standing: str,
        why: str,
        reasons: tuple[str, ...],
        sources: tuple[Source, ...],
    ) -> Fact:
        shown = self._shown
        born, since = statement.has_birth_date, statement.has_adult_since
        return Fact(
            "age",
            standing,
            f"{shown.statement(statement)} ({ASSURANCES[at]}, observed {rfc3339(observed_ms)})",
            why,
            reasons,
            PRODUCTS if reasons else (),
            self._of_age_at(statement) if "UNDER_AGE" in reasons else None,
            sources,
            {
                "assurance": ASSURANCES[at],
                "observed_at": rfc3339(observed_ms),
                "birth_date": shown.day(statement.birth_day) if born else None,
                "age_band": band_name(statement.band),
                "adult_since": shown.day(statement.adult_since_day) if since else None,
                "country": shown.country(statement.country),
            },
        )

    def _of_age_at(self, statement: Statement) -> str | None:
        return self._shown.instant(under_age_until_ms(statement, self._policy))

    def _reasons_in_force(self, statement: Statement) -> tuple[str, ...]:
        reasons = []
        if not statement.has_birth_date and not statement.band:
            reasons.append("AGE_UNKNOWN")
        if statement.country not in self._policy.countries:
            reasons.append("COUNTRY_NOT_COVERED")
        if self._now_ms < under_age_until_ms(statement, self._policy):
            reasons.append("UNDER_AGE")
        return tuple(reasons)

    def _below(self, at: int, statement: Statement, top: int) -> tuple[str, str, tuple[str, ...]]:
        """Return whether a lower level's statement counts, why, and the reasons it causes."""
        level, in_force = self._user.levels[at], self._user.levels[top]
        assert level is not None
        assert in_force is not None
        name = ASSURANCES[top]
        if level.observed_ms <= in_force.observed_ms:
            return SUPERSEDED, f"a lower level than {name}, and not newer than its record", ()
        reasons = []
        if statement.country and statement.country not in self._policy.countries:
            reasons.append("COUNTRY_NOT_COVERED")
        if self._now_ms < under_age_until_ms(statement, self._policy):
            reasons.append("UNDER_AGE")
        if reasons or self._delays(at, statement, top):
            why = f"a lower level than {name}, but newer, and it restricts"
            return IN_FORCE, why, tuple(reasons)
        return SUPERSEDED, f"a lower level than {name}, and nothing in it restricts", ()

    def _delays(self, at: int, statement: Statement, top: int) -> bool:
        """Whether a lower level's date is a later coming of age, by which items are judged."""
        level = self._user.levels[at]
        assert level is not None
        alone: list[Level | None] = [None, None, None]
        alone[top] = self._user.levels[top]
        without = judge_age(User(levels=_levels(alone)), self._policy, self._now_ms)
        alone[at] = Level(level.observed_ms, (statement,), level.adult_observed_ms)
        age = judge_age(User(levels=_levels(alone)), self._policy, self._now_ms)
        return age.adult_from_ms != without.adult_from_ms

    def _notices(self) -> Iterator[Fact]:
        counting_ms = counting_notice_ms(self._user, self._policy)
        from_ms = self._policy.notices_from_ms
        for delivered_ms in self._user.notices_ms:
            ends_ms = delivered_ms + self._policy.notice_window_ms
            counts = delivered_ms == counting_ms
            pending = counts and self._now_ms < ends_ms
            if counts:
                why = f"the earliest that counts; its window ends {rfc3339(ends_ms)}"
            elif from_ms is not None and delivered_ms < from_ms:
                why = f"before the policy's notices_from, {rfc3339(from_ms)}"
            else:
                why = "later than the one that counts"
            yield Fact(
                "notice",
                IN_FORCE if counts else SUPERSEDED,
                f"notice delivered {rfc3339(delivered_ms)}",
                why,
                ("NOTICE_PENDING",) if pending else (),
                PRODUCTS if pending else (),
                rfc3339(ends_ms) if pending else None,
                self._sources("delivered", _delivering(delivered_ms)),
                {
                    "delivered_at": rfc3339(delivered_ms),
                    "window_ends_at": rfc3339(ends_ms) if counts else None,
                },
            )

    def _unreadable(self) -> Iterator[Fact]:
        more = stand_for_more(self._user)
        for ref in self._user.dead_letters:
            if ref in more:
                why = "stands for all before it as well, until all up to it are dismissed"
                yield self._bad(ref, IN_FORCE, why)
            elif is_resolved(self._user, ref):
                yield self._bad(ref, SUPERSEDED, "mended or dismissed")
            else:
                yield self._bad(ref, IN_FORCE, "stands until it is mended or dismissed")
        for said in self._stated:
            if said.error and not said.facts.dead_letters:
                yield self._bad(said.place, SUPERSEDED, "an unreadable notice restricts nobody")

    def _unreadable_items(self) -> Iterator[Fact]:
        """Yield the bad records of `content`: they restrict their item alone."""
        evidence = self._evidence
        standing = {
            f"{evidence.dead_letter_prefix}{offset}": content_id
            for content_id, item in evidence.items.items()
            for offset in item.dead_letters
        }
        told = {said.place: said for said in evidence.unreadable_content}
        for ref in sorted({*standing, *told}, key=_offset_of):
            said = told.get(ref)
            if said is not None and said.offset >= evidence.read_to(said.topic):
                continue
            content_id = standing.get(ref) or (None if said is None else said.content_id)
            if is_resolved(self._user, ref):
                fact = self._bad(ref, SUPERSEDED, "mended or dismissed")
            elif ref in standing:
                why = f"restricts item {content_id}, until resolved or read again"
                fact = self._bad(ref, IN_FORCE, why)
            elif content_id is None:
                fact = self._bad(ref, SUPERSEDED, "it names no item, and restricts nobody")
            else:
                why = f"a later record of item {content_id} is readable"
                fact = self._bad(ref, SUPERSEDED, why)
            sources = () if said is None else (_source("received", said),)
            yield replace(fact, products=(), sources=sources)

    def _bad(self, ref: str, standing: str, why: str) -> Fact:
        error = self._why_bad.get(ref, "")
        stands = standing == IN_FORCE
        return Fact(
            "unreadable",
            standing,
            f"unreadable record {ref}{f' ({error})' if error else ''}",
            why,
            ("UNREADABLE_INPUT",) if stands else (),
            PRODUCTS if stands else (),
            None,
            self._sources("received", lambda said: said.place == ref),
            {"place": ref, "error": error or None, "resolved": is_resolved(self._user, ref)},
        )

    def _resolutions(self) -> Iterator[Fact]:
        for ref in self._user.resolved:
            known = ref in self._user.dead_letters
            yield Fact(
                "resolution",
                IN_FORCE,
                f"dead letter {ref} mended or dismissed",
                "" if known else "of an item, or of a record that is not known to be unreadable",
                (),
                (),
                None,
                self._sources("resolved", _resolving(ref)),
                {"place": ref},
            )

    def _sources(self, action: str, says_so: Says) -> tuple[Source, ...]:
        return tuple(_source(action, said) for said in self._stated if says_so(said))


def _in_force_first(fact: Fact) -> bool:
    return fact.standing != IN_FORCE


def _source(action: str, said: Stated) -> Source:
    return Source(action, said.place, rfc3339(said.received_ms))


def _action(said: Stated, objection_id: str) -> str:
    return "withdrawn" if said.facts.objections[objection_id] & WITHDRAWN else "filed"


def _stating(at: int, observed_ms: int, statement: Statement) -> Says:
    def says_so(said: Stated) -> bool:
        level = said.facts.levels[at]
        if level is None or level.observed_ms != observed_ms:
            return False
        return statement in level.statements

    return says_so


def _levels(levels: list[Level | None]) -> Levels:
    return levels[0], levels[1], levels[2]


def _delivering(delivered_ms: int) -> Says:
    return lambda said: delivered_ms in said.facts.notices_ms


def _resolving(ref: str) -> Says:
    return lambda said: ref in said.facts.resolved


def _offset_of(ref: str) -> int:
    return int(ref.rpartition("/")[2])
