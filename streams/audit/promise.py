"""
What a store has promised: how far it says that it has applied each place.

Its own positions say so, and its acknowledgements; the further of the two counts, as after a way
back to a backup the positions are behind what was acknowledged, and that is a promise broken.
Nothing counts of a topic that was made anew, nor above its end.  During a resync a position says
nothing.  Pure.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from streams.audit.tables import Flags, Offsets, Rows
from streams.sinks.sink import Place, Position
from streams.subscriber.places import is_settled
from streams.training.positions import Positions


class Word(NamedTuple):
    """
    What a store says at one moment.

    positions: stored with its data.  hidden, erased: acknowledged, by place; empty where the
    store's name is not known.
    """

    positions: Mapping[Place, Position]
    hidden: Mapping[Place, int]
    erased: Mapping[Place, int]

    def says_nothing(self) -> bool:
        return not (self.positions or self.hidden)


class Promise(NamedTuple):
    """
    By topic: offsets, everything below which is applied, and which partitions are in a resync.

    followed: the topics the store has ever said anything of; both where it never did.
    """

    offsets: Mapping[str, Offsets]
    resyncing: Mapping[str, Flags]
    followed: frozenset[str]

    def covers(self, topic: str, rows: Rows) -> Flags:
        """Return which *rows* of RECORD are of what is applied."""
        covered: Flags = rows["offset"] < self.offsets[topic][rows["partition"]]
        return covered

    def behind(self, ends: Positions) -> dict[Place, int]:
        """Return by how many records each place followed is behind, control records too."""
        return {
            Place(topic, number): end - int(self.offsets[topic][number])
            for topic, each in ends.topics.items()
            if topic in self.followed
            for number, end in enumerate(each.offsets)
            if end > self.offsets[topic][number]
        }


def promise(word: Word, ends: Positions) -> Promise:
    """Return what *word* promises of topics that end at *ends*."""
    offsets: dict[str, Offsets] = {}
    resyncing: dict[str, Flags] = {}
    for name, topic in ends.topics.items():
        offsets[name] = np.zeros(len(topic.offsets), np.int64)
        resyncing[name] = np.zeros(len(topic.offsets), np.bool_)
        for number, end in enumerate(topic.offsets):
            place = Place(name, number)
            position = word.positions.get(place)
            said = word.hidden.get(place, 0)
            if position is not None and position.topic_id != topic.topic_id:
                resyncing[name][number] = True  # The subscriber begins one when it sees this.
                continue
            if position is not None and not is_settled(position):
                resyncing[name][number] = True
            elif position is not None:
                said = max(said, position.offset)
            offsets[name][number] = said if said <= end else 0
    followed = {place.topic for place in (*word.positions, *word.hidden)} & ends.topics.keys()
    return Promise(offsets, resyncing, frozenset(followed or ends.topics))
