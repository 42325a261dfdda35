import os

POSTS = os.open(os.environ["POSTS"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def application(environ, start_response):
    environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    if environ["REQUEST_METHOD"] == "POST":
        os.write(POSTS, b"POST\n")
    body = b'{"status": "success"}'
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
