"""
One data store that follows one partition of the outputs, by subscribers that crash and freeze.

The log is given: what `worker` says of it (pairs never fall) is taken for granted here.  What
stands for what: `take` is subscriber/takeover.py and places.py, `fetch` to `ack` are run.py and
following.py, `_merged` is what every sink does with a change.  The two locks are left to the suite
of sinks: a key here is any key.  A backup is brought back while no subscriber runs, and tombstones
are kept until a living subscriber has read them.
"""

from collections.abc import Iterator
from typing import NamedTuple

from tests.model.core import Output
from tests.model.log import highest, put
from tests.model.rules import StoreRules


class Held(NamedTuple):
    """What a store remembers of a key, and the generation that confirmed it."""

    output: Output
    generation: int


class Store(NamedTuple):
    """What is durable, by one step each time.  An odd generation is a resync under way."""

    rows: tuple[Held | None, ...]
    offset: int = 0
    generation: int = 0


class Subscriber(NamedTuple):
    """
    What a process keeps in memory.

    offset, generation: as it knows the store; goal: the log's end when it took over.
    batch: the offset up to which it has fetched; None: nothing in hand.
    said: what it last acknowledged, or found acknowledged.
    """

    offset: int
    generation: int
    goal: int
    said: int
    batch: int | None = None


class State(NamedTuple):
    """
    Everything.

    end: of the log.  compacted: below it only the last records are left, and no tombstones.
    acked, committed: the last words of the store, and the group's offset with its generation.
    went_back: a backup was brought back, and no subscriber has looked yet.
    """

    end: int
    compacted: int
    store: Store
    backup: Store | None
    acked: int
    committed: tuple[int, int]
    owner: int
    subscribers: tuple[Subscriber | None, ...]
    went_back: bool
    faults_left: int


