"""People who delegate: their accounts and their sign-in sessions.

Owns: accounts, password verification and its throttling, sign-in sessions with `auth_time`, `acr` and `amr`.
Promises: the same work for an unknown name as for a wrong password; a disabled human has no session that works.
Never: HTTP, cookies, or a secret in clear: passwords are Argon2id, session secrets a hash.
Specs: OIDC Core §2 (`auth_time`, `acr`, `amr`), RFC 8176 (`pwd`), RFC 8265 §4 (passwords), RFC 9106 (Argon2).
"""
