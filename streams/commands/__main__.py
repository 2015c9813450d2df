"""`python -m streams.commands` is `objections`, for whoever has no programs on the path."""

from streams.commands import main

main(prog_name="objections")
