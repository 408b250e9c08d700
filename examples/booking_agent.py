"""The booking agent: takes a piece of work from another agent and does it, with a key and an identity of its own."""

from __future__ import annotations

from typing import Any

from agent import Agent


class BookingAgent(Agent):
    """The booking agent."""

    def __init__(self) -> None:
        super().__init__("booking-agent")
        self.travel: str = self.registered["travel"]

    def token(self, handed_over: str, scope: str, api: str = "") -> str:
        """A token for the travel agency, from what was handed over."""
        return str(self.exchange(handed_over, resource=api or self.travel, scope=scope)["access_token"])

    def book(self, token: str, offer: str) -> dict[str, Any]:
        """Book it."""
        return self.call(token, "POST", f"{self.travel}/bookings", data={"offer": offer})
