"""Settings are read once, all problems are told at once, and secrets never."""

from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.errors import SettingsError
from streams.setting_values import Store
from streams.settings import PREFIX, VARIABLES, Settings


def problems(**variables: str) -> list[str]:
    """Return what is wrong with an environment of OBJECTIONS_ *variables*."""
    with pytest.raises(SettingsError) as caught:
        Settings.read({f"{PREFIX}{name}": value for name, value in variables.items()})
    return list(caught.value.problems)


def read(**variables: str) -> Settings:
    """Return the settings of an environment of OBJECTIONS_ *variables*."""
    return Settings.read({f"{PREFIX}{name}": value for name, value in variables.items()})


def test_defaults_are_the_contracts() -> None:
    """
    An empty environment, and one of other programs, gives the contract's defaults.
    """
    settings = Settings.read({"PATH": "/bin", "OBJECTION": "x"})

    assert Settings() == settings
    assert settings.bootstrap == "127.0.0.1:9092"
    assert (settings.topic_prefix, settings.group) == ("", "objections")
    assert (settings.http_host, settings.http_port) == ("127.0.0.1", 6066)
    assert settings.session_timeout_ms == settings.transaction_timeout_ms
    assert [] == settings.contradictions()


def test_every_setting_is_in_the_table() -> None:
    """
    The table people read has a variable for every field, and no other.
    """
    named = {f.name for f in fields(Settings)} - {"kafka_options", "http_host", "http_port"}

    assert {name.lower() for name in VARIABLES} == named | {"http"}


def test_all_variables_are_read() -> None:
    """
    Each variable ends up in its field.
    """
    settings = read(
        BOOTSTRAP="a:1, [::1]:2",
        TOPIC_PREFIX="eu.",
        STATE_DIR="/var/state",
        CLOCK_OFFSET_S="-0.5",
        POLICY="policy.yaml",
        HTTP="[::]:0",
        HTTP_TOKEN="0123456789abcdef",
        SUBJECT_KEY="0123456789abcdef0123456789abcdef",
        INTAKE_HTTP="0.0.0.0:80",
        INTAKE_KEY=f"{'a' * 32},{'b' * 32}",
        INTAKE_PROXIES="1",
        INTAKE_RATE="5",
        INTAKE_CONFIRM_MS="3000",
        INTAKE_CONTACT="mailto:a@b",
        SESSION_TIMEOUT_MS="90000",
        BLOCK_CACHE_BYTES="1048576",
        FANOUT_INLINE_ITEMS="0",
        FANOUT_SLICE_ITEMS="10",
        BATCH_RECORDS="7",
    )

    assert settings == Settings(
        bootstrap="a:1,[::1]:2",
        topic_prefix="eu.",
        group="eu.objections",
        state_dir=Path("/var/state"),
        clock_offset_s=-0.5,
        policy=Path("policy.yaml"),
        http_host="::",
        http_port=0,
        http_token="0123456789abcdef",
        subject_key="0123456789abcdef0123456789abcdef",
        intake_http=("0.0.0.0", 80),
        intake_key=("a" * 32, "b" * 32),
        intake_proxies=1,
        intake_rate=5,
        intake_confirm_ms=3_000,
        intake_contact="mailto:a@b",
        session_timeout_ms=90_000,
        transaction_timeout_ms=90_000,
        rebalance_timeout_ms=90_000,
        block_cache_bytes=1_048_576,
        fanout_inline_items=0,
        fanout_slice_items=10,
        batch_records=7,
    )


def test_empty_counts_as_not_set() -> None:
    """
    An empty variable, as compose files make them, gives the default.
    """
    assert Settings() == read(BOOTSTRAP="", POLICY=" ", GROUP="", CLOCK_OFFSET_S="")


def test_settings_cannot_be_changed() -> None:
    """
    Nobody changes a setting after it was read.
    """
    with pytest.raises(FrozenInstanceError):
        Settings().group = "other"  # type: ignore[misc]


def test_topics_carry_the_prefix() -> None:
    """
    A full name is the prefix and the contract's name.
    """
    assert read(TOPIC_PREFIX="eu.").topic("objections") == "eu.objections"


@pytest.mark.parametrize(
    "variable,held,expected",
    [
        ("BOOTSTRAP", "localhost", "HOST:PORT"),
        ("BOOTSTRAP", "a:1,,b:2", "HOST:PORT"),
        ("BOOTSTRAP", "a:0", "a port from 1 to 65535"),
        ("BOOTSTRAP", "::1:9092", "HOST:PORT"),
        ("HTTP", "127.0.0.1:65536", "a port from 0 to 65535"),
        ("HTTP", ":6066", "HOST:PORT"),
        ("TOPIC_PREFIX", "a b", "letters, digits"),
        ("TOPIC_PREFIX", "a" * 201, "at most 200"),
        ("CLOCK_OFFSET_S", "1h", "a number of seconds"),
        ("CLOCK_OFFSET_S", "inf", "a number of seconds"),
        ("SESSION_TIMEOUT_MS", "999", "a whole number of milliseconds from 1000"),
        ("SESSION_TIMEOUT_MS", "10s", "a whole number of milliseconds"),
        ("BLOCK_CACHE_BYTES", "64M", "a whole number of bytes from 1048576"),
        ("FANOUT_INLINE_ITEMS", "-1", "a whole number from 0"),
        ("BATCH_RECORDS", "0", "a whole number from 1"),
        ("INTAKE_CONTACT", "javascript:alert(1)", "https://..., or mailto:"),
        ("STORES", "index", "NAME=TOPIC+TOPIC"),
        ("STORES", "a b=training-users", "NAME=TOPIC+TOPIC"),
        ("STORES", "index=objections", "topics out of"),
        ("STORES", "index=", "topics out of"),
        ("STORES", "index=group:training-content", "group:GROUP:TOPIC"),
        ("STORES", "index=group::training-content", "group:GROUP:TOPIC"),
        ("STORES", "i=training-users;i=training-content", "each store once"),
        ("STORES", "i=training-users+training-users", "each topic of 'i' once"),
    ],
)
def test_wrong_values_are_named(variable: str, held: str, expected: str) -> None:
    """
    An error names the variable, what it held and what is expected.
    """
    (problem,) = problems(**{variable: held})

    assert problem.startswith(f"OBJECTIONS_{variable} is {held!r}, expected ")
    assert expected in problem


