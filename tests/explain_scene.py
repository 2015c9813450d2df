"""
A prefix whose few users have everything there is to explain, told by a real worker.

`tell` plays the story; `run_explain` runs the command as people do.
"""

import json
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from click.testing import CliRunner, Result

from streams.commands import main
from streams.kafka.local import LocalKafka
from tests.making import age, content, grown_up, notice, objection
from tests.worker_process import Inputs, Sent, Watch, Worker
from tests.worker_settings import environ_of

BORN_KID = f"{datetime.now(UTC).year - 10}-05-01"
OF_AGE_KID = f"{datetime.now(UTC).year + 8}-05-02T12:00:00.000Z"
DELIVERED_KID = datetime.now(UTC).replace(microsecond=0) - timedelta(days=3)
WINDOW_ENDS_KID = f"{DELIVERED_KID + timedelta(days=30):%Y-%m-%dT%H:%M:%S}.000Z"


class Told(NamedTuple):
    """Where the records of the story have got to, by what they are."""

    at: dict[str, Sent]

    def place(self, name: str) -> str:
        """Return "topic/partition/offset" of a record."""
        return self.at[name].place


def of_ann(**changes: Any) -> dict[str, Any]:
    """Return what is changed in a record of the user with the longest story."""
    return {"user_id": "ann", **changes}


Stage = dict[str, tuple[str, dict[str, Any]]]  # records by their names: topic and value


def stages() -> list[Stage]:
    """Return the records of the story; those of a stage are decided before the next is sent."""
    own = {"assurance": "self_declared", "birth_date": "1985-07-08"}
    verified = {"assurance": "verified", "birth_date": "1991-03-09", "country": "FR"}
    return [
        {
            "own age": ("account-ages", grown_up(**of_ann(**own))),
            "later notice": ("notices", notice(**of_ann(**delivered("n2", "2026-02-02")))),
            "item": ("content", content(**of_ann(content_id="a.1"))),
            "kid's age": ("account-ages", grown_up(user_id="kid", birth_date=BORN_KID)),
            "kid's notice": (
                "notices",
                notice(user_id="kid", delivered_at=DELIVERED_KID.isoformat()),
            ),
            "kid's item": ("content", content(user_id="kid", content_id="k.1")),
            "gone's age": ("account-ages", grown_up(user_id="gone", birth_date="1977-01-02")),
            "gone's objection": (
                "objections",
                objection(user_id="gone", objection_id="o-of-gone"),
            ),
            "gone's item": ("content", content(user_id="gone", content_id="g.1")),
        },
        {
            "verified age": ("account-ages", age(**of_ann(**verified, **observed("2026-02-01")))),
            "newer own age": ("account-ages", grown_up(**of_ann(**own, **observed("2026-03-01")))),
            "notice": ("notices", notice(**of_ann())),
            "friends": ("content", content(**of_ann(content_id="a.2", visibility="friends"))),
            "bad item": ("content", content(**of_ann(content_id="a.3", created_at="yesterday"))),
            "on facebook": ("content", content(**of_ann(content_id="a.4", product="facebook"))),
        },
        {"facebook": ("objections", objection(**of_ann(products=["facebook"])))},
        {
            "instagram": (
                "objections",
                objection(**of_ann(objection_id="o2", products=["instagram"])),
            )
        },
        {
            "bad age": ("account-ages", age(**of_ann(observed_at="2026-02-01T00:00:00"))),
            "deletion": (
                "account-ages",
                age(user_id="gone", account="deleted", **observed("2026-03-01")),
            ),
        },
        {
            "withdrawal": (
                "objections",
                objection(**of_ann(objection_id="o2", action="withdrawn")),
            ),
        },
        {"in vain": ("notices", notice(**of_ann(**delivered("n3", "2026-02-03"))))},
    ]


def observed(day: str) -> dict[str, str]:
    """Return when an age was observed."""
    return {"observed_at": f"{day}T00:00:00Z"}


def delivered(notice_id: str, day: str) -> dict[str, str]:
    """Return which notice was delivered when."""
    return {"notice_id": notice_id, "delivered_at": f"{day}T00:00:00Z"}


def tell(kafka: LocalKafka, prefix: str, worker: Worker) -> Told:
    """Let a running worker decide on the story, stage by stage."""
    at: dict[str, Sent] = {}
    with Inputs(kafka, prefix) as inputs, Watch(kafka, prefix) as watch:
        for stage in stages():
            at.update(zip(stage, inputs.send(*stage.values()), strict=True))
            watch.wait_until_caught_up(workers=[worker])
        dismissed = of_ann(action="dismissed", dead_letter=at["bad age"].place)
        (at["dismissal"],) = inputs.send(("objections", dismissed))
        watch.wait_until_caught_up(workers=[worker])
    return Told(at)


def run_explain(bootstrap: str, prefix: str, *arguments: str, **variables: object) -> Result:
    """Run `objections explain` with *arguments*; *variables* are without OBJECTIONS_."""
    environ = environ_of(bootstrap, prefix, variables)
    return CliRunner().invoke(main, ["explain", *arguments], env=environ)


def explained(bootstrap: str, prefix: str, *arguments: str, **variables: object) -> Any:
    """Return the object that `objections explain --json` prints."""
    done = run_explain(bootstrap, prefix, *arguments, "--json", **variables)
    assert 0 == done.exit_code, done.output
    return json.loads(done.stdout)
