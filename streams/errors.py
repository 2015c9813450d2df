"""
Errors, typed by the reaction to them.

The first three are raised on the way of an event and caught in one place.
The others end a command; its exit status is a property of the error.
This module is pure: any other may import it.
"""


class BadRecord(Exception):
    """
    This record can never be used: dead-letter it and go on with its neighbours.

    code: stable, for machines (`time_without_offset`).
    detail: for people; names the field and what was expected, never the value.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}"


class Busy(Exception):
    """Kafka or a store asks for a pause: keep the batch and try it again after *retry_after_s*."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message, retry_after_s)
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return str(self.args[0])


class Halt(Exception):
    """The batch cannot be finished: end the process before anything is committed."""


class CommandError(Exception):
    """
    An expected end of a command: its text goes to standard error, without a traceback.

    The text names the thing, what was found, what is expected, and the remedy.
    """

    exit_status = 1


class CheckFailed(CommandError):
    """A check found something wrong, and the text says what: exit status 1."""


class UsageProblem(CommandError):
    """The command was asked for something that cannot be: exit status 2."""

    exit_status = 2


class SettingsError(UsageProblem):
    """
    One or more settings are wrong: exit status 2.

    problems: one line for each; names the variable, what it held and what is expected.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class Unreachable(CommandError):
    """Kafka or a store could not be reached: exit status 3."""

    exit_status = 3