def test_all_problems_at_once() -> None:
    """
    Nobody has to start the program once for each mistake.
    """
    told = problems(BOOTSTRAP="x", HTTP="y", BATCH_RECORDS="z", BOOTSTRP="a:1")

    assert len(told) == 4


def test_misspelt_variable_is_refused_with_the_nearest() -> None:
    """
    A variable nobody reads does not pass unseen.
    """
    (near,) = problems(BOOTSTRP="a:1")
    (far,) = problems(QQQ="1")

    assert near == "OBJECTIONS_BOOTSTRP is not a setting; did you mean OBJECTIONS_BOOTSTRAP?"
    assert "known are OBJECTIONS_BOOTSTRAP" in far


@pytest.mark.parametrize(
    "variables,named",
    [
        ({"TRANSACTION_TIMEOUT_MS": "10001"}, "OBJECTIONS_TRANSACTION_TIMEOUT_MS is 10001"),
        (
            {"SESSION_TIMEOUT_MS": "30000", "REBALANCE_TIMEOUT_MS": "29999"},
            "OBJECTIONS_REBALANCE_TIMEOUT_MS is 29999",
        ),
    ],
)
def test_timeouts_must_fit_together(variables: dict[str, str], named: str) -> None:
    """
    A transaction outlives no session, and a session no rebalance.
    """
    (problem,) = problems(**variables)

    assert problem.startswith(named)


def test_stores_are_the_contracts_example() -> None:
    """
    Stores write acknowledgements themselves, or a consumer group's offsets count.
    """
    settings = read(
        STORES="feature-store=training-users;index=training-users+training-content;"
        "es=group:connect:es:training-content;"
    )

    assert settings.stores == (
        Store("feature-store", ("training-users",)),
        Store("index", ("training-users", "training-content")),
        Store("es", ("training-content",), group="connect:es"),
    )


def test_kafka_options_are_passed_on() -> None:
    """
    OBJECTIONS_KAFKA_SECURITY_PROTOCOL is security.protocol; the caller's own options win.
    """
    settings = read(
        BOOTSTRAP="a:1", KAFKA_SECURITY_PROTOCOL="SASL_SSL", KAFKA_CLIENT_ID="from-environment"
    )

    def callback() -> None:
        """Stand for any callback."""

    assert settings.kafka(client_id="mine", error_cb=callback, **{"linger.ms": 5}) == {
        "bootstrap.servers": "a:1",
        "metadata.recovery.strategy": "none",
        "security.protocol": "SASL_SSL",
        "client.id": "mine",
        "error_cb": callback,
        "linger.ms": 5,
    }


@pytest.mark.parametrize(
    "variable,remedy",
    [
        ("KAFKA_BOOTSTRAP_SERVERS", "set OBJECTIONS_BOOTSTRAP"),
        ("KAFKA_GROUP_ID", "set OBJECTIONS_GROUP"),
        ("KAFKA_ISOLATION_LEVEL", "promises rest on its own isolation.level"),
        ("KAFKA_", "names no option"),
    ],
)
def test_kafka_options_of_ours_are_refused(variable: str, remedy: str) -> None:
    """
    What would break a promise, or has a variable of its own, is not passed on.
    """
    (problem,) = problems(**{variable: "x"})

    assert f"OBJECTIONS_{variable} " in problem
    assert remedy in problem


@pytest.mark.parametrize(
    "variable", ["SASL_PASSWORD", "SSL_KEY_PEM", "SSL_KEYSTORE_PASSWORD", "SASL_OAUTHBEARER_CONFIG"]
)
def test_secrets_are_never_shown(variable: str) -> None:
    """
    Neither `repr` nor the shown options nor an error about another setting hold a secret.
    """
    variables = {f"KAFKA_{variable}": "hunter2", "KAFKA_SASL_USERNAME": "ann"}
    settings = read(**variables)

    assert "hunter2" in settings.kafka().values()
    assert "hunter2" not in repr(settings)
    assert "hunter2" not in str(settings.shown_kafka_options())
    assert settings.shown_kafka_options()["sasl.username"] == "ann"
    assert "hunter2" not in "\n".join(problems(**variables, HTTP="wrong"))


@given(st.dictionaries(st.sampled_from(sorted(VARIABLES)), st.text(max_size=30)))
def test_any_text_is_read_or_refused(variables: dict[str, str]) -> None:
    """
    Whatever the variables hold: settings without contradictions, or a SettingsError.
    """
    try:
        found = read(**variables).contradictions()
    except SettingsError as error:
        found = [] if error.problems else ["refused without a reason"]

    assert [] == found
