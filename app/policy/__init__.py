"""May they.

Owns: `AccessRequest`, `Permit`, `Denial`, `decide`, the rules.
Promises: a rule returns the same request made smaller, or a denial; only `decide` makes a `Permit`.
Never: a database, a clock, a network; a rule sees what it is given.
Specs: RFC 8693 §2.2.2, RFC 8707 §2, protocol steps 4 to 12.
"""
