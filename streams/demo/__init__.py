"""
`objections demo`: real activity, made-up people, a real Kafka, and what objections do to it.

activity (the bundled rows) -> people, items (made up around them) -> script (who does what)
-> sender -> Kafka, and in a process each (process) the worker and the subscribers of two stores
-> check, figures -> report; run ties them together.
"""
