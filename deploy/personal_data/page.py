"""What the page says; what lies on Kafka is said by `topics/`, what lies elsewhere by OUTSIDE."""

from datetime import timedelta
from pathlib import Path
from typing import Final, NamedTuple

import topics
from topics import Definition

PAGE: Final = Path(__file__).with_name("README.md")
_FOR_EVER: Final = "-1"

_HEAD: Final = """\
# Personal data

What the service keeps of people: where, why, for how long, and who can read it.
Made of `topics/*/topic.yaml` by `python -m deploy.personal_data`; a test finds it out of date.
Content itself (texts, pictures, voices) is not needed here, only who published \
what kind of item, where and when.
Ids are the company's own; nothing here is anonymous.
With `OBJECTIONS_SUBJECT_KEY` users go by pseudonyms of their ids in `eligibility`, \
`training-users`, `training-content`, `receipts`, the state's keys and the data stores that \
follow; ids stay in \
the input topics, in `dead-letters` and in the records that items' rows keep.
That is still personal data: whoever has the key finds the pseudonym of an id.
The key belongs to the workers, and to who runs `objections explain`, `receipt --user`, \
`dead-letters` or `import` there; a data store needs it only to find somebody by an id.

## On Kafka

"Who reads" names those whose work it is; the broker's access rights are to let nobody else.
A record that is replaced, or purged by a tombstone, can be read from the log until the broker \
compacts it: for as long as `max.compaction.lag.ms` says.
"""


class Place(NamedTuple):
    """A place outside Kafka; *path* is the source file, or folder, that writes it."""

    name: str
    what: str
    ends: str
    readers: str
    path: str


OUTSIDE: Final = (
    Place(
        "A worker's `OBJECTIONS_STATE_DIR`",
        "The rows of both changelogs for the partitions it owns, in RocksDB, not encrypted.",
        "As the changelogs; a store that was not used for half of the changelog's "
        "`delete.retention.ms` is thrown away at the next start. Remove the folder with "
        "the worker.",
        "The worker's user alone (mode 700, where the worker makes the folder).",
        "streams/state/store.py",
    ),
    Place(
        "The stores of `objections subscribe`",
        "What `training-users` and `training-content` say, and for a purged key what is needed to "
        "refuse older records: key, epoch and revision.",
        "The record with its tombstone; the acknowledgement `erased` says when its bytes are gone.",
        "Whoever reads the store.",
        "streams/sinks",
    ),
    Place(
        "`intake/receipts.sqlite` in the `OBJECTIONS_STATE_DIR` of `objections intake`",
        "What `receipts` says, sorted by user, not encrypted.",
        "Made anew at every start. Remove the folder with the process.",
        "The user it runs as alone (mode 700).",
        "streams/intake/desk.py",
    ),
    Place(
        "A link of a notice, and the address of a receipt's page",
        "The user's id, signed and readable, and of a receipt the objection's; whoever has it may "
        "object, look and withdraw in that user's name. `objections notices --form` writes "
        "links into its list (mode 600).",
        "A link as the mailer sets it, 366 days by default; a receipt's after three years. "
        "The form keeps and logs none; let a proxy before it log no paths.",
        "Whoever the notice was sent to, and whom they show it.",
        "streams/intake/tokens.py",
    ),
    Place(
        "`FILE.rejected.jsonl` beside an imported file",
        "Rows that were refused, as they were.",
        "Not by itself: remove it when the rows are mended.",
        "Its owner (mode 600).",
        "streams/importing/rejects.py",
    ),
    Place(
        "The index that `objections filter` keeps",
        "Hashes of ids under a secret key that lies beside them; no ids.",
        "Made anew when it is too old; may be removed at any time.",
        "Its owner.",
        "streams/training/cache.py",
    ),
    Place(
        "What `explain`, `receipt`, `audit` and `dead-letters list` print",
        "What is asked for.",
        "With the terminal, or the file it is sent to.",
        "Who may read the topics it is made from.",
        "streams/commands",
    ),
)

_TAIL: Final = """
## Nowhere

Metrics, spans, `/healthz`, `/readyz`, the status page and the purge acknowledgements hold no id \
of a user or an item and no date of birth.
"""


def page() -> str:
    """Return the page."""
    parts = [_HEAD]
    parts += [_section(topics.definition(name)) for name in topics.names()]
    parts.append(
        "\n## Elsewhere\n\n| where | what | until | who can read it |\n|---|---|---|---|\n"
    )
    parts += [f"| {each.name} | {each.what} | {each.ends} | {each.readers} |\n" for each in OUTSIDE]
    parts.append(_TAIL)
    return "".join(parts)


def kept(definition: Definition) -> str:
    """Return how long the broker keeps a record of a topic, from its configuration, in words."""
    config = definition.config
    if config["cleanup.policy"].value == "delete":
        retention = config["retention.ms"].value
        return "for ever" if retention == _FOR_EVER else f"{_time(retention)}, then deleted"
    lag, tombstones = config["max.compaction.lag.ms"].value, config["delete.retention.ms"].value
    return (
        f"the last record of each key; a replaced one at most {_time(lag)} more, "
        f"a tombstone {_time(tombstones)} after that"
    )


def _section(definition: Definition) -> str:
    personal = definition.personal
    what = personal.what or ", ".join(f"`{field}`" for field in personal.fields)
    lines = {
        "What": what,
        "Why": personal.why,
        "Kept": f"{kept(definition)}.",
        "Ends": personal.ends,
        "Who writes": _list(definition.writers),
        "Who reads": _list(definition.readers),
    }
    text = "".join(f"- {name}: {said}\n" for name, said in lines.items())
    return f"\n### `{definition.name}`\n\n{definition.description}\n\n{text}"


def _list(people: tuple[str, ...]) -> str:
    return f"{'; '.join(people)}."


def _time(milliseconds: str) -> str:
    found = timedelta(milliseconds=int(milliseconds))
    if found.days and not found.seconds:
        return f"{found.days} day{'' if found.days == 1 else 's'}"
    return f"{found.total_seconds() / 3600:g} hours"
