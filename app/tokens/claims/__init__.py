"""What a token says. One function a claim group; the token is their union, in this order."""

from app.tokens.claims import actor, authentication, authority, lineage, registered

CLAIMS = (
    registered.claims,
    authority.claims,
    actor.claims,
    authentication.claims,
    lineage.claims,
)
