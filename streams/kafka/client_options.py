"""
The way into a Kafka that takes us: librdkafka's options, as aiokafka's client has them.
"""

import ssl
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

# About who we are and whom we believe: what is not named here, only librdkafka can do.
_WAYS_IN: Final = ("enable.sasl", "enable.ssl", "sasl.", "security.", "ssl.")
_KNOWN: Final = frozenset(
    {
        "enable.ssl.certificate.verification",
        "sasl.mechanism",
        "sasl.mechanisms",
        "sasl.password",
        "sasl.username",
        "security.protocol",
        "ssl.ca.location",
        "ssl.ca.pem",
        "ssl.certificate.location",
        "ssl.endpoint.identification.algorithm",
        "ssl.key.location",
        "ssl.key.password",
    }
)
_MECHANISMS: Final = frozenset({"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"})
_BY_DEFAULT: Final = "probe"  # librdkafka's word for the system's certificates


def beyond(options: Iterable[tuple[str, str]]) -> str | None:
    """Return the name of an option that librdkafka alone can follow; None where there is none."""
    for name, value in options:
        if name.startswith(_WAYS_IN) and name not in _KNOWN:
            return name
        if name in {"sasl.mechanism", "sasl.mechanisms"} and value.upper() not in _MECHANISMS:
            return f"{name}={value}"
    return None


def client_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return what aiokafka's client takes for *options* of which none is `beyond` it.

    Raises OSError and ssl.SSLError where a certificate or key cannot be read.
    """
    protocol = str(options.get("security.protocol", "plaintext")).upper()
    mechanism = options.get("sasl.mechanisms", options.get("sasl.mechanism", "PLAIN"))
    return {
        "bootstrap_servers": options["bootstrap.servers"].split(","),
        "client_id": options.get("client.id", "objections"),
        "security_protocol": protocol,
        "ssl_context": _ssl_context(options) if protocol.endswith("SSL") else None,
        "sasl_mechanism": str(mechanism).upper(),
        "sasl_plain_username": options.get("sasl.username"),
        "sasl_plain_password": options.get("sasl.password"),
    }


def _ssl_context(options: Mapping[str, Any]) -> ssl.SSLContext:
    authority = options.get("ssl.ca.location", _BY_DEFAULT)
    folder = authority != _BY_DEFAULT and Path(authority).is_dir()
    context = ssl.create_default_context(
        cafile=None if folder or authority == _BY_DEFAULT else authority,
        capath=authority if folder else None,
        cadata=options.get("ssl.ca.pem"),
    )
    if options.get("ssl.endpoint.identification.algorithm", "https").lower() == "none":
        context.check_hostname = False
    if options.get("enable.ssl.certificate.verification", "true").lower() == "false":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    certificate = options.get("ssl.certificate.location")
    if certificate is not None:
        key, password = options.get("ssl.key.location"), options.get("ssl.key.password")
        context.load_cert_chain(certificate, key, password)
    return context
