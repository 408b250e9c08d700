"""What we sign and read back.

Owns: the claims of our own tokens, minting, reading, families and refresh tokens, introspection.
Promises: nothing is signed without a `Permit`; what introspection says and what the JWT says never disagree.
Never: a decision; a token in a row, a log or a repr.
Specs: RFC 9068, RFC 8693 §4, RFC 9396 §9, RFC 7662, OIDC Core §2.
"""
