"""What all Flask surfaces share.

Owns: the strict form, the Authlib adapter, cookies, CSRF, security headers, guards, problems.
Promises: a parameter comes once and from the body only; every error is the RFC's; never a 5xx but 503.
Never: a decision.
Specs: RFC 6749 §3.2, §5.2; RFC 6750 §3; RFC 9110 §15.
"""
