"""
The state of one partition: rows, the local store that holds them, and what is not persisted yet.

The changelog topics are the truth; a store is their materialisation and never ahead of them.
"""
