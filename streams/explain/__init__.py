"""
Why a user's data may be used, or may not: `objections explain USER`.

reading (Kafka) -> evidence (what is kept of it) -> assemble (pure) -> rendering (text)

Assembling is split by what it explains: facts, reasons, items, history, checks.  Its answer, and so
the shape of `--json`, is in explanation.py.  Nothing is written anywhere, no group is joined, and
no worker is asked: it all stands in the topics.
"""
