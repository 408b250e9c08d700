"""The JSON API under `/api/v1`: what pages and command line do, for programs.

Owns: the operations, what they take and give, the OpenAPI document made of them.
Promises: one visible tuple of operations; what a token may not is refused before anything is looked at; strict JSON in, its models out.
Never: a rule or a query of its own: `oversight` and the registers have them.
Specs: RFC 6750, OpenAPI 3.1.
"""
