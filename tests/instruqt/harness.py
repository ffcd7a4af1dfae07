"""The fixtures of the cases: plays on their hosts, and the servers and helper programs around them."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import uuid

from servers import TOKEN, Broker, Csp, Proxy, Simulator, started

ROOT = pathlib.Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples" / "instruqt"
SHELLS = {name: command for name, command in
          {"dash": ["dash"], "bash": ["bash"], "busybox": ["busybox", "sh"]}.items() if shutil.which(command[0])}
BROKER_SCRIPTS = ["setup", "cleanup", "extend", "replace"]
CSP_SCRIPTS = ["csp-user", "csp-user-cleanup"]
SCRIPTS = BROKER_SCRIPTS + CSP_SCRIPTS
# Files in which scripts keep notes for each other, beside the values for authors.
NOTES = {".caller", ".legacy", ".csp_account", ".api_key", ".join_token"}
FILES = {"sandbox_id", "name", "external_id", "account_id", "sfdc_account_id", "expires_at"}
HTML = "<!doctype html><html><title>502 Bad Gateway</title><h1>502 Bad Gateway</h1></html>"


class Play:
    """One play of a lab: its host's files, helpers and environment."""

    def __init__(self, shell, directory, url, helpers, **variables):
        self.shell, self.directory = shell, directory
        self.id = f"play-{uuid.uuid4().hex[:12]}"
        self.home = directory / "host" / "sandbox"
        self.environment = {
            "PATH": f"{helpers}:{os.environ['PATH']}", "HOME": str(directory), "BROKER_URL": url, "BROKER_TOKEN": TOKEN,
            "INSTRUQT_PARTICIPANT_ID": self.id, "INSTRUQT_TRACK_SLUG": "test-lab", "INSTRUQT_TRACK_ID": "t0",
            "INSTRUQT_USER_ID": "u0", "INSTRUQT_USER_EMAIL": "student@example.com", "SANDBOX_DIR": str(self.home),
            "SANDBOX_NAME_PREFIX": "lab-", "BROKER_BACKOFF_MS": "100", "BROKER_BACKOFF_MAX_MS": "400", "BROKER_TIMEOUT_SEC": "20",
            **variables,
        }

    def start(self, script, *options, cwd=None):
        path = EXAMPLES / script
        return started([*self.shell, *options, str(path)], env=self.environment, cwd=cwd or self.directory, stdin=subprocess.DEVNULL,
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace")

    def finish(self, process):
        try:
            out, log = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        return Result(process.returncode, out, log)

    def run(self, script, *options, cwd=None):
        return self.finish(self.start(script, *options, cwd=cwd))

    def files(self):
        """Returns the files but the notes: those for authors, and any temporary file that a script left behind."""
        found = self.home.iterdir() if self.home.is_dir() else []
        return {path.name: path.read_text() for path in found if path.name not in NOTES}

    def sandbox(self):
        return self.files().get("sandbox_id", "").rstrip("\n")

    def variables(self):
        path = self.directory / "variables"
        lines = path.read_text().splitlines() if path.exists() else []
        assert all(line.startswith("variable|set|") for line in lines), lines
        return dict(line.split("|", 3)[2:] for line in lines)


class Result:
    def __init__(self, code, out, log):
        self.code, self.out, self.log = code, out, log

    def __repr__(self):
        return f"exit {self.code}\n  stdout: {self.out!r}\n  stderr: {self.log!r}"

    def succeeded(self):
        assert self.code == 0, self
        return self

    def failed(self, *texts):
        """Asserts a failure whose message to the student contains all texts."""
        message = next((line for line in self.out.splitlines() if line.startswith("FAIL: ")), "")
        assert self.code != 0, self
        assert message and all(text in message for text in texts), f"{texts} in {self}"
        return self


def make_helpers(root):
    """Creates replacements for Instruqt's helper programs. Runs before the first thread: a program cannot be executed while
    a process forked in the meantime has it open for writing."""
    fail_message = 'printf "FAIL: %s\\n" "$1"'
    helpers = {
        "helpers": {"fail-message": fail_message, "agent": 'printf "%s|%s|%s|%s\\n" "$@" >>"$HOME/variables"'},
        "bad-helpers": {"fail-message": fail_message, "agent": "exit 3"},
        "no-helpers": {},
        # Records the files whenever a variable is set, which is after the file of that variable.
        "watching-helpers": {"fail-message": fail_message, "agent": """printf '%s\\n' "$3=$4" >>"$HOME/snapshots"
            for file in sandbox_id name external_id account_id; do
                [ ! -e "$SANDBOX_DIR/$file" ] || printf ' %s\\n' "$(cat "$SANDBOX_DIR/$file")" >>"$HOME/snapshots"
            done"""},
        # Runs the command in $MEANWHILE once, while the script that sets the first variable waits.
        "nesting-helpers": {"fail-message": fail_message, "agent": """[ "$3" != SANDBOX_NAME ] || [ -z "${MEANWHILE:-}" ] ||
            { command=$MEANWHILE; unset MEANWHILE; eval "$command"; }"""},
    }
    for directory, scripts in helpers.items():
        (root / directory).mkdir()
        for name, body in scripts.items():
            (root / directory / name).write_text(f"#!/bin/sh\n{body}\n")
            (root / directory / name).chmod(0o755)


class World:
    """The fixtures of one case."""

    def __init__(self, binary, shared, shell, directory):
        self.binary, self.shared, self.shell, self.directory = binary, shared, shell, directory
        self.broker, self.csp = shared.broker, shared.broker.csp
        self.stack = contextlib.ExitStack()

    def proxy(self, *faults, upstream=None, **options):
        proxy = Proxy(upstream or self.broker, faults, **options)
        self.stack.callback(proxy.server.shutdown)
        self.stack.callback(proxy.resume.set)
        return proxy

    def play(self, url=None, helpers="helpers", **variables):
        directory = self.directory / uuid.uuid4().hex[:8]
        directory.mkdir()
        return Play(self.shell, directory, url or self.broker.url, self.directory.parent / helpers, **variables)

    def student(self, simulator=None, **variables):
        """A play whose account is one of the shared simulator, after its setup."""
        play = self.play(self.shared.simulated_broker.url, SANDBOX_NAME_PREFIX="", **variables)
        self.give_csp(play, simulator or self.shared.simulator)
        play.run("setup").succeeded()
        return play

    def give_csp(self, play, simulator):
        """Sets the variables for CSP, except for those that the case has set."""
        play.environment = {
            "CSP_URL": simulator.root, "INFOBLOX_EMAIL": Simulator.EMAIL, "INFOBLOX_PASSWORD": Simulator.PASSWORD,
            "CSP_BACKOFF_MS": "100", "CSP_BACKOFF_MAX_MS": "400", "CSP_TIMEOUT_SEC": "20", **play.environment}

    def csp_proxy(self, play, *faults, **options):
        """A proxy between a play and the shared simulator."""
        proxy = self.proxy(*faults, upstream=self.shared.simulator, **options)
        play.environment["CSP_URL"] = f"{proxy.root}/{Simulator.KEY}"
        return proxy

    def own_simulator(self, *arguments):
        """A simulator whose settings the case may change."""
        directory = self.directory / "simulator"
        directory.mkdir()
        simulator = Simulator(self.binary, directory, "--accounts", "0", *arguments)
        self.stack.callback(simulator.stop)
        return simulator

    def own_broker(self):
        """A broker that the case may kill."""
        csp, directory = Csp(), self.directory / "broker"
        directory.mkdir()
        for number in range(5):
            csp.add(f"lab-own-{number}")
        broker = Broker(self.binary, csp, directory)
        self.stack.callback(broker.stop)
        broker.start().sync()
        return broker


CASES = []


def case(function):
    """Adds a function to the cases. It is called with a World of its own for each shell."""
    CASES.append(function)
    return function


def problem(status, code, **headers):
    """Returns an error of the broker, as a fault of the proxy."""
    return status, {name.replace("_", "-"): value for name, value in headers.items()}, json.dumps(
        {"error": {"code": code, "message": "Injected.", "request_id": "r-1"}, "detail": {"code": code}})


def allocated(sandbox_id, **more):
    """Returns an answer to an allocation or a replacement, as a fault of the proxy."""
    return 200, {}, json.dumps({"sandbox_id": sandbox_id, "name": f"lab-{sandbox_id}", "external_id": f"identity/accounts/a-{sandbox_id}",
                                "allocated_at": 1795000000, "expires_at": 1795003600, "sfdc_account_id": None, **more})


def granted(expires_at):
    """Returns an answer to an extension, as a fault of the proxy."""
    return 200, {}, json.dumps({"sandbox_id": "77", "expires_at": expires_at, "max_expires_at": expires_at + 3600})
