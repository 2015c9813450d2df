"""
What users get: the wheel is built and installed without extras in an environment of its own.

There `objections --help` must run, and every data file of the two packages must have arrived.
"""

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DATA_SUFFIXES = {".yaml", ".json", ".gz", ".lua", ".md", ".typed"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wheel of the working tree."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(ROOT))
    (built,) = folder.glob("objection_streams-*.whl")
    return built


@pytest.fixture(scope="module")
def clean_bin(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of programs of a new environment with nothing but the wheel in it."""
    folder = tmp_path_factory.mktemp("clean") / "venv"
    venv.create(folder, with_pip=True)
    run(str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", str(wheel))
    return folder / "bin"


def test_data_files_are_in_the_wheel(wheel: Path) -> None:
    """
    Every data file beside the code is packaged: topics, schemas, examples, demo data.
    """
    wanted = {
        str(path.relative_to(ROOT))
        for package in ("streams", "topics")
        for path in (ROOT / package).rglob("*")
        if path.suffix in DATA_SUFFIXES
    }

    with zipfile.ZipFile(wheel) as archive:
        assert set() == wanted - set(archive.namelist())
    assert "streams/py.typed" in wanted
    assert any(path.startswith("topics/") for path in wanted)


def test_help_runs_from_the_wheel_alone(clean_bin: Path, tmp_path: Path) -> None:
    """
    `objections --help` lists the commands where only the core dependencies are installed.
    """
    told = run(str(clean_bin / "objections"), "--help", cwd=tmp_path)

    assert "Usage: objections" in told
    assert "kafka" in told


def test_missing_extra_is_named(clean_bin: Path, tmp_path: Path) -> None:
    """
    A local Kafka without the extra ends with status 2 and says what to install.
    """
    done = subprocess.run(
        [clean_bin / "objections", "kafka", "--folder", "data"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2
    assert "pip install 'objection-streams[demo]'" in done.stderr
    assert "Traceback" not in done.stderr


def run(*command: str, cwd: Path = ROOT) -> str:
    """Return the output of *command*; its failure fails the test with all it said."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout
