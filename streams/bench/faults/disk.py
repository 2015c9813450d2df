"""
Faults under a local store: damaged files, and a disk that is full.
"""

import random
import shutil
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from streams.bench.faults.plan import Fault
from streams.bench.faults.process import Worker
from streams.bench.faults.scene import LOOK_S, Scene, Wounded
from streams.errors import CommandError

DAMAGE_BYTES: Final = 64  # of one place
THROWN_AWAY: Final = "the local store is thrown away: "
MOUNT_S: Final = 10.0
START_S: Final = 4.0  # of a worker, on an idle machine


def damage(scene: Scene, fault: Fault) -> str:
    """
    Overwrite bytes in files of a worker's local stores while it is stopped, and start it again.

    It must rebuild them, or refuse: then the folder is removed, as its error says.
    """
    worker = scene.workers[fault.worker]
    worker.end()
    files = overwrite(worker.state_dir, int(fault.amount), random.Random(fault.seed))
    worker.start()
    try:
        scene.wait_until_whole()
    except Wounded:
        if str(worker.state_dir) not in worker.last_word():
            raise
        worker.end()
        shutil.rmtree(worker.state_dir)
        worker.start()
        scene.wait_until_whole()
        return f"{files}; refused, and mended by removing the folder"
    thrown_away = worker.said().count(THROWN_AWAY)
    return f"{files}; {thrown_away} stores were thrown away and read again"


def overwrite(folder: Path, places_n: int, chance: random.Random) -> str:
    """Write random bytes at *places_n* random places of the stores in *folder*; return where."""
    # What holds data; a lock or RocksDB's own log would prove nothing.
    found = [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and path.stat().st_size
        and (path.suffix in {".sst", ".log"} or path.name.startswith("MANIFEST-"))
    ]
    if not found:
        raise CommandError(f"{folder} holds no files of a store")
    hit = set()
    for _ in range(places_n):
        path = chance.choice(found)
        with path.open("r+b") as file:
            file.seek(chance.randrange(path.stat().st_size))
            file.write(chance.randbytes(DAMAGE_BYTES))
        hit.add(path.suffix or "MANIFEST")
    return f"{places_n} places in {', '.join(sorted(hit))}"


def full(scene: Scene, fault: Fault) -> str:
    """
    Start a worker on a disk that is too small, and after a while on its own again.

    It may end with the reason, again and again; the other one has the partitions meanwhile.
    """
    worker, small = scene.workers[fault.worker], scene.folder / "small-disk"
    worker.end()
    own = worker.state_dir
    _mount(small, int(fault.amount))
    worker.state_dir = small / "state"
    try:
        ends = _run_there(scene, worker, time.monotonic() + START_S + fault.lasts_s)
    finally:
        worker.end()
        worker.state_dir = own
        _unmount(small)
    worker.start()
    return f"it ended {ends} times for it"


def _run_there(scene: Scene, worker: Worker, until_s: float) -> int:
    """
    Run *worker* until then, and start it again when it ends; return how often it has.

    The disk is filled up once it serves something.
    """
    ends, filled = 0, False
    worker.start()
    while time.monotonic() < until_s:
        if not filled and worker.serving():
            _fill(worker.state_dir.parent)
            filled = True
        if worker.ended is not None:
            ends += 1
            scene.note_end(worker)
            worker.start()
        time.sleep(LOOK_S)
    return ends


def _fill(folder: Path) -> None:
    """Leave no room on the file system of *folder*."""
    with suppress(OSError), (folder / "ballast").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def why_not_full() -> str:
    """Return why no small disk can be made here; empty where it can."""
    if shutil.which("mount") is None:
        return "there is no program mount"
    with tempfile.TemporaryDirectory(prefix="objections-small-disk-") as name:
        try:
            _mount(Path(name), 1)
        except CommandError as error:
            return str(error)
        _unmount(Path(name))
    return ""


def _mount(folder: Path, megabytes: int) -> None:
    folder.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=MOUNT_S, check=False)
    if done.returncode:
        raise CommandError(f"no small file system could be mounted: {done.stderr.strip()}")


def _unmount(folder: Path) -> None:
    subprocess.run(["umount", "--lazy", str(folder)], timeout=MOUNT_S, check=False)
