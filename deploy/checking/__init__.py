"""Checks of `deploy/` by the tools that are made for it: what the test suite has not at hand."""
