"""A travel agency: looks for flights and hotels, books them, and keeps in mind for whom and through whom."""

from __future__ import annotations

from configuration import SERVER, registered
from flask import Flask, request
from introspecting import Introspection, actors, serve

OFFERS = (
    {"offer": "flight-1", "kind": "flight", "to": "Lisbon", "what": "TP 553, Wednesday 19:05"},
    {"offer": "hotel-1", "kind": "hotel", "to": "Lisbon", "what": "Hotel Alfama, Wednesday to Thursday"},
    {"offer": "flight-2", "kind": "flight", "to": "Oslo", "what": "SK 1476, Friday 08:40"},
)


def create_app(introspection: Introspection) -> Flask:
    """The API."""
    app = Flask("travel")
    bookings: list[dict[str, object]] = []

    @app.get("/offers")
    def offers() -> dict[str, object]:
        introspection.admit(request.headers.get("Authorization"), "travel:search")
        wanted = {name: request.args[name] for name in ("kind", "to") if name in request.args}
        return {"offers": [offer for offer in OFFERS if wanted.items() <= offer.items()]}

    @app.post("/bookings")
    def book() -> tuple[dict[str, object], int]:
        caller = introspection.admit(request.headers.get("Authorization"), "travel:book")
        offer = next((offer for offer in OFFERS if offer["offer"] == request.form.get("offer")), None)
        if offer is None:
            return {"error": "no_such_offer"}, 404
        booking = {"what": offer["what"], "for": caller["sub"], "booked_by": actors(caller), "task": caller.get("txn")}
        bookings.append(booking)
        return {"number": len(bookings), **booking}, 201

    return app


if __name__ == "__main__":
    gate = Introspection(SERVER, **registered("travel"))
    serve(create_app(gate), gate)
