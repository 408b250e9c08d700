"""The protocol surface, one file per endpoint.

Owns: paths, methods, CORS, content types.
Promises: each endpoint parses strictly, calls one thing, answers.
Never: a decision, a query, a key.
Specs: RFC 6749, 7009, 7662, 8414, 9126, 9207, 9701; OIDC Core, Discovery.
"""
