"""
A Kafka that refuses, a user in it for each role of deploy/acls, and each at its job once.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple
from unittest.mock import patch

from deploy.acls import __main__ as acls
from deploy.acls.grant import grant
from deploy.acls.roles import Place, read_roles, rules
from streams.kafka import admin
from tests.making import content, grown_up, notice, objection
from tests.secured_kafka import ADMIN, SecuredKafka, secured_kafka
from tests.worker_process import ROOT, Worker

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
DENIED_PREFIX: Final = "denied."
PARTITIONS: Final = 2
PREFIX: Final = "eu."
TABLE_PREFIX: Final = "table."  # where tests write what no role would
COMMAND_S: Final = 60.0

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
        """Run `objections` with *arguments* as *principal*."""
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
        return Worker(self.secured.kafka, PREFIX, self.folder / name, **options)

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
    with secured_kafka(folder, [*ROLES, STRANGER, *LACKING]) as secured:
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
        yield scene
