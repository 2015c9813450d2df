"""
Notices: who has still to be told, for a mailer, and proof that nobody was allowed untold.

Both are read from the topics beside running workers, one partition after the other: all of a user
lies in one, so what is kept in memory is bounded by a partition.
"""
