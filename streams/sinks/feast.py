"""
Feast's Redis online store as a store: the features of a purged item leave it, and stay away.

`feast+redis://host:6379/0?project=shop&entity=content_id` looks after the hashes that Feast writes
for the entity with the one join key `content_id`, a string that is our content_id.  Into the hash
of an item that may be used the sink writes a feature view of its own, `objections`, with the bool
`allowed` and the strings of FEATURES.  A platform team defines that view in its repository, and
asks for `objections:allowed` together with its own features.  None means: not to be used.

- **Purged:** the item's tombstone deletes its hash with the features of all views.  What remains
  is a gravestone, a time stamp of the year 2200 for each view: Feast drops values older than the
  stored time stamp, so an older batch that is materialized afterwards stays out.
- **Locked:** an account's tombstone moves the hashes of its items out of Feast's keys in one
  script, and its record moves them back.  Redis answers nobody meanwhile: 12 µs for each item.
- **Feast does not hold** views that the sink has not met (name them: `&views=a,b`), a writer with
  `skip_dedup`, nor one that had read the time stamp just before the purge.  What they write past a
  gravestone is readable until the patrol purges it anew, every `&patrol_every_s=60`.
- **Left alone:** what Feast holds of items that no output has told of; entities with several join
  keys; features of users.  With Feast's `key_ttl_seconds` an item's view goes along with its
  features: None again.

Durable and erased mean what they mean in `streams.sinks.redis`, with the same options.
"""

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final

import redis

from streams.errors import UsageProblem
from streams.sinks import feast_keys as keys
from streams.sinks.contents import Shown
from streams.sinks.redis import DEFAULT_PREFIX, ERASE_EVERY_S, RedisSink, split_options
from streams.sinks.sink import TRAINING_USERS, Change, Place, Position

FEATURES: Final = ("user_id", "product", "kind", "modality", "language", "created_at")
ALLOWED: Final = "allowed"
DEFAULT_VIEW: Final = "objections"
PATROL_EVERY_S: Final = 60.0
PATROL_KEYS: Final = 500  # one call of the script, about a millisecond
_OPTIONS: Final = {"project", "entity", "view", "views", "patrol_every_s"}

logger = logging.getLogger(__name__)


