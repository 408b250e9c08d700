"""See, understand, stop: one set of deeds for pages, API and command line.

Owns: the inventory, explaining a decision and a token's chain of custody, what a deed would end and what it ended, governance;
what stands in a human's name, and the ledger told to her in sentences.
Promises: what is told is what the ledger says; names are looked up when shown and written nowhere; a count names the entry it was made at.
Never: HTTP, markup, a decision, or an end of its own: what ends, ends by the deed of its own register.
Specs: none but our own; docs/ledger.md.
"""
