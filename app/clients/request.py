"""A request to a protocol endpoint, strictly parsed once (RFC 6749 §3.2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from app import clock
from app.clients.certificate import ClientCertificate
from app.clients.proof import PresentedProof
from app.errors import TemporarilyUnavailable


@dataclass(frozen=True, slots=True, repr=False)
class ProtocolRequest:
    """Body parameters and the headers that matter. Everything in it may be a secret: it has no repr."""

    parameters: Mapping[str, tuple[str, ...]]
    authorization: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    address: str = ""
    proof: PresentedProof | None = None
    """What the `DPoP` header holds, if there is one (RFC 9449 §4.1)."""
    certificate: ClientCertificate | None = None
    """The client certificate of the connection, where there is one (RFC 8705)."""
    arrived: float = field(default_factory=clock.monotonic)

    def check_in_time(self, deadline: float) -> None:
        """Raises TemporarilyUnavailable more than `deadline` seconds after arrival: what was read then may be untrue by now."""
        if clock.monotonic() - self.arrived > deadline:
            raise TemporarilyUnavailable("the deadline has passed")

    def one(self, name: str) -> str | None:
        """A parameter's value; None when it is absent or empty, which is the same (RFC 6749 §3.1)."""
        values = self.parameters.get(name)
        return (values[0] or None) if values else None

    def many(self, name: str) -> tuple[str, ...]:
        """Every value of a parameter that may be repeated."""
        return tuple(value for value in self.parameters.get(name, ()) if value)

    def has(self, name: str) -> bool:
        """Whether a parameter was sent with a value."""
        return self.one(name) is not None
