"""A calendar: a small API that shows each person's appointments to whoever may see them."""

from __future__ import annotations

from configuration import SERVER, registered
from flask import Flask, request
from introspecting import Introspection, actors, serve

EVENTS = (
    {"day": "Wednesday", "time": "16:00", "what": "Budget review", "where": "Room 4"},
    {"day": "Thursday", "time": "10:00", "what": "Board meeting", "where": "Lisbon"},
)


def create_app(introspection: Introspection) -> Flask:
    """The API. Each person has a calendar of her own: `sub` says whose."""
    app = Flask("calendar")
    calendars: dict[str, list[dict[str, str]]] = {}

    @app.get("/events")
    def events() -> dict[str, object]:
        caller = introspection.admit(request.headers.get("Authorization"), "calendar:read")
        return {"events": calendars.setdefault(caller["sub"], list(EVENTS)), "read_by": actors(caller)}

    @app.post("/events")
    def add() -> tuple[dict[str, object], int]:
        caller = introspection.admit(request.headers.get("Authorization"), "calendar:write")
        event = {name: str(request.form.get(name, ""))[:200] for name in ("day", "time", "what", "where")}
        calendars.setdefault(caller["sub"], list(EVENTS)).append(event)
        return {"event": event, "added_by": actors(caller)}, 201

    return app


if __name__ == "__main__":
    gate = Introspection(SERVER, **registered("calendar"))
    serve(create_app(gate), gate)
