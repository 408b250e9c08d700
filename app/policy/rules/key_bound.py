"""Who holds a token without its key holds nothing, where resource or client say so (RFC 9449 §5.2, RFC 8705 §3.4, RFC 9728 §2)."""

from __future__ import annotations

from app.errors import InvalidCertificate, InvalidDPoPProof
from app.policy.access import AccessRequest, Denial
from app.vocabulary import ConfirmationMethod


def rule(access: AccessRequest) -> AccessRequest | Denial:
    """A resource that demands bound tokens gets no bearer token, nor does a client that is to have none, whatever the grant."""
    held, resource = access.authority.confirmation, access.target.resource
    demands = {"the client's registration": access.client.value.bound}
    if resource is not None:
        demands["the resource"] = resource.value.bound
    for who, methods in demands.items():
        if methods and (held is None or held.method not in methods):
            reason = f"{who} demands bound tokens" if held is None else f"{who} demands tokens bound in another way"
            # To the caller a proof is missing, and RFC 9449 §5 has one word for a missing and a bad one.
            return Denial(InvalidDPoPProof(reason) if ConfirmationMethod.JKT in methods else InvalidCertificate(reason))
    return access
