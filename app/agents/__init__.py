"""Agents: each an identity of its own, with an owner, a purpose and a ceiling.

Owns: the register of agents, their lifecycle, keys, hand-over list and entitlements.
Promises: an agent has an owner who answers for it; what ended stays ended when it is resumed.
Never: a token; a shared secret unless the operator allowed one, and then it expires.
Specs: RFC 7591 §2, RFC 8693 §4.1 (`act`).
"""
