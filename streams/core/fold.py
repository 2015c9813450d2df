"""
Records -> changed users and items: the fold of one cycle over one partition.

A `Fold` collects what a cycle changes; it reads what was known before through a `Known`, which
the shell implements over the state.  It decides after every record, so that epochs do not
depend on how records were batched; only the last decision on a user is published.
Source: contract.md, "Decisions" and "Output records".
"""

from collections.abc import Mapping

from msgspec.structs import replace

from streams.core import item as items
from streams.core import refs
from streams.core import user as users
from streams.core.breaker import Breaker
from streams.core.changes import (
    CLOCK,
    DUE_AT_ONCE_MS,
    DUE_BY_POLICY_MS,
    NO_OFFSET,
    POLICY,
    ItemChange,
    Known,
    Origin,
    UserChange,
    UserRow,
)
from streams.core.decode import ItemFacts, UserFacts
from streams.core.holds import Holds, Ruling
from streams.core.item import NO_REVISION, UNKNOWN_ITEM, Item
from streams.core.links import Told
from streams.core.policy import Policy
from streams.core.records import ContentRecord
from streams.core.tells import Teller
from streams.core.user import NOBODY, User
from streams.core.verdict import decide, is_unreadable


class Fold:
    """
    The changes of one cycle to one partition.

    dead_letter_prefix: "topic/partition/" of this partition of `content`.
    hold_grants: while what could restrict is not read to its end, nothing more is allowed than
    before; users it concerns are due at once when the hold ends.
    free_below: offsets by topic's full name: a hold does not concern what came of records below.
    policy_since_ms: since when *policy* has been due, for users last decided by an older one.
    breaker: counts users met and re-included, and may hold grants as well; None does not.
    """

    def __init__(
        self,
        known: Known,
        policy: Policy,
        now_ms: int,
        dead_letter_prefix: str,
        *,
        hold_grants: bool = False,
        free_below: Mapping[str, int] | None = None,
        policy_since_ms: int | None = None,
        breaker: Breaker | None = None,
    ) -> None:
        self.users: dict[str, UserChange] = {}
        self.items: dict[tuple[str, str], ItemChange] = {}
        self.answer_anew: dict[str, Origin] = {}  # users whose items wait for the hold's end
        self.settled: set[str] = set()  # users whose lost state is made good: publish all of it
        self.tells: list[Told] = []  # to the owners of linked accounts
        self._unreadable: dict[tuple[str, int], str] = {}  # this cycle's, as of `Known`
        self._known = known
        self._policy = policy
        self._now_ms = now_ms
        self._prefix = dead_letter_prefix
        self._hold_grants = hold_grants
        self._breaker = breaker or Breaker()
        self._holds = Holds(
            policy, now_ms, self._breaker, gate=hold_grants, free_below=free_below or {}
        )
        since_ms = now_ms if policy_since_ms is None else policy_since_ms
        self._number = int(dead_letter_prefix.rstrip("/").rpartition("/")[2] or NO_OFFSET)
        self._new_policy = Origin(POLICY, self._number, NO_OFFSET, since_ms)
        self._of_nobody = decide(NOBODY, policy, now_ms)

    def decide_again(self, user_id: str) -> None:
        """Decide on a user by the policy of now, if another was the last to."""
        self._seen(user_id, self._new_policy)

    def user_record(self, event: UserFacts, origin: Origin) -> bool:
        """Fold a good record about a user; return whether it told anything new."""
        change = self._seen_by_record(event.user_id, origin)
        known = change.after.user
        self._learn(change, event.facts, origin)
        self._resolve(event.user_id, change, event.facts, known, origin)
        if known.links or event.facts.links:
            teller = Teller(event.user_id, self._number, origin.received_ms, origin.traceparent)
            self.tells += teller.tells(known, event.facts, change.after.user)
        return change.after.user is not known

    def release(self, trip_ms: int, positions: Mapping[str, int]) -> bool:
        """Fold a release of the breaker; return whether it was tripped, at *trip_ms*."""
        return self._holds.release(trip_ms, positions)

    def resolution(self, user_id: str, ref: str, origin: Origin) -> None:
        """Fold what a `dlq_resolves` header says: the dead letter *ref* is mended."""
        change = self._seen(user_id, origin)
        known, mended = change.after.user, User(resolved=(ref,))
        self._learn(change, mended, origin)
        self._resolve(user_id, change, mended, known, origin)

    def time_passed(self, user_id: str, due_ms: int, partition: int) -> None:
        """Fold the passing of *due_ms*, when a decision was to change or a hold has ended."""
        row = self._known.user(user_id)
        held = None if row is None else row.held
        if held is not None and due_ms in (DUE_AT_ONCE_MS, DUE_BY_POLICY_MS):
            cause = held.cause
            origin = Origin(cause.topic, cause.partition, cause.offset, held.received_ms, cause.id)
        else:
            # A timer may have been left by a hold that was over before it fired.
            since_ms = due_ms if due_ms > DUE_BY_POLICY_MS else self._now_ms
            origin = Origin(CLOCK, partition, NO_OFFSET, since_ms)
        self._learn(self._seen(user_id, origin), NOBODY, origin)

    def bad_user_record(self, user_id: str, ref: str | None, origin: Origin) -> None:
        """Fold a bad record with a valid key; *ref* restricts the user where it is given."""
        facts = NOBODY if ref is None else User(dead_letters=(ref,))
        self._learn(self._seen_by_record(user_id, origin), facts, origin)

    def item_record(self, event: ItemFacts, origin: Origin) -> bool:
        """Fold a good record of an item; return whether it told anything new."""
        user_id, content_id, facts = event.user_id, event.content_id, event.facts
        change = self._seen(user_id, origin)
        if change.after.user.deleted:
            if not facts.private_message:
                self._answer(user_id, content_id, None, None, origin)
            return False
        before = self.item(user_id, content_id)
        if before is None:
            if facts.private_message:
                return False
            self._answer(user_id, content_id, None, facts, origin, event.record)
            return True
        after = items.merge(before, facts)
        self._end_unreadable(before, after, change, origin)
        at_hand = event.record if after.value is facts.value else None
        self._answer(user_id, content_id, before, after, origin, at_hand)
        return after != before

    def bad_item_record(
        self, user_id: str, content_id: str | None, offset: int, origin: Origin
    ) -> None:
        """Fold a bad `content` record with a valid key; its item is restricted if it is known."""
        change = self._seen(user_id, origin)
        if content_id is None:
            return
        if change.after.user.deleted:
            self._answer(user_id, content_id, None, None, origin)
            return
        before = self.item(user_id, content_id) or UNKNOWN_ITEM
        self._unreadable[user_id, offset] = content_id
        resolved = users.is_resolved(change.after.user, f"{self._prefix}{offset}")
        after = before if resolved else items.merge(before, Item(dead_letters=(offset,)))
        self._answer(user_id, content_id, before, after, origin)

    def item(self, user_id: str, content_id: str) -> Item | None:
        """Return an item as of now, this cycle's changes included."""
        changed = self.items.get((user_id, content_id))
        return changed.after if changed is not None else self._known.item(user_id, content_id)

    def _answer(
        self,
        user_id: str,
        content_id: str,
        before: Item | None,
        after: Item | None,
        origin: Origin,
        record: ContentRecord | None = None,
    ) -> None:
        earlier = self.items.get((user_id, content_id))
        if earlier is not None:
            before = earlier.before
        change = ItemChange(user_id, content_id, before, after, origin, record)
        self.items[user_id, content_id] = change

    def _learn(self, change: UserChange, facts: User, origin: Origin) -> None:
        """Merge *facts* into a user and decide."""
        row = change.after
        user = users.merge(row.user, facts)
        if user == row.user:
            if self._now_ms < row.next_change_ms or _waits_for_policy(row, origin):
                return
            user = row.user
        ruling = self._holds.rule(row, user, origin)
        if ruling.decision != row.decision:
            self._decide_anew(change, user, ruling, origin)
            return
        change.after = UserRow(
            user,
            row.epoch,
            ruling.decision,
            ruling.next_change_ms,
            self._policy.version,
            row.decided_ms,
            row.cause,
            ruling.held,
            self._still_seeded(row),
            ruling.reincluded,
        )

    def _follow_policy(self, change: UserChange) -> None:
        """Decide by a new policy."""
        row, origin = change.after, self._new_policy
        ruling = self._holds.rule_by_policy(row, origin)
        if ruling.decision != row.decision:
            self._decide_anew(change, row.user, ruling, origin)
            return
        change.after = replace(
            row,
            next_change_ms=ruling.next_change_ms,
            policy_version=self._policy.version,
            held=ruling.held,
        )

    def answer_all_anew(self, user_id: str, above: int) -> None:
        """Publish all there is to say of a known user, as it stands, in an epoch *above* one."""
        origin = Origin(CLOCK, self._new_policy.partition, NO_OFFSET, self._now_ms)
        change = self._seen(user_id, origin)
        row = change.after
        change.after = replace(row, epoch=max(row.epoch, above))
        self._begin_epoch(change, origin)
        self.settled.add(user_id)
        self.answer_anew[user_id] = origin

    def _still_seeded(self, row: UserRow) -> bool:
        return row.seeded and self._hold_grants

    def _settle(self, user_id: str, change: UserChange, origin: Origin) -> None:
        """Decide on a user of lost state by the facts read again; answer all of their items."""
        change.publish = True
        self.settled.add(user_id)
        self.answer_anew[user_id] = origin
        self._learn(change, NOBODY, origin)

    def _seen(self, user_id: str, origin: Origin) -> UserChange:
        """Return the change to a user, who from now on has been seen."""
        change = self.users.get(user_id)
        if change is not None:
            return change
        row = self._known.user(user_id)
        if row is not None:
            change = UserChange(row, row, origin)
            if row.seeded and not self._hold_grants:
                self._settle(user_id, change, origin)
            elif row.policy_version != self._policy.version:
                self._follow_policy(change)
        else:
            decision, next_change_ms = self._of_nobody
            version = self._policy.version
            first = UserRow(
                NOBODY, 1, decision, next_change_ms, version, self._now_ms, origin.cause
            )
            change = UserChange(None, first, origin, publish=True)
            self._breaker.met += 1
        self.users[user_id] = change
        return change

    def _seen_by_record(self, user_id: str, origin: Origin) -> UserChange:
        """Return the change to a user, to be published in answer to *origin* if to nothing yet."""
        change = self._seen(user_id, origin)
        if not change.publish:
            change.publish, change.origin = True, origin
        return change

    def _decide_anew(self, change: UserChange, user: User, ruling: Ruling, origin: Origin) -> None:
        row = change.after
        first_here = change.before is None and row.cause == origin.cause
        epoch = row.epoch if first_here else row.epoch + 1
        if change.before is not None and row.epoch == change.before.epoch:
            change.origin = origin
        change.after = UserRow(
            user,
            epoch,
            ruling.decision,
            ruling.next_change_ms,
            self._policy.version,
            self._now_ms,
            origin.cause,
            ruling.held,
            self._still_seeded(row),
            ruling.reincluded,
        )
        change.publish = True

    def _begin_epoch(self, change: UserChange, origin: Origin) -> None:
        """Let the same decision stand in a new epoch: some item is judged anew."""
        row = change.after
        self._decide_anew(change, row.user, Ruling.as_it_stands(row), origin)

    def _end_unreadable(
        self, before: Item, after: Item, change: UserChange, origin: Origin
    ) -> None:
        """
        A readable record has arrived: where the item stood as unreadable a later epoch begins.

        Without it the record would be equal to the tombstone by (epoch, revision), and lose.
        """
        user = change.after.user
        stood = is_unreadable(before, user, self._prefix) or before.revision == NO_REVISION
        if stood and not is_unreadable(after, user, self._prefix):
            self._begin_epoch(change, origin)

    def _resolve(
        self, user_id: str, change: UserChange, facts: User, known: User, origin: Origin
    ) -> None:
        """
        Answer the items whose dead letters *facts* resolve, if they are of this partition.

        Those *known* to be resolved are answered, or will be when the hold ends.
        """
        if facts.dismissed and self._frees_items(user_id, facts, known):
            self._begin_epoch(change, origin)  # whichever items it is, and there may be many
            self.answer_anew[user_id] = origin
        for ref in facts.resolved:
            if not ref.startswith(self._prefix) or users.is_resolved(known, ref):
                continue
            offset = refs.offset_of(ref)
            if ref != f"{self._prefix}{offset}":
                continue  # with zeros in front, which no dead letter has
            content_id = self._item_of_dead_letter(user_id, offset)
            item = None if content_id is None else self.item(user_id, content_id)
            if content_id is None or item is None or offset not in item.dead_letters:
                continue
            mended = items.without_dead_letter(item, offset)
            if not is_unreadable(mended, change.after.user, self._prefix):
                self._begin_epoch(change, origin)
            if self._hold_grants:
                self.answer_anew[user_id] = origin
            else:
                self._answer(user_id, content_id, item, mended, origin)

    def _frees_items(self, user_id: str, facts: User, known: User) -> bool:
        """Whether *facts* dismiss a dead letter of an item that is not *known* to be resolved."""
        letters = self._known.dead_letters_of(user_id)
        letters.update(offset for owner, offset in self._unreadable if owner == user_id)
        refs_ = (f"{self._prefix}{offset}" for offset in letters)
        return any(
            users.is_resolved(facts, ref) and not users.is_resolved(known, ref) for ref in refs_
        )

    def _item_of_dead_letter(self, user_id: str, offset: int) -> str | None:
        here = self._unreadable.get((user_id, offset))
        return self._known.item_of_dead_letter(user_id, offset) if here is None else here


def _waits_for_policy(row: UserRow, origin: Origin) -> bool:
    """Whether only the end of the walk after a new policy may change the decision in *row*."""
    return row.next_change_ms == DUE_BY_POLICY_MS and origin.topic != POLICY
