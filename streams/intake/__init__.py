"""
The form to object with: `objections intake`, a page for people and an API for apps.

The signed link of a notice says who objects; nobody logs in, and no cookie is set.  An objection
is confirmed only once Kafka has it on all its replicas.  `tokens` signs and checks, `counter` takes
objections in, `sender` hands them to Kafka, `desk` knows the receipts; `web` and `api` answer.
"""
