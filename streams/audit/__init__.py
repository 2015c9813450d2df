"""
Compares what a data store holds with what the topics say, and mends it: `objections audit`.

**Right beside a running subscriber.**  The store says how far it is (its positions, and with its
name its acknowledgements); *then* it is read; *then* the topics' ends are noted and read up to.
A key is judged by its last record before those ends, and the judgement counts only where that
record lies below what the store had said: it had applied it before we looked, and nothing newer
can have changed what we saw.  What lies beyond is no finding: an item that should be hidden by it
is *late*, one that should be there is *on its way*.  What remains is looked at a second time in
the same order, by key, before it is called a finding.

**In bounded memory.**  Keys and fields are hashes in arrays: see `streams.audit.tables`.  Texts are
kept of findings only.
"""
