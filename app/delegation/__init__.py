"""How authority passes on, and how it only ever narrows.

Owns: `Authority`, the actor chain, consents, tasks.
Promises: nothing here returns more than it was given; a consent or task that ended is dead with everything under it.
Never: HTTP, cryptography, or a decision of policy.
Specs: RFC 8693 §4.1, OAuth Actor Profile, RFC 8707, RFC 9396.
"""