class Stores:
    """The model: the records of *log* come, and up to *faults* happen."""

    def __init__(self, log: tuple[Output, ...], rules: StoreRules, faults: int) -> None:
        self._log = log
        self._keys = sorted({each.key for each in log})
        self._rules = rules
        self._faults = faults

    def start(self) -> State:
        """An empty store, nobody at work."""
        store = Store((None,) * len(self._keys))
        return State(0, 0, store, None, 0, (0, 0), 0, (None, None), False, self._faults)

    def steps(self, state: State) -> Iterator[tuple[str, State]]:
        """Return what may happen next."""
        if state.end < len(self._log):
            yield f"written: {self._log[state.end]}", state._replace(end=state.end + 1)
        if state.backup is None:
            yield "the store is backed up", state._replace(backup=state.store)
        for number, subscriber in enumerate(state.subscribers):
            if subscriber is not None:
                yield from self._work(state, number, subscriber)
        yield from self._faults_of(state)

    def _faults_of(self, state: State) -> Iterator[tuple[str, State]]:
        faulty = state._replace(faults_left=state.faults_left - 1)
        lost = state.subscribers[state.owner] is None
        for number in range(len(state.subscribers)):
            if lost or (state.faults_left and number != state.owner):
                name = f"subscriber {number} takes over"
                yield name, self._take(state if lost else faulty, number)
        if not state.faults_left:
            return
        if not lost:
            yield f"subscriber {state.owner} crashes", with_subscriber(faulty, state.owner, None)
        if state.backup is not None and state.backup != state.store:
            yield (
                "the backup is brought back",
                faulty._replace(store=state.backup, subscribers=(None, None), went_back=True),
            )
        owner = state.subscribers[state.owner]
        upto = state.acked if owner is None else min(state.acked, owner.offset)
        if state.compacted < upto:
            yield f"the log is compacted up to {upto}", faulty._replace(compacted=upto)

    def _take(self, state: State, number: int) -> State:
        store, acked = state.store, state.acked
        offset, generation = state.committed
        resyncing = store.generation % 2 == 1
        reached = offset if resyncing and generation == store.generation else max(offset, acked)
        older = store.generation < generation and self._rules.generation_compared
        if (older or store.offset < reached) and self._rules.going_back_noticed:
            true = 0 if resyncing else store.offset
            store = store._replace(offset=0, generation=store.generation + 1 + resyncing)
            if not self._rules.sweep_at_the_end:
                store = _swept(store)
            acked = min(acked, true)
            state = state._replace(store=store, acked=acked, committed=(0, store.generation))
        subscriber = Subscriber(store.offset, store.generation, state.end, acked)
        return with_subscriber(state._replace(owner=number, went_back=False), number, subscriber)

    def _work(
        self, state: State, number: int, subscriber: Subscriber
    ) -> Iterator[tuple[str, State]]:
        rules, offset, batch = self._rules, subscriber.offset, subscriber.batch
        odd = subscriber.generation % 2 == 1
        if batch is not None:
            yield from self._store(state, number, subscriber, batch)
        else:
            for upto in sorted({min(offset + 1, state.end), state.end} - {offset}):
                then = subscriber._replace(batch=upto)
                yield f"{number} fetches {offset} to {upto}", with_subscriber(state, number, then)
        if odd and batch is None and offset >= subscriber.goal:
            store = state.store
            if rules.sweep_at_the_end and rules.swept:
                store = _swept(store, subscriber.generation)
            then = subscriber._replace(generation=subscriber.generation + 1)
            swept = state._replace(store=_reaching(store, offset, then.generation))
            yield f"{number} ends its resync", with_subscriber(swept, number, then)
        sayable = offset if batch is None or rules.ack_after_durable else batch
        if sayable > subscriber.said and not (odd and rules.no_acks_in_resync):
            said = state._replace(acked=sayable)
            if number == state.owner or not rules.former_owner_refused:
                said = said._replace(committed=(offset, subscriber.generation))
            then = subscriber._replace(said=sayable)
            yield f"{number} acknowledges {sayable}", with_subscriber(said, number, then)

    def _store(
        self, state: State, number: int, subscriber: Subscriber, batch: int
    ) -> Iterator[tuple[str, State]]:
        offset, generation = subscriber.offset, subscriber.generation
        store = _reaching(state.store, batch, generation)
        if not self._rules.position_with_data and state.store != store:
            yield f"{number} stores position {batch}", state._replace(store=store)
            return
        for at in self._readable(state, offset, batch):
            store = store._replace(rows=self._merged(store.rows, self._log[at], generation))
        then = subscriber._replace(offset=batch, batch=None)
        yield (
            f"{number} applies {offset} to {batch}",
            with_subscriber(state._replace(store=store), number, then),
        )

    def _readable(self, state: State, begin: int, end: int) -> list[int]:
        """Return the offsets that compaction has left."""
        last = {self._log[at].key: at for at in range(state.end)}
        return [
            at
            for at in range(begin, end)
            if at >= state.compacted or (last[self._log[at].key] == at and self._log[at].allowed)
        ]

    def _merged(
        self, rows: tuple[Held | None, ...], news: Output, generation: int
    ) -> tuple[Held | None, ...]:
        rules, at = self._rules, self._keys.index(news.key)
        known = rows[at]
        then: Held | None = Held(news, generation)
        if known is not None and rules.pairs_compared:
            pair, old = news[1:3], known.output[1:3]
            if pair < old:
                return rows
            if pair == old:
                loses = news.rank < known.output.rank and rules.tombstone_wins
                most = max(generation, known.generation)
                then = Held(
                    known.output if loses else news,
                    most if rules.generation_confirmed else known.generation,
                )
        if not news.allowed and not rules.tombstones_remembered:
            then = None
        return put(rows, at, then)

    def wrong(self, state: State) -> str | None:
        """Return what is wrong: an acknowledgement that is not true, and at rest what is shown."""
        shown = {each.key: each for each in _shown(state.store)}
        if not state.went_back:
            for purge in highest(self._log[: state.acked]):
                row = shown.get(purge.key)
                if not purge.allowed and row is not None and row.rank < purge.rank:
                    return f"hidden up to {state.acked} is acknowledged, and {row} is shown"
        wanted = {each.key for each in highest(self._log) if each.allowed}
        if self.is_done(state) and set(shown) != wanted:
            return f"at rest the store shows {sorted(shown)}, not {sorted(wanted)}"
        return None

    def is_done(self, state: State) -> bool:
        """Whether the store has all, and has said so."""
        owner, end = state.subscribers[state.owner], len(self._log)
        return (
            owner is not None
            and (owner.offset, owner.batch, owner.said) == (end, None, end)
            and owner.generation % 2 == 0
        )

    def show(self, before: State, after: State) -> str:
        """Return what the store shows from now on."""
        shown = [str(each) for each in _shown(after.store)]
        return f"shows {', '.join(shown) or 'nothing'}" if before.store != after.store else ""


def with_subscriber(state: State, number: int, subscriber: Subscriber | None) -> State:
    """Return *state* with another *subscriber*."""
    return state._replace(subscribers=put(state.subscribers, number, subscriber))


def _shown(store: Store) -> list[Output]:
    return [held.output for held in store.rows if held is not None and held.output.allowed]


def _reaching(store: Store, offset: int, generation: int) -> Store:
    """Return *store* at a position, unless it is further."""
    if (generation, offset) < (store.generation, store.offset):
        return store
    return store._replace(offset=offset, generation=generation)


def _swept(store: Store, generation: int | None = None) -> Store:
    least = store.generation if generation is None else generation
    rows = tuple(None if held is None or held.generation < least else held for held in store.rows)
    return store._replace(rows=rows)
