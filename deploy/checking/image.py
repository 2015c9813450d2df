"""
What the Dockerfile does, done without Docker, and run as the image would be.

Its RUN line is carried out on a copy of what `.dockerignore` sends, with the folders of the build
stage moved; what is copied to the image then runs in mount and process namespaces of its own: as
the image's user, without capabilities or a way to more, on a root that is read-only but for /tmp
and the volume.  There a real worker takes every partition of a real Kafka and is stopped again.

Not seen by this: the base image, its Python, the layers and the metadata.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Final

from deploy.checking.dockerfile import instructions, sent
from deploy.checking.tools import ROOT, Checks
from streams.kafka.local import HOST, LocalKafka
from streams.kafka.ports import free_port

READY_S: Final = 60.0
STOP_S: Final = 60.0
LOOK_AGAIN_S: Final = 0.2
# Where the build stage puts things.
_MOVED: Final = ("/opt/objections", "/wheel", "/state")
# The image's root: only these can be written to.
_SCRIPT: Final = """\
set -eu
mount --make-rprivate /
mount --bind "$VOLUME" "$VOLUME"
mount -o remount,bind,ro /
mount -t tmpfs -o size=64m,mode=1777 tmpfs /tmp
exec setpriv --reuid "$USER_ID" --regid "$USER_ID" --clear-groups --no-new-privs \\
  --bounding-set=-all --inh-caps=-all -- "$@"
"""


def check_image(checks: Checks) -> None:
    """Build what the image holds, and run it."""
    if sys.platform != "linux" or os.geteuid() != 0:
        checks.absent("image", "root on Linux, which namespaces need")
        return
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="objections-image-") as folder:
        place = Path(folder)
        place.chmod(0o755)
        build(checks, place)
        if not checks.failed:
            run(checks, place)


def build(checks: Checks, place: Path) -> None:
    """Carry out the RUN line in *place*."""
    source = place / "source"
    source.mkdir()
    for name in sent():
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, source / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, source)
    (line,) = [rest for name, rest in instructions() if name == "RUN"]
    for path in _MOVED:
        line = line.replace(path, f"{place}{path}")
    (place / "opt").mkdir()
    extras = dict(rest.split("=") for name, rest in instructions() if name == "ARG")["EXTRAS"]
    environment = f"EXTRAS={extras} PATH={Path(sys.executable).parent}:$PATH"
    checks.run("RUN of the Dockerfile", "sh", "-ec", f"export {environment}; {line}", cwd=source)


def run(checks: Checks, place: Path) -> None:
    """Run what was built in *place* as the image would."""
    told = dict(instructions())  # the last of each
    user = told["USER"].partition(":")[0]
    (volume,) = json.loads(told["VOLUME"])
    (program,), (command,) = json.loads(told["ENTRYPOINT"]), json.loads(told["CMD"])
    state = place / "state"
    shutil.chown(state, int(user), int(user))
    environ = dict(part.split("=", 1) for part in told["ENV"].split())
    environ["OBJECTIONS_STATE_DIR"] = environ["OBJECTIONS_STATE_DIR"].replace(volume, str(state))
    environ["PATH"] = f"{place}/opt/objections/bin:/usr/bin:/bin"
    port = free_port()
    with LocalKafka(place / "kafka") as kafka:
        environ |= {
            "OBJECTIONS_BOOTSTRAP": kafka.bootstrap,
            "OBJECTIONS_HTTP": f"{HOST}:{port}",
            "VOLUME": str(state),
            "USER_ID": user,
        }
        applied = _start(environ, program, "topics", "apply")
        checks.note("image: topics apply", applied.wait(READY_S) == 0)
        anybody = place / "anybody"  # may write to it: only the root's being read-only is against
        anybody.mkdir()
        anybody.chmod(0o777)
        written = _start(environ, "sh", "-c", f"touch {anybody}/x")
        checks.note("image: the root cannot be written to", written.wait(READY_S) != 0)
        worker = _start(environ, program, command)
        checks.note("image: the worker becomes ready", _becomes_ready(port, worker))
        worker.terminate()
        checks.note("image: the worker stops in order", worker.wait(STOP_S) == 0)


def _start(environ: dict[str, str], *command: str) -> subprocess.Popen[bytes]:

    return subprocess.Popen(
        ["unshare", "--mount", "--", "sh", "-c", _SCRIPT, "image", *command], env=environ, cwd="/"
    )


def _becomes_ready(port: int, process: subprocess.Popen[bytes]) -> bool:
    deadline_s = time.monotonic() + READY_S
    while time.monotonic() < deadline_s and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://{HOST}:{port}/readyz", timeout=2):
                return True
        except (urllib.error.URLError, OSError):
            time.sleep(LOOK_AGAIN_S)
    return False
