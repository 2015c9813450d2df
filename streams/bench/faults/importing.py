"""
A large import in the middle of everything.
"""

import random
import subprocess
from typing import Final

import msgspec

from streams.bench.connection import variables
from streams.bench.faults.plan import Fault
from streams.bench.faults.process import OBJECTIONS, environ_of
from streams.bench.faults.scene import Scene
from streams.core.reasons import PRODUCTS
from streams.errors import CommandError

IMPORT_S: Final = 120.0


def run(scene: Scene, fault: Fault) -> str:
    """Import items of the load's users with `objections import`, at full speed."""
    chance = random.Random(fault.seed)
    users = scene.load.user_ids
    path = scene.folder / f"import-{fault.number}.jsonl"
    with path.open("wb") as file:
        for number in range(int(fault.amount)):
            user_id = chance.choice(users)
            row = {
                "user_id": user_id,
                "content_id": f"i-{fault.number}-{number}",
                "revision": 0,
                "product": chance.choice(PRODUCTS),
                "kind": "post",
                "visibility": "public",
                "modality": "image",
                "created_at": "2026-03-01T12:00:00Z",
            }
            file.write(msgspec.json.encode(row) + b"\n")
    command = [*OBJECTIONS, "import", str(path), "--topic=content", "--full-speed", "--wait=0"]
    where = {"BOOTSTRAP": scene.settings.bootstrap, "TOPIC_PREFIX": scene.settings.topic_prefix}
    try:
        done = subprocess.run(
            command,
            env=environ_of({**where, **variables()}),
            cwd=scene.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=IMPORT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        message = f"objections import has not ended within {IMPORT_S:.0f} s"
        raise CommandError(message) from None
    if done.returncode:
        raise CommandError(f"objections import ended with {done.returncode}: {done.stderr}")
    return f"{int(fault.amount):,} rows"
