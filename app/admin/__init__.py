"""Pages for those who administer: see every agent, understand what it did, stop it.

Owns: the blueprints under `/admin`, their templates, the picture of delegation.
Promises: works without script and without a mouse; whoever holds no office learns nothing; dangerous deeds want a fresh sign-in.
Never: a deed or a query of its own: `oversight` and the registers have them.
Specs: WCAG 2.2 AA.
"""
