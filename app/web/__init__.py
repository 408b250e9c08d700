"""Pages for the human: signing in and out, consent, what she allowed.

Owns: the blueprints of these pages, their templates and their static files.
Promises: everything works with a keyboard, without script, and says in plain words what it does.
Never: text of an agent or application that is not escaped, stripped and cut short; a deed on GET.
Specs: OIDC RP-Initiated Logout 1.0, RFC 9700 §4.12 and §4.16, WCAG 2.2 AA.
"""
