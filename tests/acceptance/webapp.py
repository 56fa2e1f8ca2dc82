"""The application of `rlm web` in a thread of this process, and its clients: a browser, or a program."""

from __future__ import annotations

import json
import re
import threading
from contextlib import contextmanager
from unittest import mock

import urllib3
import uvicorn

from rlm.processes.signals import StopSignals
from rlm.web import serve
from rlm.web.app import make_app


class Server(uvicorn.Server):
    """Looks around ten times a second, and so is stopped ten times as fast."""

    async def on_tick(self, _counter):
        return await super().on_tick(0)


@contextmanager
def serving(app):
    """Serve an application on a free port of the loopback interface; yield the port."""
    with StopSignals() as stop, mock.patch.object(uvicorn, "Server", Server):
        bound = serve.bind("127.0.0.1", 0, stop, has_token=False)
        port = bound.getsockname()[1]  # it is closed in the end
        thread = threading.Thread(target=serve.serve, args=(app, bound, stop))
        thread.start()
        try:
            yield port
        finally:
            stop.graceful = True
            stop.wake()
            thread.join()


@contextmanager
def served(store, token="", hosts=(), **how):
    """Serve a store; yield a client that does not identify itself."""
    with serving(make_app(store, token, hosts, **how)) as port, urllib3.PoolManager(retries=False, timeout=20) as http:
        yield Client(http, port)


class Client:
    """Makes requests with the given headers, in addition to its own."""

    def __init__(self, http, port, **headers):
        self.http, self.port, self.headers = http, port, headers
        self.origin = f"http://127.0.0.1:{port}"

    def ask(self, method, path, body=None, **headers):
        """Send a request; underscores in header names become hyphens."""
        said = {name.replace("_", "-"): value for name, value in {**self.headers, **headers}.items() if value}
        if body is not None and not isinstance(body, bytes):
            body, said = json.dumps(body).encode(), {"Content-Type": "application/json", **said}
        url = f"http://127.0.0.1:{self.port}{path}"
        return self.http.request(method, url, body=body, headers=said, redirect=False)

    def get(self, path, **headers):
        return self.ask("GET", path, **headers)

    def post(self, path, body=None, **headers):
        return self.ask("POST", path, body, **headers)

    def json(self, path, status=200):
        """Return the document at a path."""
        answer = self.get(path)
        assert answer.status == status, (path, answer.status, answer.data)
        return answer.json()

    def program(self, token):
        """Return a client that sends the token."""
        return Client(self.http, self.port, Authorization=f"Bearer {token}")

    def browser(self):
        """Return a browser that has loaded the first page."""
        return Browser(self.http, self.port)


class Browser(Client):
    """Sends its origin, keeps its cookie, and sends the CSRF token of the page loaded last."""

    def __init__(self, http, port):
        super().__init__(http, port, Accept="text/html")
        self.headers["Origin"] = self.origin
        self.load()

    def load(self, path="/"):
        """Load a page."""
        page = self.get(path)
        found = re.search(rb'name="csrf-token" content="([^"]*)"', page.data)
        self.headers["X_CSRF_Token"] = found[1].decode() if found else None
        return page

    def ask(self, method, path, body=None, **headers):
        answer = super().ask(method, path, body, **headers)
        if cookie := answer.headers.get("Set-Cookie"):
            self.headers["Cookie"] = cookie.partition(";")[0]
        return answer

    def log_in(self, token, **headers):
        """Send the form of the log-in page, then load the first page."""
        form = {"Content_Type": "application/x-www-form-urlencoded", **headers}
        answer = self.post("/login", f"token={token}&next=/".encode(), **form)
        if answer.status == 303:
            self.load()
        return answer
