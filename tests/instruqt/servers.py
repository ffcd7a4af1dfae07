"""The servers of the cases: broker, CSP, simulator, proxy."""

import collections
import contextlib
import http.client
import http.server
import json
import os
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid

TOKEN = "track-token-f00d-c0ffee"
ADMIN = "admin-token-beef"
# Ignores the proxy settings of the environment: every server is on the loopback interface.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


CHILDREN = []


def started(command, **options):
    """Starts a process in its own session, so that it can be killed together with its children."""
    process = subprocess.Popen(command, start_new_session=True, **options)
    CHILDREN.append(process)
    return process


def end_all():
    for process in CHILDREN:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def until(condition, awaited, seconds=20):
    """Waits until the condition returns a true value, and returns that."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"waited too long for {awaited}"
        time.sleep(0.02)
    return value


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        """Ignores connections of killed clients."""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format, *args):
        pass

    def reply(self, status, body=b"", headers=()):
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def serve(handler, **attributes):
    server = Server(("127.0.0.1", 0), type("Bound", (handler,), attributes))
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    return server


class Csp:
    """A CSP server that lists the accounts added to it, and deletes nothing."""

    def __init__(self):
        self.accounts = []
        self.adding = threading.Lock()
        csp = self

        class Answer(Handler):
            def do_GET(self):
                self.reply(200, json.dumps({"results": list(csp.accounts)}).encode())

        self.url = f"http://127.0.0.1:{serve(Answer).server_port}/v2"

    def add(self, name, csp_id=None):
        with self.adding:
            number = len(self.accounts)
            account = {"id": f"identity/accounts/{uuid.uuid4()}", "name": name, "csp_id": csp_id or 3000000 + number,
                       "account_type": "sandbox", "state": "active", "sfdc_account_id": f"001{number:06}"}
            self.accounts.append(account)
        return account


class Simulator:
    """`sandbox-broker csp-simulator`, and a client of it as the operator."""

    EMAIL, PASSWORD, KEY = "operator@example.com", "0perator-Secret!", "simulator-key"

    def __init__(self, binary, directory, *arguments):
        with socket.create_server(("127.0.0.1", 0)) as reserved:
            self.port = reserved.getsockname()[1]
        self.root = f"http://127.0.0.1:{self.port}/{self.KEY}"
        self.url = f"{self.root}/v2"
        with open(directory / "simulator.log", "ab") as log:
            self.process = started([binary, "csp-simulator", "--port", str(self.port), "--key", self.KEY, *arguments],
                                   cwd=directory, stdout=log, stderr=log)
        until(lambda: self.is_up() or self.process.poll() is not None, "the simulator to start", 30)
        self.control("PUT", "settings", {"user": {"email": self.EMAIL, "password": self.PASSWORD}})

    def is_up(self):
        with contextlib.suppress(OSError):
            return OPENER.open(f"{self.root}/simulator/calls", timeout=2).status == 200
        return False

    def stop(self):
        self.process.kill()
        self.process.wait()

    def call(self, method, path, body=None, authorization="Token any"):
        """Returns the status and the body of an answer."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": authorization, "Content-Type": "application/json"}
        request = urllib.request.Request(self.root + path, data, headers, method=method)
        try:
            with OPENER.open(request, timeout=30) as answer:
                text, status = answer.read(), answer.status
        except urllib.error.HTTPError as error:
            text, status = error.read(), error.code
        return status, json.loads(text) if text else None

    def control(self, method, path, body=None):
        return self.call(method, f"/simulator/{path}", body)[1]

    def session(self, account, email=EMAIL, password=PASSWORD):
        """Signs in and switches to an account. Returns the Authorization header for further calls, or None if CSP refuses."""
        for path, body in [("/v2/session/users/sign_in", {"email": email, "password": password}),
                           ("/v2/session/account_switch", {"id": f"identity/accounts/{account}"})]:
            status, answer = self.call("POST", path, body, authorization if "switch" in path else "")
            if status >= 300:
                return None
            authorization = f"Bearer {answer['jwt']}"
        return authorization

    def listed(self, account, path):
        """The entries of a list of an account, as the operator sees it."""
        return self.call("GET", path, authorization=self.session(account))[1]["results"]

    def create_account(self, name):
        """Creates an account over the API, so that it is not usable at once. Returns its uuid."""
        body = {"name": name, "description": "", "state": "active", "tags": {},
                "admin_user": {"email": self.EMAIL, "name": "Labs"}}
        return self.call("POST", "/v2/sandbox/accounts", body)[1]["result"]["id"].split("/")[-1]


