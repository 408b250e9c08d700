"""The ledger: what was decided and done, in a chain that shows tampering.

Owns: the relay and its lease, the chain, checkpoints, verification, queries.
Promises: each record once, in one chain; a signed checkpoint after every batch, also outside the database.
Never: a change of what is written; a second writer; a name or a secret.
Specs: RFC 8785 (the form of a record), RFC 7515 (checkpoints).
"""
