"""What scripts/check-image calls: looks at the files, runs the images, and says what is wrong.

check-image.py files      # docker-compose.yml by itself
check-image.py image      # the broker's image, under crun
check-image.py compose    # the services of docker-compose.yml, under crun
"""

import contextlib
import http.client
import http.server
import json
import os
import pathlib
import re
import shlex
import socket
import socketserver
import ssl
import subprocess
import sys
import tempfile
import threading
import time

import compose_spec
import yaml

PROJECT = pathlib.Path(__file__).resolve().parent.parent
COMPOSE = PROJECT / "docker-compose.yml"
USER = 65532
# Where distroless images have them.
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
LAPTOP_TOKENS = {"dev-track-token", "dev-admin-token"}


def check(holds, what):
    if not holds:
        sys.exit(f"FAILED: {what}")
    print(f"ok: {what}", flush=True)


def same(got, wanted, what):
    check(got == wanted, what if got == wanted else f"{what}: {got!r} in place of {wanted!r}")


def wait_for(seconds, what, done):
    """What `done` returns, once that is something."""
    deadline = time.monotonic() + seconds
    while not (result := done()):
        if time.monotonic() > deadline:
            sys.exit(f"FAILED: {what}: not within {seconds} s")
        time.sleep(0.1)
    print(f"ok: {what}", flush=True)
    return result


def ask(method, path, token=None, port=8080, **headers):
    """Status and body; a status of 0 if nobody answers."""
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


# Containers


class Container:
    """A process in the root of an image, under the restrictions of docker-compose.yml: a read-only root, no
    capabilities, no new privileges. The network is the one that this script has."""

    def __init__(self, home, name, root, image, command=None, environment=(), hosts=(), certificates=None):
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
        for destination, source in {"/etc/hosts": hosts_file, CERTIFICATES: certificates}.items():
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
        """The exit code of a command in the running container, as a health check runs it."""
        return self.crun("exec", self.name, *command).returncode

    def status(self):
        """/proc's view of the container's first process."""
        pid = json.loads(self.crun("state", self.name, check=True).stdout)["pid"]
        lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
        mounts = pathlib.Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
        return dict(line.split(":\t", 1) for line in lines if ":\t" in line), [line.split() for line in mounts]

    def stop(self, seconds):
        """The exit code after SIGTERM."""
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
def https_in_front_of(port, *hosts):
    """The port of a server that speaks TLS and passes on what it is told to `port`, and the certificate to trust."""

    def copy(source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    class PassOn(socketserver.BaseRequestHandler):
        def handle(self):
            # A client that does not trust the certificate hangs up.
            with contextlib.suppress(OSError), context.wrap_socket(self.request, server_side=True) as client:
                with socket.create_connection(("127.0.0.1", port)) as server:
                    threading.Thread(target=copy, args=(server, client), daemon=True).start()
                    copy(client, server)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with tempfile.TemporaryDirectory() as home, Server(("127.0.0.1", 0), PassOn) as front:
        key, certificate = f"{home}/key.pem", f"{home}/certificate.pem"
        names = ",".join(f"DNS:{host}" for host in hosts)
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"]
            + ["-subj", "/CN=check-image", "-addext", f"subjectAltName={names}"]
            + ["-addext", "basicConstraints=critical,CA:FALSE", "-keyout", key, "-out", certificate],
            check=True,
            capture_output=True,
        )
        os.chmod(home, 0o755)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        threading.Thread(target=front.serve_forever, daemon=True).start()
        yield front.server_address[1], certificate
        front.shutdown()


@contextlib.contextmanager
def csp():
    """The port of a CSP that has no accounts."""

    class Empty(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = b'{"results": []}'
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Empty) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@contextlib.contextmanager
def containers(root, image):
    """A function that runs one more container. When something fails, what the containers wrote is shown."""
    running = []
    with tempfile.TemporaryDirectory(prefix="check-image-") as home:

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


def configuration(file):
    return json.loads(pathlib.Path(file).read_text())["Docker"]["config"]


def files_in(root):
    return {str(path.relative_to(root)) for path in pathlib.Path(root).rglob("*") if not path.is_dir()}


