"""
What a file is by its name: `part-0.parquet`, `items.jsonl.gz`, `items.csv.zst`, or as is said.
"""

from pathlib import Path
from typing import Final

from streams.errors import UsageProblem

FORMATS: Final = ("parquet", "jsonl", "csv")
STANDARD: Final = Path("-")  # standard input or output

_FORMAT_OF: Final = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
}
_CODEC_OF: Final = {".gz": "gzip", ".zst": "zstd", ".zstd": "zstd"}


def kind_of(
    path: Path, format_said: str | None, delimiter: str | None
) -> tuple[str, str | None, str]:
    """Return format, codec and delimiter of *path*; raises UsageProblem."""
    suffixes = [each.lower() for each in path.suffixes]
    codec = _CODEC_OF.get(suffixes[-1]) if suffixes else None
    if codec is not None:
        suffixes.pop()
    last = suffixes[-1] if suffixes else ""
    form = format_said or _FORMAT_OF.get(last)
    if form is None:
        message = (
            f"{path}: its name tells no format, expected one of {', '.join(_FORMAT_OF)}, with "
            f"{' or '.join(_CODEC_OF)} behind it where it is compressed. Remedy: rename it, or "
            f"name the format with --format ({', '.join(FORMATS)})."
        )
        raise UsageProblem(message)
    if form == "parquet" and codec is not None:
        message = (
            f"{path}: Parquet is compressed inside, expected no {suffixes or ''}{codec} around it."
        )
        raise UsageProblem(message)
    return form, codec, delimiter or ("\t" if last == ".tsv" else ",")
