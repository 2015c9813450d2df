"""
Who does what, in which order: first the replay, then the objections with what disturbs them.
"""

from dataclasses import dataclass, field
from typing import Final, NamedTuple

from streams.core.times import rfc3339
from streams.demo.activity import Activity, by_size, chance
from streams.demo.items import hide_from_public, make_item
from streams.demo.people import Person, Value, make_person, turns_out_under_age

LARGEST_ACCOUNTS: Final = 3  # these object in any case: a large account is the hardest to purge
OBJECTORS: Final = 0.45  # share of the other accounts
UNDER_AGE: Final = 0.06
LATE_ITEMS: Final = 0.02  # share of items that arrive late
LATE_ITEMS_LARGEST: Final = 60
HIDDEN_ITEMS: Final = 100  # public ones that are hidden from the public
_LOCALES: Final = ("de-DE", "fr-FR", "it-IT", "es-ES", "pl-PL")
_CHANNELS: Final = ("in_app", "in_app", "email", "web", "mail")
_SOME_PRODUCTS: Final = (["facebook"], ["instagram"], ["instagram", "messenger"], ["whatsapp"])


class Step(NamedTuple):
    """An input record to be sent; *topic* as in the contract."""

    topic: str
    value: Value


@dataclass(slots=True)
class Script:
    """
    The two phases.  Counts are of what people do in the second one.

    objection_ids: of the objections filed.
    """

    replay: list[Step]
    disturbance: list[Step]
    objection_ids: set[str] = field(default_factory=set)
    partial: int = 0
    withdrawn: int = 0
    under_age: int = 0
    late_items: int = 0
    hidden_items: int = 0


def write_script(activity: list[Activity], now_ms: int, run_id: str) -> Script:
    """
    Return what happens: the same in every run, but for the *run_id* in the objections' ids.

    An id that was withdrawn once stays so, and a prefix may see several runs.
    """
    people = {user_id: make_person(user_id, now_ms) for user_id in by_size(activity)}
    late = _late(activity)
    script = Script(_people_steps(people), [])
    script.late_items = len(late)
    cast = _Cast(script, now_ms, run_id)
    for each in activity:
        step = Step("content", make_item(each, people[each.user_id]))
        if each.content_id in late:
            cast.at(chance("late", each.content_id).random(), step)
        else:
            script.replay.append(step)
    cast.hide_items()
    for rank, user_id in enumerate(people):
        cast.act(rank, user_id)
    script.disturbance = cast.in_order()
    return script


def _people_steps(people: dict[str, Person]) -> list[Step]:
    ages = [Step("account-ages", each.age) for each in people.values() if each.age]
    notices = [Step("notices", each.notice) for each in people.values() if each.notice]
    return ages + notices


def _late(activity: list[Activity]) -> set[str]:
    """Return the items that arrive only while people object; some of the largest account."""
    largest = by_size(activity)[0]
    of_largest = [each.content_id for each in activity if each.user_id == largest]
    late = {
        each.content_id
        for each in activity
        if chance("is late", each.content_id).random() < LATE_ITEMS
    }
    return late | set(chance("late of the largest").sample(of_largest, LATE_ITEMS_LARGEST))


class _Cast:
    """Puts what people do into *script*, at moments from 0 to 1."""

    def __init__(self, script: Script, now_ms: int, run_id: str) -> None:
        self._script = script
        self._now_ms = now_ms
        self._run_id = run_id
        self._timed: list[tuple[float, Step]] = []

    def at(self, moment: float, step: Step) -> None:
        self._timed.append((moment, step))

    def in_order(self) -> list[Step]:
        return [step for _, step in sorted(self._timed, key=lambda timed: timed[0])]

    def hide_items(self) -> None:
        """Let authors hide some public items from the public."""
        public = [step.value for step in self._script.replay if _is_public_item(step)]
        dice = chance("hidden")
        for item in dice.sample(public, HIDDEN_ITEMS):
            self.at(dice.random(), Step("content", hide_from_public(item)))
        self._script.hidden_items = HIDDEN_ITEMS

    def act(self, rank: int, user_id: str) -> None:
        """Let the owner of the account that is number *rank* by size do something, or nothing."""
        dice = chance("acts", user_id)
        share = dice.random()
        if rank < LARGEST_ACCOUNTS:
            # All that the largest has ever written; of the next ones, one product.
            self._object(
                user_id, 0.3 + rank / 10, 1, None if rank == 0 else _SOME_PRODUCTS[rank % 2]
            )
        elif share < OBJECTORS:
            products = dice.choice(_SOME_PRODUCTS) if dice.random() < 0.3 else None
            moment = dice.uniform(0, 0.6)
            self._object(user_id, moment, 1, products)
            if dice.random() < 0.2:
                self._withdraw(user_id, moment + 0.2)
                if dice.random() < 0.4:
                    self._object(user_id, moment + 0.4, 2, products)
        elif share < OBJECTORS + UNDER_AGE:
            record = turns_out_under_age(user_id, self._now_ms)
            self.at(dice.random(), Step("account-ages", record))
            self._script.under_age += 1

    def _object(self, user_id: str, moment: float, number: int, products: list[str] | None) -> None:
        dice = chance("objection", user_id, str(number))
        objection_id = self._objection_id(user_id, number)
        record: Value = {
            "user_id": user_id,
            "objection_id": objection_id,
            "action": "filed",
            "occurred_at": rfc3339(self._now_ms),
            "channel": dice.choice(_CHANNELS),
            "locale": dice.choice(_LOCALES),
        }
        if products is not None:
            record["products"] = products
            self._script.partial += 1
        self._script.objection_ids.add(objection_id)
        self.at(moment, Step("objections", record))

    def _withdraw(self, user_id: str, moment: float) -> None:
        record = {
            "user_id": user_id,
            "objection_id": self._objection_id(user_id, 1),
            "action": "withdrawn",
        }
        self._script.withdrawn += 1
        self.at(moment, Step("objections", record))

    def _objection_id(self, user_id: str, number: int) -> str:
        return f"o-{self._run_id}-{user_id}-{number}"


def _is_public_item(step: Step) -> bool:
    return step.topic == "content" and step.value["visibility"] == "public"