# The broker's image


def image_by_itself():
    root, image = os.environ["BROKER_ROOT"], configuration(os.environ["BROKER_IMAGE"])
    look_at_image(root, image)

    tokens = {"BROKER_API_TOKEN": "a-track-token", "BROKER_ADMIN_TOKEN": "an-admin-token", "CSP_API_TOKEN": "csp"}
    settings = tokens | {
        # By name, so that the broker takes it for a shared one and reads its credentials from the environment.
        "DDB_ENDPOINT_URL": dynamodb_at("dynamodb"),
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
    }
    with containers(root, image) as run:
        trusting = {}

        def run_once(name, command, **changes):
            hosts = ["dynamodb", "csp"]
            container = run(name, command=command, environment=settings | changes, hosts=hosts, **trusting)
            return container.wait(30), container.output()

        code, output = run_once("version", ["--version"])
        check(code == 0 and output.startswith("sandbox-broker "), "--version answers")
        code, output = run_once("embedded", ["serve"], STORE="embedded")
        check(code == 1 and "it takes one of dynamodb" in output, "STORE=embedded is refused")
        code, output = run_once("simulator", ["csp-simulator"])
        check(code == 2 and "unrecognized subcommand" in output, "there is no csp-simulator")
        code, output = run_once("default-tokens", ["serve"], BROKER_API_TOKEN="")
        check(code == 1 and "BROKER_API_TOKEN" in output, "a laptop's token is refused")
        code, output = run_once("traces", ["check-config"], OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:4318")
        check(code == 0 and "without the feature otlp" not in output, "traces are built in")
        code, output = run_once("nobody", ["healthcheck"])
        check(code == 1 and "does not answer" in output, "healthcheck fails while nothing listens")
        for result in ("created", "existed"):
            code, output = run_once(f"table-{result}", ["table", "create"])
            same((code, json.loads(output.splitlines()[-1])["result"]), (0, result), f"table create: {result}")

        dynamodb_port = int(settings["DDB_ENDPOINT_URL"].rpartition(":")[2])
        with https_in_front_of(dynamodb_port, "dynamodb") as (port, certificate):
            https = {"DDB_ENDPOINT_URL": f"https://dynamodb:{port}"}
            code, output = run_once("distrusted-table", ["table", "create"], **https)
            check(code == 1, "the database's certificate is not trusted unless the system's file has it")
            trusting["certificates"] = certificate
            code, output = run_once("trusted-table", ["table", "create"], **https)
            same((code, json.loads(output.splitlines()[-1])["result"]), (0, "existed"), "and trusted if it has")
        with csp() as port_of_csp, https_in_front_of(port_of_csp, "csp") as (port, certificate):
            https = {"CSP_BASE_URL": f"https://csp:{port}/v2"}
            trusting.clear()
            code, output = run_once("distrusted-csp", ["job", "sync"], **https)
            check(code == 1, "CSP's certificate is not trusted unless the system's file has it")
            trusting["certificates"] = certificate
            code, output = run_once("trusted-csp", ["job", "sync"], **https)
            check(code == 0, "and trusted if it has")

        broker = run("broker", environment=settings, hosts=["dynamodb"])
        wait_for(20, "/healthz answers 200", lambda: ask("GET", "/healthz")[0] == 200)
        wait_for(20, "/readyz answers 200", lambda: ask("GET", "/readyz")[0] == 200)
        same(broker.execute(*image["Healthcheck"]["Test"][1:]), 0, "the image's health check succeeds")
        status, mounts = broker.status()
        same(set(status["Uid"].split()), {str(USER)}, "the broker's user")
        same(status["CapEff"] + status["CapBnd"], "0" * 32, "the broker's capabilities")
        same(status["NoNewPrivs"], "1", "the broker can gain no privileges")
        root_options = next(mount[5] for mount in mounts if mount[4] == "/")
        check("ro" in root_options.split(","), "the broker's root is read-only")
        check(all(line.startswith("{") for line in broker.output().splitlines()), "the log is JSON, a line an event")
        started = time.monotonic()
        same(broker.stop(10), 0, "SIGTERM ends the broker with 0")
        print(f"ok: it took {time.monotonic() - started:.1f} s")


def look_at_image(root, image):
    same(image["User"], f"{USER}:{USER}", "user")
    same(image["Entrypoint"], ["/sandbox-broker"], "entrypoint")
    same(image["Cmd"], ["serve"], "command")
    same(image["WorkingDir"], "/", "working directory")
    same(image["StopSignal"], "SIGTERM", "stop signal")
    same(list(image["ExposedPorts"]), ["8080/tcp"], "ports")
    same(image["Healthcheck"]["Test"], ["CMD", "/sandbox-broker", "healthcheck"], "health check")
    variables = dict(item.split("=", 1) for item in image["Env"])
    for of_the_base in ("PATH", "SSL_CERT_FILE"):
        variables.pop(of_the_base, None)
    same(variables, {"STORE": "dynamodb", "HOST": "0.0.0.0", "LOG_FORMAT": "json"}, "environment")
    prefix = "org.opencontainers.image."
    labels = {name.removeprefix(prefix): text for name, text in image["Labels"].items() if name.startswith(prefix)}
    description = re.search(r'^description = "(.*)"$', (PROJECT / "Cargo.toml").read_text(), re.MULTILINE)[1]
    wanted = {
        "title": "sandbox-broker",
        "description": description,
        "licenses": "MIT",
        "version": "1.2.3",
        "revision": "0123abc",
        "source": "https://example.com/broker",
    }
    same(labels, wanted, "labels")
    same(files_in(root) - files_in(os.environ["BASE_ROOT"]), {"sandbox-broker"}, "what the image adds to its base")
    binary = os.stat(f"{root}/sandbox-broker")
    same((binary.st_uid, oct(binary.st_mode & 0o7777)), (0, "0o555"), "the binary is root's, and nobody may write it")
    print(f"ok: it has {binary.st_size / 2**20:.0f} MiB")


# docker-compose.yml


def read_compose():
    return yaml.safe_load(COMPOSE.read_text())


def files():
    compose = read_compose()
    try:
        # Strict: an unknown key is an error. It does not know YAML's merge keys, so it gets what they come to.
        parsed = compose_spec.PyCompose.from_yaml(yaml.safe_dump(compose))
        parsed.validate()
        compose_spec.ComposeSpecification.model_validate(compose)
    except ValueError as error:
        sys.exit(f"FAILED: docker-compose.yml: {error}")
    services = compose["services"]
    built = {service["image"] for service in services.values() if "build" in service}
    for name, service in services.items():
        image = service["image"]
        if "build" in service:
            context = COMPOSE.parent / service["build"]["context"]
            dockerfile = (context / service["build"].get("dockerfile", "Dockerfile")).read_text()
            declared = set(re.findall(r"^ARG (\w+)", dockerfile, re.MULTILINE))
            check(set(service["build"].get("args", {})) <= declared, f"{name}: the Dockerfile has its arguments")
        else:
            exact = re.fullmatch(r".+:\d+\.\d+\.\d+", image) or image in built
            check(exact, f"{name}: {image} is built here, or has an exact tag")
        for other, condition in service.get("depends_on", {}).items():
            target = services.get(other)
            check(target is not None, f"{name} waits for {other}, which is there")
            if condition["condition"] == "service_healthy":
                check("test" in target.get("healthcheck", {}), f"{name}: {other} has a health check")
        for port in service.get("ports", []):
            check(port.startswith("127.0.0.1:"), f"{name}: {port} is bound to the loopback interface")
        hardened = (service.get("read_only"), service.get("cap_drop"), service.get("security_opt"))
        same(hardened, (True, ["ALL"], ["no-new-privileges:true"]), f"{name}: hardening")
        variables = service.get("environment", {})
        check(all(isinstance(value, str) for value in variables.values()), f"{name}: variables are strings")
        check(not LAPTOP_TOKENS & set(variables.values()), f"{name}: no laptop's token")
        for variable, value in variables.items():
            if match := re.match(r"https?://([^:/]+)", value):
                check(match[1] in services, f"{name}: {variable} leads to a service")


def dynamodb_at(host):
    """with-dynamodb-local takes any free port."""
    return f"http://{host}:{os.environ['BROKER_TEST_DYNAMODB_ENDPOINT'].rpartition(':')[2]}"


def in_order(services):
    """Every service after those that it depends on."""
    left = dict(services)
    while left:
        ready = [name for name, service in left.items() if not set(service.get("depends_on", {})) & set(left)]
        if not ready:
            sys.exit(f"FAILED: these wait for one another: {', '.join(left)}")
        for name in ready:
            yield name, left.pop(name)


def seconds(text):
    return float(text.removesuffix("s"))


def compose_services():
    services = read_compose()["services"]
    image = configuration(os.environ["COMPOSE_IMAGE"])
    with containers(os.environ["COMPOSE_ROOT"], image) as run:
        running = {}

        def is_healthy(name):
            test = services[name]["healthcheck"]["test"]
            if name == "dynamodb":
                # The server that with-dynamodb-local runs; of the image there is only the command.
                command = test[1].replace("http://127.0.0.1:8000", dynamodb_at("127.0.0.1"))
                return subprocess.run(["sh", "-c", command], timeout=10).returncode == 0
            return running[name].execute(*test[1:]) == 0

        for name, service in in_order(services):
            for other, condition in service.get("depends_on", {}).items():
                match condition["condition"]:
                    case "service_healthy":
                        check_of = services[other]["healthcheck"]
                        patience = check_of["retries"] * seconds(check_of["interval"])
                        wait_for(patience, f"{name}: {other} is healthy", lambda other=other: is_healthy(other))
                    case "service_completed_successfully":
                        same(running[other].wait(30), 0, f"{name}: {other} exits with 0")
                    case "service_started":
                        check(running[other].process.poll() is None, f"{name}: {other} has started")
            if name == "dynamodb":
                continue
            environment = {
                variable: value.replace("http://dynamodb:8000", dynamodb_at("dynamodb"))
                for variable, value in service.get("environment", {}).items()
            }
            command = service.get("command")
            print(f"ok: starts {name}: {shlex.join(command or image['Cmd'])}", flush=True)
            running[name] = run(name, command=command, environment=environment, hosts=services)

        use_pool(services, is_healthy)
        for name in ("worker", "broker", "csp-simulator"):
            check(running[name].process.poll() is None, f"{name} still runs")
            same(running[name].stop(10), 0, f"SIGTERM ends {name} with 0")


def use_pool(services, is_healthy):
    """What docs/image.md says that one can do now."""
    settings = services["broker"]["environment"]
    track, admin = settings["BROKER_API_TOKEN"], settings["BROKER_ADMIN_TOKEN"]
    command = services["csp-simulator"]["command"]
    accounts = int(command[command.index("--accounts") + 1])
    me = {"X_Instruqt_Sandbox_ID": "play-1"}

    wait_for(20, "broker is healthy", lambda: is_healthy("broker"))
    same(ask("GET", "/readyz")[0], 200, "/readyz")

    def stats():
        return ask("GET", "/v1/admin/stats", admin)[1]

    wait_for(20, f"the pool has {accounts} sandboxes", lambda: stats()["available"] == accounts)
    same(ask("POST", "/v1/allocate", "dev-track-token", **me)[0], 401, "a laptop's token")
    code, sandbox = ask("POST", "/v1/allocate", track, **me)
    same(code, 201, "an allocation")
    code, again = ask("POST", "/v1/allocate", track, **me)
    same((code, again["sandbox_id"]), (200, sandbox["sandbox_id"]), "the same, asked again")
    path = f"/v1/sandboxes/{sandbox['sandbox_id']}/mark-for-deletion"
    same(ask("POST", path, track, **me)[0], 200, "giving it back")
    wait_for(40, "the worker deletes it", lambda: stats()["total"] == accounts - 1)
    code, accounts_left = ask("GET", "/simulator/accounts", port=8081)
    same((code, len(accounts_left)), (200, accounts - 1), "the simulated CSP lacks it")


if __name__ == "__main__":
    {"files": files, "image": image_by_itself, "compose": compose_services}[sys.argv[1]]()
