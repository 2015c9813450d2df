"""
A real Kafka that lets in only who has a password, over TLS, and allows only what it was told to.

    with secured_kafka(folder, principals=["worker"]) as secured:
        environ = secured.variables("worker")  # OBJECTIONS_ variables, without that

Its passwords and names are made up and unlike any other text, so that a test may look for them.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import trustme
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from streams.kafka.local import HOST, LocalKafka
from streams.settings import Settings
from tests.conftest import QUICK
from tests.worker_settings import environ_of

ADMIN: Final = "admin"
MECHANISM: Final = "SCRAM-SHA-512"
_SCRAM: Final = "org.apache.kafka.common.security.scram.ScramLoginModule"


class SecuredKafka(NamedTuple):
    """A Kafka that runs; ca_path: the certificate to trust."""

    kafka: LocalKafka
    ca_path: Path

    def variables(self, principal: str, **others: object) -> dict[str, Any]:
        """Return the settings of *principal*, without OBJECTIONS_; *others* add or replace."""
        return {
            "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "KAFKA_SSL_CA_LOCATION": self.ca_path,
            "KAFKA_SASL_MECHANISM": MECHANISM,
            "KAFKA_SASL_USERNAME": principal,
            "KAFKA_SASL_PASSWORD": password_of(principal),
            **others,
        }

    def options(self, principal: str) -> dict[str, Any]:
        """Return what `Settings.kafka` takes besides, to be *principal*."""
        found = self.variables(principal).items()
        return {name.removeprefix("KAFKA_").lower(): str(value) for name, value in found}

    def environ(self, principal: str, prefix: str, **others: object) -> dict[str, str]:
        """Return the environment of a process of *principal* on *prefix*."""
        return environ_of(self.kafka.bootstrap, prefix, self.variables(principal, **others))

    def settings(self, principal: str, prefix: str, **others: object) -> Settings:
        """Return the settings of *principal* on *prefix*."""
        return Settings.read(self.environ(principal, prefix, **others))


def password_of(principal: str) -> str:
    """Return the password *principal* has here."""
    return f"pw-{principal}-7Hq2xZ"


@contextmanager
def secured_kafka(folder: Path, principals: Iterable[str]) -> Iterator[SecuredKafka]:
    """Run a Kafka that knows *principals*, and the admin, who alone may do anything yet."""
    folder.mkdir(parents=True, exist_ok=True)
    ca_path, keys_path = _certificates(folder)
    known = [ADMIN, *principals]
    properties = QUICK | {
        "sasl.enabled.mechanisms": MECHANISM,
        "sasl.mechanism.inter.broker.protocol": MECHANISM,
        "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": (
            f'{_SCRAM} required username="{ADMIN}" password="{password_of(ADMIN)}";'
        ),
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(keys_path),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(ca_path),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "false",
        # The broker itself is anonymous to its controller; no client can be, where it may connect.
        "super.users": f"User:{ADMIN};User:ANONYMOUS",
    }
    users = [f"{MECHANISM}=[name={each},password={password_of(each)}]" for each in known]
    client = {
        "security.protocol": "SASL_SSL",
        "ssl.ca.location": str(ca_path),
        "sasl.mechanism": MECHANISM,
        "sasl.username": ADMIN,
        "sasl.password": password_of(ADMIN),
    }
    with LocalKafka(
        folder / "kafka",
        properties=properties,
        protocol="SASL_SSL",
        format_arguments=[part for user in users for part in ("--add-scram", user)],
        client=client,
    ) as kafka:
        yield SecuredKafka(kafka, ca_path)


def _certificates(folder: Path) -> tuple[Path, Path]:
    """Write an authority's certificate, and a key with its certificate for this machine."""
    authority = trustme.CA()
    issued = authority.issue_cert(HOST, "localhost")
    ca_path, keys_path = folder / "ca.pem", folder / "broker.pem"
    authority.cert_pem.write_to_path(ca_path)
    # Java takes keys in PKCS 8 only.
    key = load_pem_private_key(issued.private_key_pem.bytes(), None)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    keys_path.write_bytes(pem + b"".join(each.bytes() for each in issued.cert_chain_pems))
    return ca_path, keys_path
