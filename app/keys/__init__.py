"""Keys and every JWT: what signs, what verifies, and nothing else does either.

Owns: signing keys and their rotation, encryption at rest, the signer, the one verifier, client keys, the JWK Set.
Promises: a strict parser and one algorithm per key; a rotation without a failed verification; a revoked key never verifies a token.
Never: decides on `iss`, `aud` or liveness; follows `jwk`, `jku`, `x5u`, `x5c`; shows a private key. Only this package imports jwcrypto and joserfc.
Specs: RFC 7515, 7516, 7517, 7518, 7519, 7638, 8037, 8725.
"""
