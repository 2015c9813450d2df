"""
Carries an objection to the use of one's data for AI training to every store that holds the data.

Records go in by four topics, decisions and tombstones come out by three.
`core` decides, `state` remembers, `worker` drives both, `kafka` and `commands` are the doors.
"""

DISTRIBUTION = "objection-streams"


def __getattr__(name: str) -> str:
    """Return the installed version as `__version__`, looked up only when asked for."""
    if name == "__version__":
        # Here, as it takes a tenth of the time in which a worker starts.
        from importlib.metadata import version

        return version(DISTRIBUTION)
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
