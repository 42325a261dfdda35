"""The backend's side as a Django view. The gateway has no CSRF token but a signature, so the view is exempt.

    urlpatterns = [re_path(r"^rainbow/", callbacks_view(callbacks))]
"""

from typing import Any, Callable

from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt

from .callbacks import Callbacks
from .wsgi import native, request_of


def callbacks_view(callbacks: Callbacks) -> Callable[..., HttpResponse]:
    @csrf_exempt
    def view(request: HttpRequest, *_: Any, **__: Any) -> HttpResponse:
        answer = callbacks.handle(request_of(request.META, request.body))
        response = HttpResponse(answer.body, status=answer.status)
        for name, value in answer.headers.items():
            response[name] = native(value)
        return response

    return view
