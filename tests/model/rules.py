"""
The rules that the protocol stands on.  Each can be taken away, to see that it is needed.

A test takes every one away and expects the search to find what goes wrong without it.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Rules:
    """
    What workers and Kafka keep to.

    offsets_first: a take-over asks the group's offsets before it reads the changelog.
    offsets_wait: the broker holds that answer back while a transaction with offsets is pending.
    rows_to_the_end: the changelog is read to its end, open transactions included.
    group_metadata: offsets go under the group's generation; an earlier one is refused.
    expired_is_fenced: who has had a transaction expire can neither write nor commit it.
    offsets_before_records: who is no owner any more is refused before anything is written.
    offsets_in_transaction: offsets count with the transaction, not before.
    persist_after_commit: rows reach the local store after the commit.
    abort_forgets: after a rollback the state is that of the store.
    abort_reads_again: after a rollback the inputs are read from the committed offsets.
    grants_held: nothing is allowed before objections are read to their end at take-over.
    job_in_transaction: a fan-out and its cursor are rows of the transaction that moves them.
    job_begins_anew: a newer decision begins a running fan-out anew.
    own_aborts_answered: what a rollback has said is answered in a later epoch.
    tails_answered: so is what lies aborted at the ends of the outputs at take-over.
    left_is_noted: what is still unanswered is a row of the state, too.
    """

    offsets_first: bool = True
    offsets_wait: bool = True
    rows_to_the_end: bool = True
    group_metadata: bool = True
    expired_is_fenced: bool = True
    offsets_before_records: bool = True
    offsets_in_transaction: bool = True
    persist_after_commit: bool = True
    abort_forgets: bool = True
    abort_reads_again: bool = True
    grants_held: bool = True
    job_in_transaction: bool = True
    job_begins_anew: bool = True
    own_aborts_answered: bool = True
    tails_answered: bool = True
    left_is_noted: bool = True


@dataclass(frozen=True)
class StoreRules:
    """
    What a data store and its subscriber keep to.

    pairs_compared: a change below the pair that is remembered is dropped.
    tombstone_wins: at an equal pair.
    tombstones_remembered: the pair of what is purged is kept.
    position_with_data: the position becomes durable with the changes that reach it.
    ack_after_durable: an acknowledgement follows the data.
    no_acks_in_resync: during a resync the last acknowledgement stands.
    going_back_noticed: a store behind its acknowledgement is resynced.
    generation_compared: so is one of an earlier generation than the group's offset.
    former_owner_refused: the group takes no offsets from who has lost the place.
    sweep_at_the_end: what a resync does not confirm is removed when it has read to the end,
    never before.
    swept: it is removed at all.
    generation_confirmed: a row that is met again with the same pair belongs to the resync.
    """

    pairs_compared: bool = True
    tombstone_wins: bool = True
    tombstones_remembered: bool = True
    position_with_data: bool = True
    ack_after_durable: bool = True
    no_acks_in_resync: bool = True
    going_back_noticed: bool = True
    generation_compared: bool = True
    former_owner_refused: bool = True
    sweep_at_the_end: bool = True
    swept: bool = True
    generation_confirmed: bool = True
