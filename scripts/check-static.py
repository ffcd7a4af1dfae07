"""The part of scripts/check-static that runs the binary, under crun.

check-static.py ROOT    # the root directory of the containers, which has the binary only

It has port 53 of the loopback interface to itself: scripts/check-static gives it a network namespace.
"""

import contextlib
import json
import pathlib
import socketserver
import sys
import tempfile
import threading

from containers import USER, ask, check, containers, same, tls_proxy, wait_for

IMAGE = {"User": f"{USER}:{USER}", "Env": [], "WorkingDir": "/", "Entrypoint": ["/sandbox-broker"], "Cmd": ["serve"]}
# The only folder of the containers that is writable.
DATA = {"DATA_DIR": "/dev/shm/pool"}
CALLER = {"X_Instruqt_Sandbox_ID": "play-1"}
TOKEN = "dev-track-token"
# With CSP_MODE=live, the broker rejects the default tokens of laptops.
TOKENS = {"BROKER_API_TOKEN": "a-track-token", "BROKER_ADMIN_TOKEN": "an-admin-token", "CSP_API_TOKEN": "simulated"}
ACCOUNTS = 3


def check_broker(run):
    """The broker of a laptop: the embedded engine and the simulated CSP."""
    version = run("version", command=["--version"])
    check(version.wait(30) == 0 and version.output().startswith("sandbox-broker "), "--version answers")

    broker = run("broker", environment=DATA | {"PORT": "8080"})
    wait_for(30, "/readyz answers 200", lambda: ask("GET", "/readyz")[0] == 200)
    same(broker.execute("/sandbox-broker", "healthcheck"), 0, "healthcheck")
    code, sandbox = ask("POST", "/v1/allocate", TOKEN, **CALLER)
    same(code, 201, "an allocation from the embedded engine")
    code, again = ask("POST", "/v1/allocate", TOKEN, **CALLER)
    same((code, again["sandbox_id"]), (200, sandbox["sandbox_id"]), "a replay returns the same sandbox")
    path = f"/v1/sandboxes/{sandbox['sandbox_id']}/mark-for-deletion"
    same(ask("POST", path, TOKEN, **CALLER)[0], 200, "a release")
    same(ask("GET", "/dashboard")[0], 200, "the dashboard")
    client = {"BROKER_API_URL": "http://127.0.0.1:8080/v1", "BROKER_API_TOKEN": TOKEN, "BROKER_CALLER": "play-2"}
    lease = run("lease", command=["lease", "run", "--", "/sandbox-broker", "--version"], environment=client)
    same(lease.wait(30), 0, "lease run ends as its command does")
    output = lease.output()
    check(version.output() in output and "is released" in output, "its command runs, and its sandbox is released")
    same(broker.stop(30), 0, "SIGTERM ends the broker with exit code 0")


def check_names_and_certificates(run):
    """A CSP whose name only a DNS server knows and whose certificate only the system's file has."""
    host = "csp.example.com"
    simulator = run("simulator", command=["csp-simulator", "--port", "8081", "--accounts", str(ACCOUNTS)])
    wait_for(30, "the simulator listens", lambda: "CSP_BASE_URL=" in simulator.output())
    path = simulator.output().partition("CSP_BASE_URL=http://127.0.0.1:8081")[2].split()[0]

    with name_server(host) as resolver, tls_proxy(8081, host) as (port, certificate), tls_proxy(8081, host) as (_, other):

        def sync(name, host=host, **files):
            settings = DATA | TOKENS | {"CSP_MODE": "live", "CSP_BASE_URL": f"https://{host}:{port}{path}"}
            job = run(name, command=["job", "sync"], environment=settings, resolver=resolver, **files)
            return job.wait(60), job.output()

        code, output = sync("no-authorities")
        check(code == 1 and "ca-certificates" in output, "the error without certificate authorities says what to install")
        code, output = sync("distrusted", certificates=other)
        check(code == 1, "a certificate outside the system's file is rejected")
        code, output = sync("unknown", host="unknown.example.com", certificates=certificate)
        check(code == 1, "a name that DNS does not know fails the job")
        code, output = sync("trusted", certificates=certificate)
        same(code, 0, "a name from DNS and a certificate in the system's file are accepted")
        same(json.loads(output.splitlines()[-1])["inserted"], ACCOUNTS, "accounts that a sync over HTTPS inserts")


@contextlib.contextmanager
def name_server(host):
    """Runs a DNS server that knows one name, at 127.0.0.1; yields a resolv.conf that names the server."""

    class Answer(socketserver.BaseRequestHandler):
        def handle(self):
            query, socket = self.request
            # A header of 12 bytes, then the labels of the name, then type and class in two bytes each.
            labels = b"".join(bytes([len(label)]) + label.encode() for label in host.split(".")) + b"\0"
            question = query[12 : 12 + len(labels) + 4]
            known = question[: len(labels)].lower() == labels
            # An address for type A; for AAAA, that there is none.
            answers = [b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4\x7f\0\0\1"] if known and question[-4:-2] == b"\0\1" else []
            flags = b"\x81\x80" if known else b"\x81\x83"  # no error, or NXDOMAIN
            counts = b"\0\1" + bytes([0, len(answers)]) + b"\0\0\0\0"
            socket.sendto(query[:2] + flags + counts + question + b"".join(answers), self.client_address)

    with tempfile.TemporaryDirectory() as home, socketserver.UDPServer(("127.0.0.1", 53), Answer) as server:
        file = pathlib.Path(home, "resolv.conf")
        file.write_text("nameserver 127.0.0.1\n")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield file
        server.shutdown()


if __name__ == "__main__":
    with containers(sys.argv[1], IMAGE) as run:
        check_broker(run)
        check_names_and_certificates(run)
