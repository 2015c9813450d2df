"""
The protocol's model is right to a stated depth, and wrong as soon as a rule is taken away.

MODEL_FAULTS=N searches with up to N faults in each (by default as many as the tables say, so that
it takes seconds); 2 takes minutes and gigabytes.
"""

import gc
import os
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Final

import pytest

from tests.model.core import Content, Objection, Output
from tests.model.rules import Rules, StoreRules
from tests.model.search import Found, search
from tests.model.store import Stores
from tests.model.worker import Workers
from tests.model.world import Inputs

FAULTS: Final = os.environ.get("MODEL_FAULTS")
STATES_MAX: Final = 100_000 if FAULTS is None else 50_000_000
MUTANT_STATES_MAX: Final = 60_000  # found within seconds, or not at all

FILED, WITHDRAWN = Objection("filed", 0), Objection("withdrawn", 0)
PUBLISHED = Content(0, 1, visible=True)

# Worlds, and the faults that are tried in them.
ONE = Inputs((FILED,), (PUBLISHED,))
TWO_ITEMS = Inputs((FILED,), (PUBLISHED, Content(1, 1, visible=True)))
REVISIONS = Inputs((FILED,), (PUBLISHED, Content(0, 2, visible=False)))
TAKEN_BACK = Inputs((FILED, WITHDRAWN), (PUBLISHED,))
AGAIN = Inputs((FILED, WITHDRAWN, Objection("filed", 1)), (PUBLISHED,))
WORLDS = {
    "one": (ONE, 2),
    "two items": (TWO_ITEMS, 1),
    "revisions": (REVISIONS, 1),
    "taken back": (TAKEN_BACK, 1),
    "objected again": (AGAIN, 0),
}

A, B = Output("a", 1, 1, allowed=True), Output("b", 1, 1, allowed=True)
PURGED = Output("a", 2, 1, allowed=False)
LOGS = {
    "purged": ((A, PURGED), 3),
    "at an equal pair": ((A, PURGED._replace(epoch=1)), 3),
    "allowed again": ((A, PURGED, A._replace(epoch=3)), 1),
    "two": ((A, B, PURGED), 1),
}

# What is taken away, and where that shows: a world or log, and the faults it takes.
# Left out of a transaction, offsets are still told from the changelog's: the lower one is read.
MUTANTS: dict[str, tuple[str, int]] = {
    "offsets_first": ("one", 1),
    "offsets_wait": ("one", 1),
    "rows_to_the_end": ("one", 1),
    "group_metadata": ("one", 1),
    "expired_is_fenced": ("one", 1),
    "offsets_before_records": ("one", 1),
    "offsets_in_transaction": ("one", 1),
    "persist_after_commit": ("one", 1),
    "abort_forgets": ("one", 1),
    "abort_reads_again": ("one", 1),
    "grants_held": ("one", 0),
    "job_in_transaction": ("one", 1),
    "job_begins_anew": ("taken back", 0),
    "own_aborts_answered": ("one", 1),
    "tails_answered": ("one", 1),
    "left_is_noted": ("one", 2),
}
STORE_MUTANTS: dict[str, tuple[str, int]] = {
    "pairs_compared": ("purged", 1),
    "tombstone_wins": ("at an equal pair", 1),
    "tombstones_remembered": ("purged", 1),
    "position_with_data": ("purged", 1),
    "ack_after_durable": ("purged", 0),
    "no_acks_in_resync": ("purged", 2),
    "going_back_noticed": ("purged", 2),
    "generation_compared": ("purged", 3),
    "former_owner_refused": ("purged", 3),
    "sweep_at_the_end": ("allowed again", 1),
    "swept": ("purged", 2),
    "generation_confirmed": ("two", 1),
}


@pytest.fixture(autouse=True)
def no_garbage_collection() -> Iterator[None]:
    """States hold no cycles: looking for them takes most of the time."""
    gc.disable()
    yield
    gc.enable()


def assert_nothing_wrong(found: Found) -> None:
    """Fail with the steps that lead to what is wrong."""
    assert found.wrong is None, f"{found.wrong}\n{found.trace}"


@pytest.mark.parametrize("name", WORLDS)
def test_workers_lose_nothing(name: str) -> None:
    """Whatever the order of steps and faults, nothing is lost, and nothing is back."""
    inputs, faults = WORLDS[name]
    found = search(Workers(inputs, Rules(), int(FAULTS or faults)), STATES_MAX)

    assert_nothing_wrong(found)
    assert found.complete


@pytest.mark.parametrize("name", LOGS)
def test_a_store_shows_nothing_purged(name: str) -> None:
    """Whatever crashes, freezes or goes back: what is acknowledged is hidden."""
    log, faults = LOGS[name]
    found = search(Stores(log, StoreRules(), int(FAULTS or faults)), STATES_MAX)

    assert_nothing_wrong(found)
    assert found.complete


def test_every_rule_is_taken_away() -> None:
    """The tables below know all rules."""
    assert {each.name for each in fields(Rules)} == set(MUTANTS)
    assert {each.name for each in fields(StoreRules)} == set(STORE_MUTANTS)


@pytest.mark.parametrize("rule", MUTANTS)
def test_without_a_rule_workers_go_wrong(rule: str) -> None:
    """A counterexample is found, and can be read."""
    name, faults = MUTANTS[rule]
    rules = replace(Rules(), **{rule: False})
    found = search(Workers(WORLDS[name][0], rules, faults), MUTANT_STATES_MAX)

    print(f"without {rule}: {found.wrong}\n{found.trace}")
    assert found.wrong is not None
    assert found.trace.count("\n") + 1 == found.depth


@pytest.mark.parametrize("rule", STORE_MUTANTS)
def test_without_a_rule_a_store_goes_wrong(rule: str) -> None:
    """A counterexample is found, and can be read."""
    name, faults = STORE_MUTANTS[rule]
    rules = replace(StoreRules(), **{rule: False})
    found = search(Stores(LOGS[name][0], rules, faults), MUTANT_STATES_MAX)

    print(f"without {rule}: {found.wrong}\n{found.trace}")
    assert found.wrong is not None
    assert found.trace.count("\n") + 1 == found.depth