class FeastSink(RedisSink):
    """
    A store at *url*: `feast+redis://host:6379/0?project=…&entity=…`, or `feast+rediss://`.

    view: the name of the sink's own feature view.
    views: those of others, `a,b`; the sink meets them by itself when it first purges from them.
    """

    boxes = "feast_boxes.lua"
    fields = FEATURES

    def __init__(self, url: str, *, erase_every_s: float = ERASE_EVERY_S) -> None:
        bare, options = split_options(url.removeprefix("feast+"), _OPTIONS)
        missing = [name for name in ("project", "entity") if not options.get(name)]
        if missing:
            message = (
                f"the sink's URL names no {' and no '.join(missing)}; expected the project of "
                "feature_store.yaml and the join key that is a content_id, as in "
                "feast+redis://127.0.0.1:6379/0?project=shop&entity=content_id"
            )
            raise UsageProblem(message)
        self._project, self._entity = options["project"], options["entity"]
        self._view = options.get("view", DEFAULT_VIEW)
        self._views = [name for name in options.get("views", "").split(",") if name]
        try:
            self._patrol_every_s = float(options.get("patrol_every_s", PATROL_EVERY_S))
        except ValueError as error:
            raise UsageProblem(f"patrol_every_s in the sink's URL: {error}") from error
        super().__init__(bare, erase_every_s=erase_every_s)
        if self.prefix == DEFAULT_PREFIX:
            self.prefix += f"feast:{self._project}:{self._entity}:"
        self._stopping = threading.Event()
        self._patrolling: threading.Thread | None = None

    def positions(self) -> Mapping[Place, Position]:
        # Asked for by the sink that writes, not by another that only erases beside it.
        if self._patrolling is None and self._patrol_every_s > 0:
            self._stopping.clear()
            self._patrolling = threading.Thread(target=self._walk, daemon=True, name="patrol")
            self._patrolling.start()
        return super().positions()

    def shown(self) -> Iterator[Sequence[Shown]]:
        """Yield the items of which Feast would answer that they are `allowed`."""
        head, project = keys.key_head(self._entity), self._project.encode()
        pattern = keys.glob_text(head) + b"*" + keys.glob_text(project)
        asked = [keys.feature_field(self._view, name) for name in (ALLOWED, *FEATURES)]
        with self._answers() as client:
            for names in _parts(client.scan_iter(match=pattern, count=PATROL_KEYS)):
                calls = client.pipeline(transaction=False)
                for name in names:
                    calls.hmget(name, asked)  # type: ignore[arg-type]  # bytes will do
                yield [
                    _shown(keys.entity_of(name, self._entity, self._project), found[1:])
                    for name, found in zip(names, calls.execute(), strict=True)
                    if found[0] == keys.TRUE
                ]

    def erase(self) -> None:
        with self._answers() as client:
            self.patrol(client)
        super().erase()

    def close(self) -> None:
        if self._patrolling is not None:
            self._stopping.set()
            self._patrolling.join()
            self._patrolling = None
        super().close()

    def patrol(self, client: redis.Redis) -> int:
        """Purge what was written past a gravestone; return of how many items."""
        again = client.register_script(self.script("feast_patrol.lua"))
        head, project = keys.key_head(self._entity), self._project.encode()
        pattern = keys.glob_text(head) + b"*" + keys.glob_text(project)
        purged = 0
        for names in _parts(client.scan_iter(match=pattern, count=PATROL_KEYS)):
            purged += int(again(args=[self.prefix, *names]))
        if purged:
            logger.warning("%d purged items were written again, and are purged anew", purged)
        return purged

    def script(self, name: str) -> str:
        constants = {
            "HEAD": keys.lua_text(keys.key_head(self._entity)),
            "PROJECT": keys.lua_text(self._project.encode()),
            "FIELDS": keys.lua_table(keys.feature_field(self._view, name) for name in FEATURES),
            "ALLOWED": keys.lua_text(keys.feature_field(self._view, ALLOWED)),
            "OWN": keys.lua_text(f"_ts:{self._view}".encode()),
            "VIEWS": keys.lua_table(f"_ts:{name}".encode() for name in self._views),
            "FAR": keys.lua_text(keys.time_stamp(keys.FAR_S)),
        }
        lines = [f"local {constant} = {value}" for constant, value in constants.items()]
        return "\n".join([*lines, super().script(name)])

    def value(self, change: Change) -> Any:
        """Return the texts of FEATURES, empty where there is none, and the seconds since 1970."""
        if change.value is None or change.topic == TRAINING_USERS:
            return None
        texts = [str(change.value.get(name) or "") for name in FEATURES]
        return [*texts, str(change.received_ms // 1000)]

    def _walk(self) -> None:
        """Patrol now and then; of several processes the one that comes first."""
        while not self._stopping.wait(self._patrol_every_s):
            try:
                with redis.Redis.from_url(self._url) as client:
                    turn_ms = int(self._patrol_every_s * 900)
                    if client.set(f"{self.prefix}patrol", 1, nx=True, px=max(turn_ms, 1)):
                        self.patrol(client)
            except redis.RedisError as error:
                logger.warning("no patrol for purged items that came back: %s", error)


def _shown(content_id: str, found: list[bytes | None]) -> Shown:
    values = [None if each is None else keys.text_of(each) for each in found]
    named = dict(zip(FEATURES, values, strict=True))
    return Shown(content_id, f"{named['product']}/{named['user_id']}", tuple(values))


def _parts(names: Iterator[bytes]) -> Iterator[list[bytes]]:
    while part := list(islice(names, PATROL_KEYS)):
        yield part
