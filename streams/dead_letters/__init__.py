"""
Dead letters as people look at them: which are open, what mends one, what dismisses it.

Everything is read from topics, with or without a running worker, and no group is joined.
"""
