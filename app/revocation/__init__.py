"""Revoke anything: one deed, one moved epoch, everything that hangs on it dead before the answer.

Owns: ending a token, a family, and everything below any thing that has an epoch.
Promises: O(1) whatever hangs below; no acknowledgement before Redis holds it; repeating is harmless.
Never: a list of descendants; a state of its own (what stays switched off says so in its own register).
Specs: RFC 7009 §2.1.
"""

from app.revocation.revocation import Revocation

__all__ = ["Revocation"]
