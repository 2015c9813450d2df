"""
What to say when Kafka does not let us in, or do what we ask.

A refusal does not pass by itself, so whoever meets one ends, with the thing and the remedy named.
No password is in these texts: Kafka's own words have none, and ours name users alone.
"""

from typing import Final

from confluent_kafka import KafkaError

from streams.settings import Settings

# What Kafka has not allowed us; its names in `kafka-acls.sh` are the operations'.
RIGHTS: Final = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    }
)
ROLES: Final = "grant the rights of its role, see deploy/acls/README.md"


def is_denied(error: KafkaError) -> bool:
    """Whether Kafka has refused a right."""
    return error.code() in RIGHTS


def denied(settings: Settings, error: KafkaError, what: str) -> str:
    """Return the text for *error*, a right refused, about *what* (`reading eu.content`)."""
    return f"Kafka refuses {user(settings)} {what}: {error.str()}. Remedy: {ROLES}."


def not_let_in(settings: Settings, error: KafkaError) -> str | None:
    """
    Return the text where *error* tells that user or certificate is refused; else None.

    A connection that breaks off while being made has the same codes, and passes.
    """
    text = error.str()
    if error.code() == KafkaError._AUTHENTICATION and "authentication failed" in text.lower():
        remedy = (
            "set OBJECTIONS_KAFKA_SASL_USERNAME, OBJECTIONS_KAFKA_SASL_PASSWORD and "
            "OBJECTIONS_KAFKA_SASL_MECHANISM to those of a user it knows"
        )
        said = f"Kafka at {settings.bootstrap} does not let {user(settings)} in: {text}"
        return f"{said}. Remedy: {remedy}."
    if error.code() == KafkaError._SSL and "certificate verify failed" in text:
        remedy = (
            "set OBJECTIONS_KAFKA_SSL_CA_LOCATION to the certificate of the authority that signed "
            "the brokers', and OBJECTIONS_BOOTSTRAP to the names in it"
        )
        said = f"the certificate of Kafka at {settings.bootstrap} is refused: {text}"
        return f"{said}. Remedy: {remedy}."
    return None


def perhaps_hidden(settings: Settings) -> str:
    """Return what to add where a topic is missing: Kafka hides those one has no right to."""
    if not any(name == "security.protocol" for name, _ in settings.kafka_options):
        return ""
    return f" Kafka also hides topics that {user(settings)} has no right to: {ROLES}."


def user(settings: Settings) -> str:
    """Return who we are to Kafka, for people."""
    options = dict(settings.kafka_options)
    name = options.get("sasl.username") or options.get("sasl.kerberos.principal")
    return "this client" if name is None else f"the user {name}"
