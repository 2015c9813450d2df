"""
What of faust-streaming our transport leans on: a new version that moves it fails here, not in use.
"""

import inspect
from importlib.metadata import version

import faust
from faust import streams as faust_streams
from faust.tables.recovery import Recovery
from faust.transport.consumer import Consumer
from faust.types import TP, ConsumerMessage

from streams.settings import Settings
from streams.worker.app import make_app
from streams.worker.transport import RoundConsumer


def test_the_version_is_the_one_we_know() -> None:
    """Faust is pinned exactly; raising it means reading what follows again."""
    assert "0.15.3" == version("faust-streaming")


def test_events_of_another_generation_are_dropped() -> None:
    """Faust skips an event whose generation is not the app's, so ours carry it."""
    assert "generation_id" in inspect.signature(ConsumerMessage.__init__).parameters
    assert "message.generation_id != self.app.consumer_generation_id" in inspect.getsource(
        faust_streams
    )


def test_events_of_a_lower_offset_are_dropped() -> None:
    """Faust drops an event whose offset is below one it has seen, so ours are numbered anew."""
    source = inspect.getsource(Consumer._drain_messages)

    assert "offset >= r_offset" in source
    assert "DROPPED MESSAGE" in source


def test_a_rebalance_ends_with_the_generation_it_began_with() -> None:
    """Recovery waits for ever where the app's generation is not the one that was handed over."""
    source = inspect.getsource(Recovery.on_rebalance)

    assert "generation_id != app.consumer_generation_id" in source


def test_what_we_override_is_still_there() -> None:
    """Every method our consumer overrides is one that Faust's consumer has."""
    ours = {name for name in vars(RoundConsumer) if callable(getattr(RoundConsumer, name))}
    own = {"deliver", "faust_assigned", "faust_revoked", "__init__"}

    missing = {name for name in ours - own if not hasattr(Consumer, name)}

    assert set() == missing


def test_the_app_does_nothing_by_itself() -> None:
    """No web server, no topics made, no leader topic, no wait for acknowledgements."""
    conf = make_app(Settings()).conf

    assert not conf.web_enabled
    assert not conf.topic_allow_declare
    assert conf.topic_disable_leader
    assert not conf.stream_wait_empty
    assert isinstance(TP("content", 1), tuple)
    assert faust.App in make_app(Settings()).__class__.__mro__
