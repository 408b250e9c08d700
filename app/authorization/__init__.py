"""The front channel: from a browser's request to a redirect with a code.

Owns: authorization requests, pushed requests, what the consent page offers, codes.
Promises: no redirect to a URI that is not the client's; approval is bound to what was shown; a code is given once.
Never: a token.
Specs: RFC 6749 §4.1, RFC 7636, RFC 8707, RFC 9126, RFC 9207, RFC 8252 §7, OIDC Core §3.1.2.
"""
