"""
Who may do what in Kafka, as data: `acls.yaml` has the least rights of each role.

roles: reads that file, and makes Kafka's access rules of it; apply: asks Kafka, and grants them.
`python -m deploy.acls` does so, or prints the lines for `kafka-acls.sh`.
"""
