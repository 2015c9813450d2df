"""
pyarrow, which is an extra: importing this module says which.
"""

from streams.errors import UsageProblem

try:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq
except ImportError as _error:
    _message = (
        f"Parquet needs more than the service itself ({_error.name} is missing): "
        "pip install 'objection-streams[parquet]'"
    )
    raise UsageProblem(_message) from _error

__all__ = ["pa", "pc", "pq"]
