import os
import sys

from django.conf import settings
from django.core.management import execute_from_command_line
from django.http import JsonResponse
from django.urls import re_path

POSTS = os.open(os.environ["POSTS"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="x", MIDDLEWARE=["django.middleware.common.CommonMiddleware"], DEBUG=False)


def answer(request):
    _ = request.body
    if request.method == "POST":
        os.write(POSTS, b"POST\n")
    return JsonResponse({"status": "success"})


urlpatterns = [re_path("", answer)]

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
