"""
Workers that share one partition: take-over, fold, transaction, persist, ack; crash, move, freeze.

A worker that is frozen is one whose steps come late: the search tries that of every step.  What
stands for what: `ask` is takeover.py, `restore` is restore.py and aborted.py, `begin` to `persist`
are cycle.py, partition.py and transaction.py, `said` is unanswered.py, `hold_until` is gate.py.
"""

from collections.abc import Iterator

from tests.model import core
from tests.model.core import Folded, Output, Positions, Row
from tests.model.log import Kafka, Status, Transaction, highest, put
from tests.model.rules import Rules
from tests.model.world import Batch, Inputs, Phase, State, Worker, settled, with_worker


class Workers:
    """The model: *inputs* arrive, and up to *faults* of crash, move, abort and expiry happen."""

    def __init__(self, inputs: Inputs, rules: Rules, faults: int) -> None:
        self._inputs = inputs
        self._rules = rules
        self._faults = faults

    def start(self) -> State:
        """Two workers with empty stores; the first is about to take over."""
        kafka = Kafka(Positions(), 1, 0, Positions(), (None, None), (False, False))
        first = Worker(phase=Phase.TAKING, generation=1)
        return State(kafka, (first, Worker()), self._faults)

    def steps(self, state: State) -> Iterator[tuple[str, State]]:
        """Return what may happen next."""
        for name, then in self._all_steps(state):
            yield name, settled(then)

    def _all_steps(self, state: State) -> Iterator[tuple[str, State]]:
        yield from self._arrivals(state)
        for number in range(len(state.workers)):
            yield from self._markers(state, number)
            yield from self._work(state, number)
            yield from self._faults_of(state, number)

    # Kafka's own steps.

    def _arrivals(self, state: State) -> Iterator[tuple[str, State]]:
        arrived, ends = state.kafka.arrived, self._inputs.ends
        if arrived.objections < ends.objections:
            then = arrived._replace(objections=arrived.objections + 1)
            record = self._inputs.objections[arrived.objections]
            name = f"arrives: objection {record.number} {record.action}"
            yield name, state._replace(kafka=state.kafka._replace(arrived=then))
        if arrived.content < ends.content:
            then = arrived._replace(content=arrived.content + 1)
            found = self._inputs.content[arrived.content]
            kind = "visible" if found.visible else "hidden"
            name = f"arrives: {core.ITEMS[found.item]}, revision {found.revision}, {kind}"
            yield name, state._replace(kafka=state.kafka._replace(arrived=then))

    def _markers(self, state: State, number: int) -> Iterator[tuple[str, State]]:
        kafka, transaction = state.kafka, state.kafka.transactions[number]
        if transaction is None or not transaction.decided:
            return
        if transaction.offsets is not None:
            then = kafka.count_offsets(number)
            yield f"Kafka: the offsets of {number} count", state._replace(kafka=then)
        if transaction.entry is not None:
            then = kafka.count_entry(number)
            yield f"Kafka: the records of {number} count", state._replace(kafka=then)

    # Take-over, cycles.

    def _work(self, state: State, number: int) -> Iterator[tuple[str, State]]:
        worker = state.workers[number]
        if worker.phase is Phase.TAKING:
            yield from self._take_over(state, number, worker)
        elif worker.phase is Phase.SERVING:
            if worker.batch is None:
                yield from self._begin(state, number, worker)
            else:
                yield from self._go_on(state, number, worker, worker.batch)

    def _take_over(self, state: State, number: int, worker: Worker) -> Iterator[tuple[str, State]]:
        kafka, rules = state.kafka, self._rules
        may_ask = worker.restored or rules.offsets_first
        may_ask = may_ask and not (rules.offsets_wait and kafka.has_pending_offsets())
        if worker.asked is None and may_ask:
            then = worker._replace(asked=kafka.committed)
            yield f"worker {number} asks the group's offsets", self._serve(state, number, then)
        if not worker.restored and (worker.asked is not None or not rules.offsets_first):
            end = kafka.last_stable()
            if end == len(kafka.entries) or not rules.rows_to_the_end:
                then = self._restore(worker, kafka, end)
                yield f"worker {number} reads the changelog", self._serve(state, number, then)

    def _restore(self, worker: Worker, kafka: Kafka, end: int) -> Worker:
        row = kafka.past.row if worker.reached == 0 else worker.stored
        for at, entry in enumerate(kafka.entries[:end], 2):
            if entry.status is Status.COMMITTED and at > worker.reached:
                row = entry.row
        said = kafka.past.tail if self._rules.tails_answered else ()
        return worker._replace(
            restored=True, stored=row, reached=max(worker.reached, 1 + end), row=row, said=said
        )

    def _serve(self, state: State, number: int, worker: Worker) -> State:
        """Return the state with *worker*, which serves once it has all that it needs."""
        arrived = state.kafka.arrived
        if worker.asked is not None and worker.restored:
            at, asked = worker.row.at, worker.asked
            begin = Positions(min(at.objections, asked.objections), min(at.content, asked.content))
            worker = worker._replace(
                phase=Phase.SERVING,
                asked=None,
                row=worker.row._replace(at=begin),
                hold_until=arrived.objections,
                until=arrived,
            )
        return with_worker(state, number, worker)

    def _begin(self, state: State, number: int, worker: Worker) -> Iterator[tuple[str, State]]:
        if state.kafka.transactions[number] is not None:
            return
        for name, folded in self._cycles(state.kafka.arrived, worker):
            grants = any(each.allowed for each in folded.outputs)
            early = grants and folded.row.at.objections < worker.hold_until
            batch = Batch(self._noted(worker, folded), folded.outputs, early=early)
            kafka = state.kafka.change(number, Transaction())
            then = with_worker(state._replace(kafka=kafka), number, worker._replace(batch=batch))
            for what, begun in self._go_on(then, number, then.workers[number], batch):
                yield f"worker {number} folds {name}; {what.partition(' ')[2]}", begun

    def _cycles(self, arrived: Positions, worker: Worker) -> Iterator[tuple[str, Folded]]:
        """Return what a cycle may consist of: a record, all of them, a slice, or an end."""
        row, inputs, at = worker.row, self._inputs, worker.row.at
        hold = self._rules.grants_held and at.objections < worker.hold_until
        objections = inputs.objections[at.objections : arrived.objections]
        content = () if hold else inputs.content[at.content : arrived.content]
        choices = {(objections[:1], ()), ((), content[:1]), (objections, content)}
        for some, found in sorted(choices):
            if some or found:
                anew = self._rules.job_begins_anew
                folded = core.fold(row, some, found, hold=hold, job_begins_anew=anew)
                yield f"{len(some)} objections, {len(found)} items", folded
        if hold:
            return
        if row.held:
            yield "the end of the hold", core.end_hold(row)
        if row.job is not None:
            yield f"a slice, from {core.ITEMS[row.job]}", core.work_off(row)
        if (worker.said or row.left) and at.reaches(worker.until):
            above = max(row.left, *(each.epoch for each in worker.said), 0)
            yield "what is unanswered", core.answer_anew(row, above)

    def _noted(self, worker: Worker, folded: Folded) -> Row:
        """Return the row with what it has to say of what is unanswered."""
        row = folded.row
        if row.epoch > worker.row.epoch and row.left == 0 and worker.row.left:
            return row  # all was answered anew
        still = outranked(worker.said, folded.outputs)
        left = max((each.epoch for each in still), default=0)
        return row._replace(left=max(left, row.left) if self._rules.left_is_noted else 0)

    def _go_on(
        self, state: State, number: int, worker: Worker, batch: Batch
    ) -> Iterator[tuple[str, State]]:
        """Return the steps of a transaction: offsets, records, commit, persist."""
        kafka, rules = state.kafka, self._rules
        if kafka.fenced[number] and rules.expired_is_fenced:
            yield f"{number} is refused for good", with_worker(state, number, _ended(worker))
            return
        transaction = kafka.transactions[number] or Transaction()
        if not batch.told:
            if rules.group_metadata and worker.generation != kafka.generation:
                refused = state._replace(kafka=kafka.change(number, transaction).abort(number))
                yield (
                    f"{number} is refused as a former owner",
                    with_worker(refused, number, _ended(worker)),
                )
            elif rules.offsets_in_transaction:
                then = kafka.change(number, transaction._replace(offsets=batch.row.at))
                yield self._sent(state._replace(kafka=then), number, worker, batch)
            else:
                then = kafka._replace(committed=batch.row.at)
                yield self._sent(state._replace(kafka=then), number, worker, batch)
        if not batch.written and (batch.told or not rules.offsets_before_records):
            yield self._write(state, number, worker, batch, transaction)
        if batch.told and batch.written:
            then = kafka.change(number, transaction._replace(decided=True))
            wrong = state.wrong
            if batch.early:
                wrong = "something was allowed before objections were read to their end"
            decided = state._replace(kafka=then, wrong=wrong)
            yield f"{number} commits, persists", self._persist(decided, number, worker, batch)
            if left := state.faults_left:
                fault = decided._replace(faults_left=left - 1)
                yield f"{number} commits, crashes", with_worker(fault, number, _ended(worker))

    def _sent(self, state: State, number: int, worker: Worker, batch: Batch) -> tuple[str, State]:
        then = worker._replace(batch=batch._replace(told=True))
        return f"{number} sends offsets", with_worker(state, number, then)

    def _write(
        self, state: State, number: int, worker: Worker, batch: Batch, transaction: Transaction
    ) -> tuple[str, State]:
        kafka = state.kafka
        row = batch.row
        if not self._rules.job_in_transaction:
            row = row._replace(job=None)
        then = kafka.change(number, transaction).write(number, row, batch.outputs)
        worker = worker._replace(batch=batch._replace(written=True))
        if not self._rules.persist_after_commit:
            worker = worker._replace(stored=row, reached=1 + len(then.entries))
        return f"{number} writes", with_worker(state._replace(kafka=then), number, worker)

    def _persist(self, state: State, number: int, worker: Worker, batch: Batch) -> State:
        stored = batch.row if self._rules.job_in_transaction else batch.row._replace(job=None)
        transaction = state.kafka.transactions[number]
        said = outranked(worker.said, batch.outputs)
        if transaction is None or transaction.entry is None:  # expired, and nobody says so
            reached = 1 + len(state.kafka.entries)
        else:
            reached = transaction.entry + 2
        then = worker._replace(stored=stored, reached=reached, row=batch.row, said=said, batch=None)
        return with_worker(state, number, then)

    # Faults.

    def _faults_of(self, state: State, number: int) -> Iterator[tuple[str, State]]:
        kafka, worker = state.kafka, state.workers[number]
        left = state.faults_left
        is_off = worker.phase is Phase.OFF
        faulty = state._replace(faults_left=left - 1)
        transaction = kafka.transactions[number]
        undecided = transaction is not None and not transaction.decided
        if left and not is_off and kafka.owner == number:
            yield f"worker {number} crashes", with_worker(faulty, number, _ended(worker))
        if (worker.batch is None and transaction is None) or (is_off and undecided):
            lost = state.workers[kafka.owner].phase is Phase.OFF
            if lost or left:
                yield (
                    f"the partition moves to worker {number}",
                    _move(state if lost else faulty, number),
                )
        if undecided and (left or is_off):
            fenced = put(kafka.fenced, number, not is_off)
            then = kafka.abort(number)._replace(fenced=fenced)
            yield (
                f"the transaction of {number} expires",
                (state if is_off else faulty)._replace(kafka=then),
            )
        if left and undecided and worker.batch is not None and worker.batch.told:
            yield f"worker {number} has to abort", self._abort(faulty, number, worker.batch)

    def _abort(self, state: State, number: int, batch: Batch) -> State:
        rules, worker, kafka = self._rules, state.workers[number], state.kafka
        said = worker.said
        if rules.own_aborts_answered and batch.written:
            said = highest((*said, *batch.outputs))
        row = worker.row if rules.abort_forgets else batch.row
        if not rules.persist_after_commit:
            row = worker.stored  # the store is what it reads
        at = worker.row.at if rules.abort_reads_again else batch.row.at
        worker = worker._replace(
            row=row._replace(at=at),
            hold_until=max(worker.hold_until, kafka.arrived.objections),
            said=said,
            until=Positions(*map(max, worker.until, batch.row.at)),
            batch=None,
        )
        return with_worker(state._replace(kafka=kafka.abort(number)), number, worker)

    # What must hold.

    def wrong(self, state: State) -> str | None:
        """Return what is wrong: at any time in the committed log, and at rest in what remains."""
        return state.wrong or (self._wrong_at_rest(state) if self._rests(state) else None)

    def is_done(self, state: State) -> bool:
        """Whether all has arrived and is answered."""
        return self._rests(state)

    def _rests(self, state: State) -> bool:
        kafka = state.kafka
        owner = state.workers[kafka.owner]
        return (
            kafka.arrived == self._inputs.ends
            and not any(kafka.transactions)
            and owner.phase is Phase.SERVING
            and owner.batch is None
            and not any(self._cycles(kafka.arrived, owner))
        )

    def _wrong_at_rest(self, state: State) -> str | None:
        wanted, past = self._wanted(), state.kafka.past
        for reader, outputs in (("committed", past.last), ("uncommitted", past.seen)):
            shown = {each.key for each in outputs if each.allowed}
            if shown != wanted:
                has = f"{sorted(shown)}, not {sorted(wanted)}"
                return f"at rest, a reader of {reader} data has {has}"
        return None

    def _wanted(self) -> set[str]:
        """Return what a pure fold of the inputs allows."""
        inputs = self._inputs
        row, _ = core.fold(
            Row(), inputs.objections, inputs.content, hold=False, job_begins_anew=True
        )
        if not row.allowed:
            return set()
        visible = {core.ITEMS[at] for at, item in enumerate(row.items) if item and item.visible}
        return {core.USER, *visible}

    def show(self, before: State, after: State) -> str:
        """Return what is new in the log and what counts."""
        old, new = before.kafka, after.kafka
        parts = [
            f"+ {', '.join(map(str, entry.outputs)) or 'a row'}"
            for entry in new.entries[len(old.entries) :]
        ]
        if new.past.last != old.past.last:
            changed = sorted(set(new.past.last) - set(old.past.last))
            parts.append(f"committed: {', '.join(map(str, changed))}")
        if new.past.tail != old.past.tail and new.past.tail:
            parts.append(f"aborted: {', '.join(map(str, new.past.tail))}")
        if new.committed != old.committed:
            parts.append(f"group at {tuple(new.committed)}")
        return "; ".join(parts)


def outranked(said: tuple[Output, ...], outputs: tuple[Output, ...]) -> tuple[Output, ...]:
    """Return what of *said* no output outranks."""
    if not said:
        return said
    best = {each.key: each for each in highest(outputs)}
    return tuple(each for each in said if each.key not in best or best[each.key].rank < each.rank)


def _ended(worker: Worker) -> Worker:
    """Return a worker whose process has ended: its store is all that is left."""
    return Worker(stored=worker.stored, reached=worker.reached)


def _move(state: State, number: int) -> State:
    kafka = state.kafka
    if (transaction := kafka.transactions[number]) is not None and not transaction.decided:
        kafka = kafka.abort(number)  # a restarted worker's producer does so
    generation = kafka.generation + 1
    fenced = put(kafka.fenced, number, False)
    kafka = kafka._replace(generation=generation, owner=number, fenced=fenced)
    worker = _ended(state.workers[number])
    worker = worker._replace(phase=Phase.TAKING, generation=generation)
    return with_worker(state._replace(kafka=kafka), number, worker)
