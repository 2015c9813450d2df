"""
The running service, in the order in which an event passes through it.

fetch -> transport (Faust) -> agents -> intake (decode) -> cycle -> partition (fold)
-> transaction -> store.  restore gets a partition ready; app puts the parts together.
"""
