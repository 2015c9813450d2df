"""
What records mean and what is decided: values in, values out.

Nothing in this package imports a framework, reads a clock or the environment, or does I/O;
tests/test_purity.py says so.  The way of a fact through it, in the order of reading:

records -> decode -> user, item (merge) -> verdict -> fold -> fanout -> outputs
"""
