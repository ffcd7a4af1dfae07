"""The part of scripts/check-image that checks docker-compose.yml and runs the images.

check-image.py files      # the contents of docker-compose.yml
check-image.py image      # the broker's image, under crun
check-image.py compose    # the services of docker-compose.yml, under crun
"""

import contextlib
import http.server
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import threading
import time

import compose_spec
import yaml
from containers import USER, ask, check, containers, same, tls_proxy, wait_for

PROJECT = pathlib.Path(__file__).resolve().parent.parent
COMPOSE = PROJECT / "docker-compose.yml"
LAPTOP_TOKENS = {"dev-track-token", "dev-admin-token"}


@contextlib.contextmanager
def csp():
    """Runs a CSP without accounts; yields its port."""

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


def configuration(file):
    return json.loads(pathlib.Path(file).read_text())["Docker"]["config"]


def files_in(root):
    return {str(path.relative_to(root)) for path in pathlib.Path(root).rglob("*") if not path.is_dir()}


# The broker's image


def check_image():
    root, image = os.environ["BROKER_ROOT"], configuration(os.environ["BROKER_IMAGE"])
    check_contents(root, image)

    tokens = {"BROKER_API_TOKEN": "a-track-token", "BROKER_ADMIN_TOKEN": "an-admin-token", "CSP_API_TOKEN": "csp"}
    settings = tokens | {
        # A host name: for a loopback address the broker would use built-in credentials.
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
        check(code == 1 and "it takes one of dynamodb" in output, "STORE=embedded is rejected")
        code, output = run_once("simulator", ["csp-simulator"])
        check(code == 2 and "unrecognized subcommand" in output, "the image has no csp-simulator")
        code, output = run_once("default-tokens", ["serve"], BROKER_API_TOKEN="")
        check(code == 1 and "BROKER_API_TOKEN" in output, "the default token of laptops is rejected")
        code, output = run_once("traces", ["check-config"], OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:4318")
        check(code == 0 and "without the feature otlp" not in output, "the image supports traces")
        code, output = run_once("healthcheck", ["healthcheck"])
        check(code == 1 and "does not answer" in output, "healthcheck fails while nothing listens")
        for result in ("created", "existed"):
            code, output = run_once(f"table-{result}", ["table", "create"])
            same((code, json.loads(output.splitlines()[-1])["result"]), (0, result), f"table create: {result}")

        dynamodb_port = int(settings["DDB_ENDPOINT_URL"].rpartition(":")[2])
        with tls_proxy(dynamodb_port, "dynamodb") as (port, certificate):
            https = {"DDB_ENDPOINT_URL": f"https://dynamodb:{port}"}
            code, output = run_once("distrusted-table", ["table", "create"], **https)
            check(code == 1, "a database certificate outside the system's file is rejected")
            trusting["certificates"] = certificate
            code, output = run_once("trusted-table", ["table", "create"], **https)
            same((code, json.loads(output.splitlines()[-1])["result"]), (0, "existed"), "a database certificate in the system's file is trusted")
        with csp() as port_of_csp, tls_proxy(port_of_csp, "csp") as (port, certificate):
            https = {"CSP_BASE_URL": f"https://csp:{port}/v2"}
            trusting.clear()
            code, output = run_once("distrusted-csp", ["job", "sync"], **https)
            check(code == 1, "a CSP certificate outside the system's file is rejected")
            trusting["certificates"] = certificate
            code, output = run_once("trusted-csp", ["job", "sync"], **https)
            check(code == 0, "a CSP certificate in the system's file is trusted")

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
        check(all(line.startswith("{") for line in broker.output().splitlines()), "the log is JSON, one event per line")
        started = time.monotonic()
        same(broker.stop(10), 0, "SIGTERM ends the broker with exit code 0")
        print(f"ok: shutdown took {time.monotonic() - started:.1f} s")


def check_contents(root, image):
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
    same(files_in(root) - files_in(os.environ["BASE_ROOT"]), {"sandbox-broker"}, "files that the image adds to its base")
    binary = os.stat(f"{root}/sandbox-broker")
    same((binary.st_uid, oct(binary.st_mode & 0o7777)), (0, "0o555"), "owner and mode of the binary")
    print(f"ok: the binary has {binary.st_size / 2**20:.0f} MiB")


# docker-compose.yml


def read_compose():
    return yaml.safe_load(COMPOSE.read_text())


def check_files():
    compose = read_compose()
    try:
        # Strict: an unknown key is an error. YAML merge keys are resolved first, because the schema lacks them.
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
            check(set(service["build"].get("args", {})) <= declared, f"{name}: the Dockerfile declares its build arguments")
        else:
            exact = re.fullmatch(r".+:\d+\.\d+\.\d+", image) or image in built
            check(exact, f"{name}: {image} is built here or has an exact tag")
        for other, condition in service.get("depends_on", {}).items():
            target = services.get(other)
            check(target is not None, f"{name} waits for an existing service: {other}")
            if condition["condition"] == "service_healthy":
                check("test" in target.get("healthcheck", {}), f"{name}: {other} has a health check")
        for port in service.get("ports", []):
            check(port.startswith("127.0.0.1:"), f"{name}: {port} is bound to the loopback interface")
        hardened = (service.get("read_only"), service.get("cap_drop"), service.get("security_opt"))
        same(hardened, (True, ["ALL"], ["no-new-privileges:true"]), f"{name}: hardening")
        variables = service.get("environment", {})
        check(all(isinstance(value, str) for value in variables.values()), f"{name}: variables are strings")
        check(not LAPTOP_TOKENS & set(variables.values()), f"{name}: no default token of laptops")
        for variable, value in variables.items():
            if match := re.match(r"https?://([^:/]+)", value):
                check(match[1] in services, f"{name}: {variable} names a service")


def dynamodb_at(host):
    """The URL of DynamoDB Local, whose port with-dynamodb-local chooses, at another host name."""
    return f"http://{host}:{os.environ['BROKER_TEST_DYNAMODB_ENDPOINT'].rpartition(':')[2]}"


def in_order(services):
    """Yields the services so that each comes after its dependencies."""
    left = dict(services)
    while left:
        ready = [name for name, service in left.items() if not set(service.get("depends_on", {})) & set(left)]
        if not ready:
            sys.exit(f"FAILED: circular dependencies: {', '.join(left)}")
        for name in ready:
            yield name, left.pop(name)


def seconds(text):
    return float(text.removesuffix("s"))


def check_compose():
    services = read_compose()["services"]
    image = configuration(os.environ["COMPOSE_IMAGE"])
    with containers(os.environ["COMPOSE_ROOT"], image) as run:
        running = {}

        def is_healthy(name):
            test = services[name]["healthcheck"]["test"]
            if name == "dynamodb":
                # with-dynamodb-local runs the server; only the command of the health check comes from the file.
                command = test[1].replace("http://127.0.0.1:8000", dynamodb_at("127.0.0.1"))
                return subprocess.run(["sh", "-c", command], timeout=10).returncode == 0
            return running[name].execute(*test[1:]) == 0

        for name, service in in_order(services):
            for other, condition in service.get("depends_on", {}).items():
                match condition["condition"]:
                    case "service_healthy":
                        check_of = services[other]["healthcheck"]
                        limit = check_of["retries"] * seconds(check_of["interval"])
                        wait_for(limit, f"{name}: {other} is healthy", lambda other=other: is_healthy(other))
                    case "service_completed_successfully":
                        same(running[other].wait(30), 0, f"{name}: {other} ends with exit code 0")
                    case "service_started":
                        check(running[other].process.poll() is None, f"{name}: {other} has started")
            if name == "dynamodb":
                continue
            environment = {
                variable: value.replace("http://dynamodb:8000", dynamodb_at("dynamodb"))
                for variable, value in service.get("environment", {}).items()
            }
            command = service.get("command")
            print(f"ok: starting {name}: {shlex.join(command or image['Cmd'])}", flush=True)
            running[name] = run(name, command=command, environment=environment, hosts=services)

        use_pool(services, is_healthy)
        for name in ("worker", "broker", "csp-simulator"):
            check(running[name].process.poll() is None, f"{name} still runs")
            same(running[name].stop(10), 0, f"SIGTERM ends {name} with exit code 0")


def use_pool(services, is_healthy):
    """Runs the commands that docs/image.md describes for the running services."""
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
    same(ask("POST", "/v1/allocate", "dev-track-token", **me)[0], 401, "the default token of laptops is rejected")
    code, sandbox = ask("POST", "/v1/allocate", track, **me)
    same(code, 201, "an allocation")
    code, again = ask("POST", "/v1/allocate", track, **me)
    same((code, again["sandbox_id"]), (200, sandbox["sandbox_id"]), "a replay returns the same sandbox")
    path = f"/v1/sandboxes/{sandbox['sandbox_id']}/mark-for-deletion"
    same(ask("POST", path, track, **me)[0], 200, "a release")
    wait_for(40, "the worker deletes it", lambda: stats()["total"] == accounts - 1)
    key = command[command.index("--key") + 1]
    same(ask("GET", "/simulator/accounts", port=8081)[0], 404, "the simulator without its key")
    code, accounts_left = ask("GET", f"/{key}/simulator/accounts", port=8081)
    same((code, len(accounts_left)), (200, accounts - 1), "the simulator no longer has it")


if __name__ == "__main__":
    {"files": check_files, "image": check_image, "compose": check_compose}[sys.argv[1]]()
