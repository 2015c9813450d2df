"""
What tests share: one real Kafka per run, a topic prefix of its own for every test.

Tests on Kafka ask for the fixture `kafka` and cannot be skipped: without the extra they fail.
Those on other servers are skipped where the server's program is absent, and fail in CI.
"""

import os
import signal
from collections.abc import Generator, Iterator

import pytest
from confluent_kafka.admin import AdminClient
from hypothesis import HealthCheck, settings

from streams.bench.run import delete_topics
from streams.kafka.local import LocalKafka
from tests.servers import ABSENT
from tests.worker_settings import new_prefix

# A slow machine is no failure; how long a test may take is said by whoever runs the tests.
settings.register_profile("default", deadline=None)
# Repeatable: the same change gives the same result twice.
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.register_profile(
    "nightly", deadline=None, max_examples=5_000, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE", "ci" if "CI" in os.environ else "default")
)

# What would make tests wait on a broker's defaults.
QUICK = {
    # Default 15 s between looks for something to compact; each costs, with all our topics.
    "log.cleaner.backoff.ms": "1000",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "200",  # Default 10 s.
}


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """
    Let an interrupt act: before each test, and before anything is started for it.

    Who runs the tests in the background may have it ignored, and so would all they start; and a
    command that an earlier test has run in this process may have left a handler of its own.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalKafka]:
    """Return the run's one Kafka, started when the first test asks for it."""
    with LocalKafka(tmp_path_factory.mktemp("kafka"), properties=QUICK) as local:
        yield local


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where CI is set, turn a skipped test on Kafka or another server into a failed one."""
    report = yield
    if "CI" not in os.environ or not report.skipped or hasattr(report, "wasxfail"):
        return report
    on_kafka = isinstance(item, pytest.Function) and "kafka" in item.fixturenames
    if on_kafka or ABSENT in str(report.longrepr):
        report.outcome = "failed"
        report.longrepr = f"a test on a real server may not be skipped in CI: {report.longrepr}"
    return report


# Files that take a minute or more: begun last, they would be waited for alone.
SLOW = (
    *("faults_kill", "restore", "fanout_kafka", "demo", "access", "positions_lost", "local_kafka"),
    *("faults_rebalance", "worker_command", "bench", "faults_freeze", "policy", "dead_letters"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the slow files."""
    slow = [f"test_{name}.py" for name in SLOW]
    items.sort(key=lambda item: slow.index(item.path.name) if item.path.name in slow else len(slow))


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> Iterator[str]:
    """Return a topic prefix that no other test has; its topics go with the test."""
    name = new_prefix()
    yield name
    if "kafka" in request.fixturenames:  # which looks after all there are, once a second
        bootstrap = request.getfixturevalue("kafka").bootstrap
        delete_topics(AdminClient({"bootstrap.servers": bootstrap, "log_level": 0}), name)


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the OBJECTIONS_ and OTEL_ variables of whoever runs the tests out of them."""
    for variable in [name for name in os.environ if name.startswith(("OBJECTIONS_", "OTEL_"))]:
        monkeypatch.delenv(variable)
