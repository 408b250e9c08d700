"""OAuth clients: who they are and how they prove it.

Owns: registrations, the request as parsed, client authentication methods, the register of applications.
Promises: one method a request, the registered one; the same answer and the same work for unknown and wrong.
Never: `iss`/`sub`/`aud` taken loosely; a secret kept in clear; an empty allow-list that allows.
Specs: RFC 6749 §2, RFC 7523, RFC 7591 §2, RFC 8252 §7, RFC 9700 §2.
"""
