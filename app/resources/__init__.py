"""APIs: their URI, scopes in plain words, labels, introspection credential.

Owns: the register of resources.
Promises: a scope means something at one resource only; a disabled one gets no tokens and hears of none.
Never: a resource under the issuer; a scope of the sign-in.
Specs: RFC 8707 §2, RFC 6749 §3.3.
"""
