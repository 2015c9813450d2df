"""
The ways into a Kafka: those aiokafka's client has, and those left to librdkafka.
"""

import ssl
from pathlib import Path

import pytest
import trustme

from streams.kafka.client_options import beyond, client_options
from tests.worker_settings import BY_LIBRDKAFKA

BOOTSTRAP = {"bootstrap.servers": "a:1,b:2"}


def test_without_options_it_is_a_plain_connection() -> None:
    """To any of several brokers."""
    found = client_options(BOOTSTRAP)

    assert ["a:1", "b:2"] == found["bootstrap_servers"]
    assert "PLAINTEXT" == found["security_protocol"]
    assert found["ssl_context"] is None


@pytest.mark.parametrize("name", ["sasl.mechanism", "sasl.mechanisms"])
def test_user_and_password_go_along(name: str) -> None:
    """By either name of the mechanism, and in any case."""
    options = {name: "scram-sha-256", "sasl.username": "u", "sasl.password": "p"}

    found = client_options(BOOTSTRAP | options | {"security.protocol": "sasl_plaintext"})

    assert "SASL_PLAINTEXT" == found["security_protocol"]
    assert "SCRAM-SHA-256" == found["sasl_mechanism"]
    assert ("u", "p") == (found["sasl_plain_username"], found["sasl_plain_password"])


def test_certificates_are_believed_and_shown(tmp_path: Path) -> None:
    """Of the authority that is named, and of us; names are checked unless told otherwise."""
    authority, ours = trustme.CA(), trustme.CA().issue_cert("us.example")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    ours.cert_chain_pems[0].write_to_path(tmp_path / "us.pem")
    ours.private_key_pem.write_to_path(tmp_path / "us.key")
    options = BOOTSTRAP | {
        "security.protocol": "ssl",
        "ssl.ca.location": str(tmp_path / "ca.pem"),
        "ssl.certificate.location": str(tmp_path / "us.pem"),
        "ssl.key.location": str(tmp_path / "us.key"),
    }

    context = client_options(options)["ssl_context"]
    assert 1 == context.cert_store_stats()["x509_ca"]
    assert (True, ssl.CERT_REQUIRED) == (context.check_hostname, context.verify_mode)

    nameless = client_options(options | {"ssl.endpoint.identification.algorithm": "none"})
    assert (False, ssl.CERT_REQUIRED) == (
        nameless["ssl_context"].check_hostname,
        nameless["ssl_context"].verify_mode,
    )
    trusting = client_options(options | {"enable.ssl.certificate.verification": "false"})
    assert ssl.CERT_NONE == trusting["ssl_context"].verify_mode


@pytest.mark.parametrize(
    "name, value, expected",
    [
        ("sasl.mechanism", "OAUTHBEARER", "sasl.mechanism=OAUTHBEARER"),
        ("sasl.mechanisms", "GSSAPI", "sasl.mechanisms=GSSAPI"),
        ("sasl.oauthbearer.method", "oidc", "sasl.oauthbearer.method"),
        ("ssl.keystore.location", "/keys", "ssl.keystore.location"),
        ("enable.ssl.whatever", "x", "enable.ssl.whatever"),
        ("sasl.mechanism", "PLAIN", None),
        ("ssl.ca.pem", "x", None),
        ("socket.keepalive.enable", "true", None),
    ],
)
def test_what_librdkafka_alone_knows_is_left_to_it(
    name: str, value: str, expected: str | None
) -> None:
    """Whatever it is: who we are and whom we believe is never passed over."""
    assert expected == beyond([("client.id", "x"), (name, value)])


def test_the_tests_have_an_option_for_librdkafka() -> None:
    """So that its transactions are tested, too."""
    ((name, value),) = BY_LIBRDKAFKA.items()
    assert beyond([(name.removeprefix("KAFKA_").lower().replace("_", "."), value)]) is not None
