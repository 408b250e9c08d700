"""APIs: their scopes in plain words, labels, the credential they introspect with."""

from __future__ import annotations

from flask import Blueprint, Response, request

from app.admin import fields
from app.admin.desk import HERE, Desk, back, text
from app.admin.picture import picture
from app.errors import Refused
from app.oversight.administration import Administration
from app.oversight.governance import Duty, NotYours
from app.oversight.graph import Graphs
from app.resources.models import ResourceRow
from app.vocabulary import ConfirmationMethod, SigningAlg
from app.web.forms import single

SHOWN = 200
"""APIs on the page; the others are searched for."""

BOUND = {
    "dpop": (ConfirmationMethod.JKT,),
    "mtls": (ConfirmationMethod.X5T_S256,),
    "any": tuple(ConfirmationMethod),
}
"""What a token for it may have to be bound to."""

WAYS = {ConfirmationMethod.JKT.value: "a key proven by DPoP", ConfirmationMethod.X5T_S256.value: "a client certificate"}


def blueprint(desk: Desk, administration: Administration, graphs: Graphs) -> Blueprint:
    """The pages of APIs. Everybody who comes this far may read them: they are what agents are allowed in terms of."""
    pages = desk.blueprint("resources", __name__)
    resources = administration.resources

    @pages.get("/resources")
    def index() -> Response:
        words = text("q")
        rows, count = resources.found(words, SHOWN)
        return desk.render("resources.html", resources=rows, count=count, words=words)

    @pages.get("/resources/<resource_id>")
    def show(resource_id: str) -> Response:
        row = resources.get(resource_id)
        found = graphs.around_resource(row.id) if desk.officer().sees_all else None
        return desk.render("resource.html", resource=row, ways=WAYS, graph=found, picture=picture(found) if found is not None else None)

    @pages.get("/resources/new")
    def new() -> Response:
        desk.officer().check(Duty.GOVERN)
        return form(None)

    @pages.post("/resources/new")
    def register() -> Response:
        officer = desk.checked("resource", f"{HERE}/resources/new")
        sent = request.form
        try:
            made = administration.register_resource(
                officer,
                single(sent, "uri").strip(),
                name=single(sent, "name"),
                scopes=fields.scopes(single(sent, "scopes")),
                labels=single(sent, "labels").split(),
                scope_labels=fields.scope_labels(single(sent, "scope_labels")),
                alg=single(sent, "alg", SigningAlg.ES256.value),
                bound=BOUND.get(single(sent, "bound"), ()),
            )
        except Refused as refused:
            return form(None, str(refused))
        return desk.render("secret.html", resource=resources.get(made.id), client_id=made.client_id, secret=made.client_secret)

    @pages.get("/resources/<resource_id>/change")
    def edit(resource_id: str) -> Response:
        desk.officer().check(Duty.GOVERN)
        return form(resources.get(resource_id))

    @pages.post("/resources/<resource_id>/change")
    def change(resource_id: str) -> Response:
        officer = desk.checked(f"resource:{resource_id}", f"{HERE}/resources/{resource_id}/change")
        sent = request.form
        try:
            ended = administration.change_resource(
                officer,
                resource_id,
                name=single(sent, "name"),
                scopes=fields.scopes(single(sent, "scopes")),
                labels=single(sent, "labels").split(),
                scope_labels=fields.scope_labels(single(sent, "scope_labels")),
            )
        except Refused as refused:
            return form(resources.get(resource_id), str(refused))
        return back(f"{HERE}/resources/{resource_id}", "narrowed" if ended else "changed")

    def form(row: ResourceRow | None, problem: str = "") -> Response:
        if not desk.officer().governs:
            raise NotYours
        return desk.render(
            "resource_form.html",
            400 if problem else 200,
            resource=row,
            sent=request.form if problem else None,
            problem=problem,
            algs=list(SigningAlg),
        )

    @pages.post("/resources/<resource_id>/secret")
    def secret(resource_id: str) -> Response:
        officer = desk.checked(f"secret:{resource_id}", f"{HERE}/resources/{resource_id}")
        client_id, fresh = administration.new_resource_secret(officer, resource_id)
        return desk.render("secret.html", resource=resources.get(resource_id), client_id=client_id, secret=fresh)

    @pages.post("/resources/<resource_id>/enable")
    def enable(resource_id: str) -> Response:
        administration.enable_resource(desk.checked(f"enable:{resource_id}", f"{HERE}/resources/{resource_id}"), resource_id)
        return back(f"{HERE}/resources/{resource_id}", "open")

    return pages
