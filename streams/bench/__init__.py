"""
Measures the service, and a Faust app that does the same job, on one broker in one run.

workload (records, and what must come of them) -> systems (a process under measurement) ->
produce, watch (processes around it) -> throughput, latency (one run each) -> report.
"""
