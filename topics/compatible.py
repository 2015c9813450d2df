"""
What of a released version no longer stands: `broken(before, now)`; nothing is well.

Pure; the facts are those of topics/public.py.  Adding optional fields, headers, topics, metrics,
commands, options, settings, codes, reasons and words is fine; changing or removing one is not.
Source: contract.md, its first paragraph.
"""

from collections.abc import Iterator, Mapping
from typing import Any

Facts = Mapping[str, Any]


def broken(before: Facts, now: Facts) -> list[str]:
    """Return a line for each fact of *before* that *now* has changed or lost."""
    return [
        *_topics(before["topics"], now["topics"]),
        *_lost("error code", before["error_codes"], now["error_codes"]),
        *_changed("reason", before["reasons"], now["reasons"]),
        *_words(before["words"], now["words"]),
        *_changed("metric", before["metrics"], now["metrics"]),
        *_changed("setting", before["settings"], now["settings"]),
        *_commands(before["commands"], now["commands"]),
        *_changed("exit status", before["exit_statuses"], now["exit_statuses"]),
        *_rows(before["state_rows"], now["state_rows"]),
    ]


def _lost(what: str, before: Any, now: Any) -> Iterator[str]:
    for name in before:
        if name not in now:
            yield f"{what} {name} is gone"


def _changed(what: str, before: Facts, now: Facts) -> Iterator[str]:
    yield from _lost(what, before, now)
    for name in before:
        if name in now and before[name] != now[name]:
            yield f"{what} {name} was {before[name]!r} and is {now[name]!r}"


def _words(before: Facts, now: Facts) -> Iterator[str]:
    for what, words in before.items():
        if now.get(what, [])[: len(words)] != words:
            yield f"{what}: {words} were in this order, and rows of state hold their places"


def _commands(before: Facts, now: Facts) -> Iterator[str]:
    yield from _lost("command", before, now)
    for path, options in before.items():
        yield from _lost(f"{path}: option", options, now.get(path, options))


def _rows(before: Facts, now: Facts) -> Iterator[str]:
    yield from _lost("row of state", before, now)
    for name in before.keys() & now.keys():
        old, new = before[name], now[name]
        if new["version"] < old["version"]:
            yield f"row of state {name}: version {old['version']} is not written any more"
        elif new["layout"] != old["layout"] and new["version"] == old["version"]:
            yield (
                f"row of state {name} has other fields, but still version {old['version']}: an "
                "older worker would drop what it does not know; raise it in streams/state/rows.py"
            )


def _topics(before: Facts, now: Facts) -> Iterator[str]:
    yield from _lost("topic", before, now)
    for name in before.keys() & now.keys():
        old, new = before[name], now[name]
        for fact in ("role", "key", "partitions", "cleanup"):
            if old[fact] != new[fact]:
                yield f"topic {name}: {fact} was {old[fact]!r} and is {new[fact]!r}"
        yield from _lost(f"topic {name}: header", old["headers"], new["headers"])
        if old["schema"] is not None:
            written_by_us = old["role"] != "input"
            yield from _schema(name, old["schema"], new["schema"] or {}, written_by_us)


def _schema(place: str, old: Facts, new: Facts, written_by_us: bool) -> Iterator[str]:
    """Tell what a producer (or, *written_by_us*, a reader) of *old* cannot rely on in *new*."""
    for key in sorted(old.keys() | new.keys()):
        was, is_now = old.get(key), new.get(key)
        if was == is_now or _sets_new_word_apart(key, old, is_now or {}, written_by_us):
            continue
        if key in {"properties", "$defs"}:
            was, is_now = was or {}, is_now or {}
            yield from _lost(f"{place}: field", was, is_now)
            for name in was.keys() & is_now.keys():
                yield from _schema(f"{place}.{name}", was[name], is_now[name], written_by_us)
        elif key == "required":
            yield from _required(place, was or [], is_now or [], written_by_us)
        elif key == "enum" and was and is_now:
            yield from _lost(f"{place}: word", was, is_now)
        elif key == "items" and was and is_now:
            yield from _schema(f"{place}[]", was, is_now, written_by_us)
        elif key == "anyOf" and was and is_now and len(was) == len(is_now):
            for one, other in zip(was, is_now, strict=True):
                yield from _schema(place, one, other, written_by_us)
        else:
            yield f"{place}: {key} was {was!r} and is {is_now!r}"


def _sets_new_word_apart(key: str, old: Facts, now: Facts, written_by_us: bool) -> bool:
    """Whether *key* is an `else` that demands something else of a word that *old* had not."""
    if key != "else" or written_by_us:
        return False
    tested = now.get("if", {}).get("properties", {})
    new_word = any(
        "const" in each and each["const"] not in old["properties"][name].get("enum", [None])
        for name, each in tested.items()
        if name in old["properties"]
    )
    return new_word and now.get("else") == old.get("else")


def _required(place: str, was: Any, is_now: Any, written_by_us: bool) -> Iterator[str]:
    if written_by_us:
        yield from _lost(f"{place}: always there before, field", was, is_now)
    else:
        for name in is_now:
            if name not in was:
                yield f"{place}: field {name} was optional or unknown, and is required"
