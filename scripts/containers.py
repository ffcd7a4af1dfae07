"""Containers under crun, and functions that check them, for scripts/check-image.py and scripts/check-static.py."""

import contextlib
import http.client
import json
import os
import pathlib
import socket
import socketserver
import ssl
import subprocess
import sys
import tempfile
import threading
import time

USER = 65532
# The path of the certificate authorities in distroless images.
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"


def check(holds, title):
    """Prints the title of a check, and ends the program if it does not hold."""
    if not holds:
        sys.exit(f"FAILED: {title}")
    print(f"ok: {title}", flush=True)


def same(got, wanted, title):
    check(got == wanted, title if got == wanted else f"{title}: {got!r} in place of {wanted!r}")


def wait_for(seconds, title, done):
    """Calls `done` until it returns a true value, and returns that."""
    deadline = time.monotonic() + seconds
    while not (result := done()):
        if time.monotonic() > deadline:
            sys.exit(f"FAILED: {title}: not within {seconds} s")
        time.sleep(0.1)
    print(f"ok: {title}", flush=True)
    return result


def ask(method, path, token=None, port=8080, **headers):
    """Returns status and body; the status is 0 if nothing answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    if token:
        headers["Authorization"] = f"Bearer {token}"
    try:
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        body = response.read()
    except OSError:
        return 0, None
    finally:
        connection.close()
    return response.status, json.loads(body) if body.startswith((b"{", b"[")) else body


class Container:
    """A process in the root of an image, under the restrictions of docker-compose.yml: a read-only root, no
    capabilities, no new privileges. It shares the network of this script."""

    def __init__(self, home, name, root, image, command=None, environment=(), hosts=(), certificates=None, resolver=None):
        self.name = name
        self.base = ["crun", f"--root={home}/crun", "--cgroup-manager=disabled"]
        bundle = home / name
        bundle.mkdir()
        self.log = bundle / "log"
        subprocess.run(["crun", "spec"], cwd=bundle, check=True)
        spec = json.loads((bundle / "config.json").read_text())
        uid, gid = image["User"].split(":")
        variables = dict(item.split("=", 1) for item in image["Env"]) | dict(environment)
        spec["root"] = {"path": root, "readonly": True}
        spec["process"] |= {
            "terminal": False,
            "user": {"uid": int(uid), "gid": int(gid)},
            "cwd": image["WorkingDir"],
            "args": image["Entrypoint"] + (command or image["Cmd"]),
            "env": [f"{variable}={value}" for variable, value in variables.items()],
            "capabilities": {kind: [] for kind in ("bounding", "effective", "inheritable", "permitted", "ambient")},
            "noNewPrivileges": True,
        }
        hosts_file = bundle / "hosts"
        hosts_file.write_text("".join(f"127.0.0.1 {host}\n" for host in ("localhost", *hosts)))
        files = {"/etc/hosts": hosts_file, CERTIFICATES: certificates, "/etc/resolv.conf": resolver}
        for destination, source in files.items():
            if source:
                spec["mounts"].append(
                    {"destination": destination, "source": str(source), "type": "bind", "options": ["bind", "ro"]}
                )
        namespaces = spec["linux"]["namespaces"]
        spec["linux"]["namespaces"] = [space for space in namespaces if space["type"] not in ("network", "cgroup")]
        spec["linux"].pop("resources", None)
        (bundle / "config.json").write_text(json.dumps(spec))
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*self.base, "run", f"--bundle={bundle}", name], stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )

    def output(self):
        return self.log.read_text()

    def wait(self, seconds):
        return self.process.wait(seconds)

    def crun(self, *arguments, **options):
        return subprocess.run([*self.base, *arguments], capture_output=True, text=True, timeout=20, **options)

    def execute(self, *command):
        """Runs a command in the running container, as a health check does, and returns its exit code."""
        return self.crun("exec", self.name, *command).returncode

    def status(self):
        """Returns the status and the mounts of the container's first process, from /proc."""
        pid = json.loads(self.crun("state", self.name, check=True).stdout)["pid"]
        lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
        mounts = pathlib.Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
        return dict(line.split(":\t", 1) for line in lines if ":\t" in line), [line.split() for line in mounts]

    def stop(self, seconds):
        """Sends SIGTERM and returns the exit code, or None if the process still runs after that number of seconds."""
        self.crun("kill", self.name, "TERM")
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def remove(self):
        if self.process.poll() is None:
            self.crun("kill", self.name, "KILL")
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(10)
        self.crun("delete", "--force", self.name)


@contextlib.contextmanager
def tls_proxy(port, *hosts):
    """Runs a TLS proxy for the plain server at `port`; yields its port and the certificate to trust."""

    def copy(source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    class Forward(socketserver.BaseRequestHandler):
        def handle(self):
            # A client that does not trust the certificate closes the connection.
            with contextlib.suppress(OSError), context.wrap_socket(self.request, server_side=True) as client:
                with socket.create_connection(("127.0.0.1", port)) as server:
                    threading.Thread(target=copy, args=(server, client), daemon=True).start()
                    copy(client, server)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with tempfile.TemporaryDirectory() as home, Server(("127.0.0.1", 0), Forward) as proxy:
        key, certificate = f"{home}/key.pem", f"{home}/certificate.pem"
        names = ",".join(f"DNS:{host}" for host in hosts)
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"]
            + ["-subj", "/CN=test", "-addext", f"subjectAltName={names}"]
            + ["-addext", "basicConstraints=critical,CA:FALSE", "-keyout", key, "-out", certificate],
            check=True,
            capture_output=True,
        )
        os.chmod(home, 0o755)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        yield proxy.server_address[1], certificate
        proxy.shutdown()


@contextlib.contextmanager
def containers(root, image):
    """Yields a function that runs a container. After a failure, the output of all containers is printed."""
    running = []
    with tempfile.TemporaryDirectory(prefix="containers-") as home:

        def run(name, **options):
            running.append(Container(pathlib.Path(home), name, root, image, **options))
            return running[-1]

        try:
            yield run
        except BaseException:
            for container in running:
                print(f"--- {container.name}\n{container.output()[-3000:]}", file=sys.stderr)
            raise
        finally:
            for container in reversed(running):
                container.remove()
