"""
Grants that the breaker on re-inclusion holds: which, why, and the record that releases them.
"""