class Broker:
    """`sandbox-broker serve` in its own directory, on a port that stays the same across restarts."""

    def __init__(self, binary, csp, directory):
        self.csp, self.binary, self.directory = csp, binary, directory
        with socket.create_server(("127.0.0.1", 0)) as reserved:
            self.port = reserved.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self.process = None
        self.syncing = threading.Lock()

    def start(self):
        environment = {
            "PATH": os.environ["PATH"], "HOME": str(self.directory), "STORE": "embedded", "DATA_DIR": str(self.directory / "data"),
            "PORT": str(self.port), "CSP_MODE": "live", "CSP_BASE_URL": self.csp.url, "CSP_API_TOKEN": "csp", "RUN_JOBS": "false",
            "BROKER_API_TOKEN": TOKEN, "BROKER_ADMIN_TOKEN": ADMIN, "LOG_LEVEL": "warn",
        }
        with open(self.directory / "log", "ab") as log:
            self.process = started([self.binary, "serve"], env=environment, cwd=self.directory, stdout=log, stderr=log)
        until(lambda: self.is_up() or self.process.poll() is not None, "the broker to start", 30)
        if self.process.poll() is not None:
            raise AssertionError("the broker does not start:\n" + (self.directory / "log").read_text())
        return self

    def is_up(self):
        with contextlib.suppress(OSError):
            return OPENER.open(f"http://127.0.0.1:{self.port}/readyz", timeout=2).status == 200
        return False

    def stop(self, how=signal.SIGKILL):
        if self.process and self.process.poll() is None:
            self.process.send_signal(how)
        if self.process:
            self.process.wait()

    def admin(self, method, path, body=None):
        data = body and json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {ADMIN}", "Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        return json.load(OPENER.open(request, timeout=30))

    def status(self, method, path, headers):
        request = urllib.request.Request(self.url + path, None, headers, method=method)
        try:
            return OPENER.open(request, timeout=30).status
        except urllib.error.HTTPError as error:
            return error.code

    def sync(self):
        # One at a time: a concurrent sync may have read CSP's list before the caller added its accounts.
        with self.syncing:
            self.admin("POST", "/admin/sync")

    @contextlib.contextmanager
    def paused(self, activity, reason):
        self.admin("PUT", f"/admin/pauses/{activity}", {"reason": reason})
        try:
            yield
        finally:
            # Without a body, so it is not read as JSON.
            with contextlib.suppress(json.JSONDecodeError):
                self.admin("DELETE", f"/admin/pauses/{activity}")

    def sandboxes_of(self, play):
        """Every sandbox that the play holds or has held, by id."""
        found = self.admin("GET", "/admin/sandboxes?limit=100&q=" + urllib.parse.quote(play))["sandboxes"]
        return {one["sandbox_id"]: one for one in found if one["allocated_to_track"] == play}


class Proxy:
    """Forwards requests to a broker or simulator, and injects the faults in `faults`, one per request, before it only
    forwards. Requests whose path contains a key of `answers` get that response. `watch` is called during each request.

    A fault is a (status, headers, body) to respond with, or `lose` (forward, and close the connection without a response),
    `hold` (forward, and delay the response until `resume` is set), or `hang` (neither forward nor respond).
    """

    def __init__(self, upstream, faults=(), retry_after=None, answers=None, watch=lambda: None):
        self.faults = collections.deque(faults)
        self.seen = []
        self.bodies = []
        self.responses = []
        self.resume = threading.Event()
        self.forwarded = threading.Event()
        proxy = self

        class Forward(Handler):
            def do_GET(self):
                sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                proxy.bodies.append(sent.decode())
                proxy.seen.append((time.monotonic(), self.command, self.path, self.headers))
                watch()
                fault = proxy.faults.popleft() if proxy.faults else None
                fault = next((answer for part, answer in (answers or {}).items() if part in self.path), fault)
                if isinstance(fault, tuple):
                    status, headers, body = fault
                    return self.reply(status, body.encode(), headers.items())
                if fault == "hang":
                    proxy.resume.wait(60)
                    return None
                status, headers, body = self.forward(sent)
                proxy.responses.append(body.decode())
                proxy.forwarded.set()
                if fault == "hold":
                    proxy.resume.wait(60)
                if fault == "lose":
                    self.close_connection = True
                    return self.connection.shutdown(socket.SHUT_RDWR)
                return self.reply(status, body, headers)

            do_POST = do_DELETE = do_GET

            def forward(self, sent):
                connection = http.client.HTTPConnection("127.0.0.1", upstream.port, timeout=30)
                try:
                    connection.request(self.command, self.path, sent, headers={
                        name: value for name, value in self.headers.items() if name.lower() not in ("host", "connection")})
                    answer = connection.getresponse()
                    headers = [(name, retry_after if retry_after and name.lower() == "retry-after" else value)
                               for name, value in answer.getheaders()
                               if name.lower() not in ("content-length", "connection", "transfer-encoding")]
                    return answer.status, headers, answer.read()
                finally:
                    connection.close()

        self.server = serve(Forward)
        self.root = f"http://127.0.0.1:{self.server.server_port}"
        self.url = f"{self.root}/v1"

    def paths(self):
        return [request[2] for request in self.seen]

    def gaps(self):
        times = [request[0] for request in self.seen]
        return [after - before for before, after in zip(times, times[1:])]
