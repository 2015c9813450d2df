"""
A Kafka that refuses, a user in it for each role of deploy/acls, and each at its job once.
"""

import json
import logging
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Final, NamedTuple
from unittest.mock import patch

from click.testing import CliRunner
from confluent_kafka.admin import (  # type: ignore[attr-defined] # all of it is public
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from deploy.acls import __main__ as acls
from deploy.acls.grant import grant
from deploy.acls.roles import Place, read_roles, rules
from streams.commands import main
from streams.kafka import admin
from tests.making import content, grown_up, notice, objection
from tests.secured_kafka import ADMIN, SecuredKafka, secured_kafka
from tests.worker_process import ROOT, WAIT_S, Worker

ROLES: Final = tuple(read_roles())
STRANGER: Final = "stranger"  # known by its password, and with no rights
# Workers that lack one right each, by their users' names: the rule's operation, and its name.
LACKING: Final = {
    "lacks-group": ("Read", "lacks-group"),
    "lacks-transactions": ("Write", "lacks-transactions-"),
    "lacks-output": ("Write", "denied.training-users"),
    "lacks-input": ("Read", "denied.content"),
    "lacks-changelog": ("Read", "denied.objections-content-changelog"),
}
REVOKED: Final = "revoked"  # a worker that loses a right while it works
DENIED_PREFIX: Final = "denied."
PARTITIONS: Final = 2
PREFIX: Final = "eu."
TABLE_PREFIX: Final = "table."  # where tests write what no role would
COMMAND_S: Final = 120.0
# No worker is killed here, so nobody waits for it.  With the 2 s of other tests, a transaction that
# takes longer, as the first one over TLS on a busy machine may, is timed out by Kafka: that ends
# the worker.
SESSION_TIMEOUT_MS: Final = 15_000
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

RECORDS: Final = {
    "account-ages": [grown_up(user_id="ann"), grown_up(user_id="bob")],
    "notices": [notice(user_id="ann"), notice(user_id="bob", notice_id="n2")],
    "objections": [objection(user_id="bob", objection_id="o-bob")],
    "content": [
        content(user_id="ann", content_id="a1"),
        content(user_id="bob", content_id="b1"),
    ],
}


class Done(NamedTuple):
    """How a command has ended."""

    status: int
    output: str
    errors: str


class Access:
    """The scene: *secured* with the topics of PREFIX and TABLE_PREFIX, and who may do what."""

    def __init__(self, secured: SecuredKafka, folder: Path) -> None:
        self.secured = secured
        self.folder = folder

    def run(self, principal: str, *arguments: object, **variables: object) -> Done:
        """Run `objections` with *arguments* as *principal*, here; what it logs is among errors."""
        logged = StringIO()
        handler = logging.StreamHandler(logged)
        handlers = {number: signal.getsignal(number) for number in SIGNALS}
        logging.getLogger().addHandler(handler)
        environ = self.secured.environ(principal, PREFIX, **variables)
        try:
            with patch.dict(os.environ, environ, clear=True):
                done = CliRunner().invoke(main, list(map(str, arguments)))
        finally:
            logging.getLogger().removeHandler(handler)
            for number, before in handlers.items():
                signal.signal(number, before)
        errors = done.stderr + logged.getvalue()
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            errors += "".join(traceback.format_exception(done.exception))
        return Done(done.exit_code, done.stdout, errors)

    def process(self, principal: str, *arguments: object, **variables: object) -> Done:
        """Run `objections` with *arguments* as *principal*, as a process of its own."""
        done = subprocess.run(
            [sys.executable, "-m", "streams.commands", *map(str, arguments)],
            cwd=ROOT,
            env=self.secured.environ(principal, PREFIX, **variables),
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def worker(self, name: str, principal: str = "worker", **variables: object) -> Worker:
        """Return a worker of *principal*, not started."""
        options = self.secured.variables(principal, **variables)
        return Worker(
            self.secured.kafka,
            PREFIX,
            self.folder / name,
            session_timeout_ms=SESSION_TIMEOUT_MS,
            **options,
        )

    def file(self, topic: str) -> Path:
        """Return a file of records for *topic*."""
        path = self.folder / f"{topic}.jsonl"
        path.write_text("".join(f"{json.dumps(each)}\n" for each in RECORDS[topic]), "utf-8")
        return path

    def deploy_acls(self, prefix: str, *arguments: str, principal: str = ADMIN) -> int:
        """Run `python -m deploy.acls` for topics of *prefix*; return its exit status."""
        environ = self.secured.environ(principal, prefix)
        with patch.dict(os.environ, environ, clear=True):
            return acls.main(list(arguments))


@contextmanager
def access(folder: Path) -> Iterator[Access]:
    """Run the Kafka, with topics and rights."""
    with secured_kafka(folder, [*ROLES, STRANGER, REVOKED, *LACKING]) as secured:
        scene = Access(secured, folder)
        for prefix in (PREFIX, TABLE_PREFIX):
            settings = secured.settings(ADMIN, prefix)
            admin.apply(admin.connect(settings), settings, PARTITIONS)
            named = (f"--principal={role}=User:{role}" for role in ROLES)
            assert 0 == scene.deploy_acls(prefix, *named)
        settings = secured.settings(ADMIN, DENIED_PREFIX)
        client = admin.connect(settings)
        admin.apply(client, settings, PARTITIONS)
        for name, lacked in LACKING.items():
            wanted = rules("worker", f"User:{name}", Place(DENIED_PREFIX, name))
            left = [each for each in wanted if (each.operation, each.name) != lacked]
            assert len(wanted) == len(left) + 1
            grant(client, settings, left)
        grant(client, settings, rules("worker", f"User:{REVOKED}", Place(DENIED_PREFIX, REVOKED)))
        yield scene


def revoke(client: AdminClient, topic: str, principal: str) -> None:
    """Take the right to write *topic* from *principal*."""
    right = AclBindingFilter(
        ResourceType.TOPIC,
        topic,
        ResourcePatternType.LITERAL,
        f"User:{principal}",
        "*",
        AclOperation.WRITE,
        AclPermissionType.ALLOW,
    )
    (future,) = client.delete_acls([right], request_timeout=WAIT_S).values()
    assert 1 == len(future.result())
