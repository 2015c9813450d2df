"""What the Dockerfile and `.dockerignore` say."""

from deploy.checking.tools import DEPLOY, ROOT


def instructions() -> list[tuple[str, str]]:
    """Return name and rest of each instruction of the Dockerfile."""
    lines = (DEPLOY / "Dockerfile").read_text("utf-8").splitlines()
    text = "\n".join(line for line in lines if not line.startswith("#")).replace("\\\n", " ")
    parts = [line.split(None, 1) for line in text.splitlines() if line.strip()]
    return [(name, rest.strip()) for name, rest in parts]


def ignore_rules() -> list[str]:
    """Return the rules of `.dockerignore`, of which the last that fits a path holds."""
    lines = map(str.strip, (ROOT / ".dockerignore").read_text("utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def sent() -> list[str]:
    """Return the files and folders that are sent to the builder, of the first level."""
    return [rule.removeprefix("!") for rule in ignore_rules() if rule.startswith("!")]
