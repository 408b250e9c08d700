"""Keys and every JWT: what signs, what verifies, and nothing else does either.

Owns: signing keys, their rotation and encryption at rest; signer, the one verifier, client keys, JWK Set.
Promises: one strict parser; no failed verification in a rotation; a revoked key verifies no token.
Never: `iss`, `aud`, liveness; `jwk`, `jku`, `x5u`, `x5c` of a header; jwcrypto or joserfc anywhere else.
Specs: RFC 7515, 7516, 7517, 7518, 7519, 7638, 8037, 8725.
"""
