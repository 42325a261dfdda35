"""The backend's side as a Flask blueprint. Where Flask-WTF protects all views: ``csrf.exempt(blueprint)``.

    app.register_blueprint(callbacks_blueprint(callbacks), url_prefix="/rainbow")
"""

from flask import Blueprint, Response, request

from .callbacks import Callbacks
from .wsgi import native, request_of


def callbacks_blueprint(callbacks: Callbacks, name: str = "rainbow") -> Blueprint:
    blueprint = Blueprint(name, __name__)

    def call(call: str) -> Response:
        answer = callbacks.handle(request_of(request.environ, request.get_data(cache=False)))
        headers = [(header, native(value)) for header, value in answer.headers.items()]
        return Response(answer.body, answer.status, headers)

    blueprint.add_url_rule("/<path:call>", "call", call, methods=["GET", "POST"])
    return blueprint
