"""An in-memory broker with one injected fault, or none: proves that the load tests detect it.

    broken-broker.py FAULT SANDBOXES PORT-FILE

Implements the part of the API that the load tests use. Exits with its parent process, or after two minutes.
"""

import http.server
import itertools
import json
import os
import pathlib
import sys
import threading
import time
import urllib.parse

FAULTS = {
    "none": "behaves correctly",
    "shares": "allocates some sandboxes to two students",
    "forgets": "allocates another sandbox for some repeated requests",
    "fails": "sometimes answers 500",
    "refuses": "refuses students while a sandbox is available",
    "recycles": "allocates used sandboxes again",
    "silent": "refuses without Retry-After",
    "limits": "sometimes answers 429 or 503 with Retry-After, which is correct behaviour",
}


class Pool:
    """The pool and its operations, under one lock."""

    def __init__(self, fault, size):
        self.fault, self.lock, self.calls = fault, threading.Lock(), itertools.count(1)
        self.sandboxes = {str(n): {"sandbox_id": str(n), "name": f"lab-{n}", "status": "available"} for n in range(size)}

    def held(self, caller):
        return [
            s for s in self.sandboxes.values() if s.get("allocated_to_track") == caller and s["status"] == "allocated"
        ]

    def answer(self, method, path, query, caller):
        with self.lock:
            call = next(self.calls)
            if self.fault == "limits" and call % 40 == 0:
                return (429, "RATE_LIMIT_EXCEEDED", 1) if call % 80 else (503, "OVERLOADED", 1)
            if self.fault == "fails" and call % 25 == 0:
                return 500, "INTERNAL", None
            if path == "/v1/allocate":
                return self.allocate(caller, call)
            if path == "/v1/sandboxes":
                return 200, {"sandboxes": self.held(caller)}, None
            if path == "/v1/admin/stats":
                return 200, {"available": len(self.available())}, None
            if path == "/v1/admin/sandboxes":
                return self.list(query)
            if path.startswith("/v1/admin/"):
                return 200, {"status": "completed"}, None
            return self.read_or_release(method, path.split("/")[3], caller)

    def available(self):
        return [s for s in self.sandboxes.values() if s["status"] == "available"]

    def allocate(self, caller, call):
        held, free = self.held(caller), self.available()
        if held and not (self.fault == "forgets" and free and call % 5 == 0):
            return 200, held[0], None
        if self.fault == "recycles":
            free = free or [s for s in self.sandboxes.values() if s["status"] == "pending_deletion"]
        if self.fault == "shares" and call % 5 == 0:
            free = [s for s in self.sandboxes.values() if s["status"] == "allocated"] or free
        if not free or (self.fault == "refuses" and len(free) == 1):
            return 409, "NO_SANDBOXES_AVAILABLE", None if self.fault == "silent" else 30
        free[0].update(status="allocated", allocated_to_track=caller)
        return 201, free[0], None

    def read_or_release(self, method, sandbox, caller):
        found = self.sandboxes.get(sandbox)
        if found is None:
            return 404, "SANDBOX_NOT_FOUND", None
        if found.get("allocated_to_track") != caller:
            return 403, "NOT_SANDBOX_OWNER", None
        if method == "POST":
            found["status"] = "pending_deletion"
        return 200, found, None

    def list(self, query):
        text, status = query.get("q", [""])[0], query.get("status", [None])[0]
        found = [s for s in self.sandboxes.values() if s["status"] == status and text in s.get("allocated_to_track", s["name"])]
        return 200, {"sandboxes": found, "cursor": None}, None


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def respond(self):
        url = urllib.parse.urlsplit(self.path)
        query = urllib.parse.parse_qs(url.query)
        status, body, wait = self.server.pool.answer(self.command, url.path, query, self.headers.get("X-Instruqt-Sandbox-ID"))
        if isinstance(body, str):
            body = {"error": {"code": body}}
        content = json.dumps(body).encode()
        self.send_response(status)
        if wait is not None:
            self.send_header("Retry-After", str(wait))
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = respond

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


def main():
    fault, size, port_file = sys.argv[1:]
    if fault not in FAULTS:
        sys.exit(__doc__)
    server = Server(("127.0.0.1", 0), Handler)
    server.pool = Pool(fault, int(size))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    pathlib.Path(port_file + ".new").write_text(str(server.server_port))
    os.replace(port_file + ".new", port_file)
    parent, end = os.getppid(), time.monotonic() + 120
    while os.getppid() == parent and time.monotonic() < end:
        time.sleep(0.2)


if __name__ == "__main__":
    main()
