"""The host: commands beside the scripts, helpers of Instruqt, secrets, the example track."""

import contextlib
import filecmp
import os
import pathlib
import re
import shutil
import subprocess

from harness import BROKER_SCRIPTS, CSP_SCRIPTS, EXAMPLES, SCRIPTS, case
from servers import TOKEN, Simulator, started, until

# Prints the state of a shell on which commands of an author may depend, without the variables that the shell itself changes.
STATE = r"""
state() {
    umask
    printf 'options %s\n' "$-"
    trap
    set | grep -Ev '^(_|\?|BASH_[A-Z]*|PIPESTATUS|LINENO|PPID|RANDOM|SECONDS|EPOCH[A-Z]*|SRANDOM|OPTIND|FUNCNAME)='
}
"""


@case
def commands_below_a_script_keep_their_own_settings(world):
    for script, prelude in [("setup", "umask 022"), ("setup", "set -f; umask 002; LC_ALL=C.UTF-8; trap 'echo bye' EXIT; url=mine"),
                            ("extend", "set -f"), ("replace", "url=mine; reason=mine"), ("cleanup", "set -eu; token=mine"),
                            ("cleanup", ""), ("csp-user", "set -eu; umask 022; password=mine; trap 'echo bye' EXIT"),
                            ("csp-user-cleanup", "set -f; jwt=mine")]:
        play = world.student() if script.startswith("csp") else world.play()
        if script in ("extend", "replace"):
            play.run("setup").succeeded()
        path = play.directory / "script"
        path.write_text(f"{STATE}\n{prelude}\nstate >before\n{(EXAMPLES / script).read_text()}\nstate >after\necho done\n")
        play.environment["HOME"] = str(play.directory)
        process = started([*play.shell, str(path)], env=play.environment, cwd=play.directory, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        result = play.finish(process).succeeded()
        assert "done" in result.out, result
        before, after = ((play.directory / name).read_text() for name in ("before", "after"))
        assert before == after, f"{script} below {prelude!r}:\n{before}\n{after}"


@case
def commands_below_a_script_that_failed_do_not_run(world):
    for prelude in "", "set -e", "set -u":
        play = world.play(BROKER_TOKEN="wrong")
        path = play.directory / "script"
        path.write_text(f"{prelude}\n{(EXAMPLES / 'setup').read_text()}\necho done\n")
        result = play.run(path).failed("HTTP 401")
        assert "done" not in result.out, result


@case
def the_message_is_logged_if_instruqts_helpers_are_missing(world):
    play = world.play(helpers="no-helpers")
    play.run("setup").succeeded()
    play.environment["BROKER_TOKEN"] = "wrong"
    result = play.run("setup")
    assert result.code == 1 and not result.out and "HTTP 401 UNAUTHORIZED" in result.log, result


@case
def a_failing_agent_is_reported(world):
    play = world.play(helpers="bad-helpers")
    play.run("setup").failed("agent rejected the variable")
    assert len(world.broker.sandboxes_of(play.id)) == 1, "the next run would return the allocated sandbox"


def exposures(session, secrets):
    """Command lines of this machine, and environments of programs in a session, that contain one of the secrets."""
    found = []
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if any(secret in (process / "cmdline").read_bytes() for secret in secrets):
                found.append(f"{process}/cmdline")
            # The environment of a script itself stays what it was started with, as do those of its subshells.
            name = (process / "comm").read_text().strip()
            if os.getsid(int(process.name)) == session and name == "curl":
                if any(secret in (process / "environ").read_bytes() for secret in secrets):
                    found.append(f"{process}/environ of {name}")
    return found


@case
def the_token_appears_in_no_command_line_log_or_trace(world):
    play = world.play(token="exported", INFOBLOX_PASSWORD="for csp-user only")
    for script, names in [("setup", ["BROKER_API_TOKEN"]), ("extend", ["BROKER_TOKEN"]), ("replace", ["BROKER_TOKEN"]),
                          ("cleanup", ["BROKER_TOKEN", "BROKER_API_TOKEN"])]:
        proxy = world.proxy("hold")
        for name in "BROKER_TOKEN", "BROKER_API_TOKEN":
            play.environment.pop(name, None)
        play.environment |= {"BROKER_URL": proxy.url, **dict.fromkeys(names, TOKEN)}
        process = play.start(script, "-aCfx")
        assert proxy.forwarded.wait(20)
        found = exposures(process.pid, [TOKEN.encode(), b"for csp-user only"])
        proxy.resume.set()
        result = play.finish(process).succeeded()
        assert not found, found
        assert "curl" in result.log, "the trace is missing"
        assert TOKEN not in result.out + result.log and "c0ffee" not in result.log, result
        assert not any(TOKEN in content for content in play.files().values())


@case
def secrets_of_csp_user_appear_in_no_command_line_log_trace_or_other_file(world):
    # Inherited variables of these names are exported.
    names = "operator_password", "jwt", "password", "api_key", "join_token", "credentials", "answer", "body", "config", "token"
    play = world.student(CSP_API_KEY_HOURS="1", CSP_JOIN_TOKEN="1", **dict.fromkeys(names, "exported"))
    seen, found, session = {Simulator.PASSWORD.encode(), TOKEN.encode()}, [], []

    def collect():
        pattern = r'"(?:jwt|key|join_token|new_password)":\s*"([^"]+)"'
        for text in [*proxy.responses, *proxy.bodies]:
            seen.update(secret.encode() for secret in re.findall(pattern, text))

    def watch():
        collect()
        until(lambda: session, "the script to be started")
        found.extend(exposures(session[0], seen))

    for script, requests in ("csp-user", 9), ("csp-user-cleanup", 5):
        proxy = world.csp_proxy(play, watch=watch)
        session.clear()
        process = play.start(script, "-aCfx")
        session.append(process.pid)
        result = play.finish(process).succeeded()
        collect()
        assert len(proxy.seen) == requests and not found, (proxy.paths(), found)
        assert not any(secret.decode() in result.out + result.log for secret in seen), result
        if script == "csp-user":
            mine = {play.files()[name].encode() for name in ("user_password.txt", "api_key.txt", "join_token.txt")}
            assert mine < seen and len(seen) == len(mine) + 2 + 4, seen
            files = b"".join(path.read_bytes() for path in play.home.iterdir())
            assert not [secret for secret in seen - mine if secret in files], "a secret of the operator or a session is in a file"


@case
def the_track_is_complete_and_its_challenge_can_be_solved(world):
    track = world.directory / "track"
    shutil.copytree(EXAMPLES / "track", track)
    scripts = [path for path in track.glob("*/*-shell")]
    assert {path.name for path in scripts} == {"setup-shell", "cleanup-shell", "check-shell", "solve-shell"}
    assert all(path.is_file() and not path.is_symlink() and os.access(path, os.X_OK) for path in scripts)
    assert filecmp.cmp(track / "track_scripts" / "setup-shell", EXAMPLES / "setup", shallow=False)
    play = world.play()
    play.run("setup").succeeded()
    challenge = track / "01-meet-your-sandbox"
    play.run(challenge / "check-shell").failed("~/my-account")
    play.run(challenge / "solve-shell").succeeded()
    play.run(challenge / "check-shell").succeeded()
    named = {part.split('"')[0] for part in (challenge / "assignment.md").read_text().split('Instruqt-Var key="')[1:]}
    assert named and named <= set(play.variables()), named


@case
def parts_that_scripts_share_are_equal(_world):
    scripts = {}
    for script in SCRIPTS:
        text = (EXAMPLES / script).read_text()
        parts = re.findall(r"^# --- (Shared part[^:]*): begin.*?^# --- \1: end\. ---$", text, re.DOTALL | re.MULTILINE)
        for title in parts:
            part = text[text.index(f"# --- {title}: begin"):text.index(f"# --- {title}: end")]
            scripts.setdefault(title, {}).setdefault(part, []).append(script)
    assert all(len(copies) == 1 for copies in scripts.values()), scripts
    shared = {title: users for title, copies in scripts.items() for users in copies.values()}
    assert shared == {
        "Shared part": SCRIPTS, "Shared part, requests to the broker": BROKER_SCRIPTS,
        "Shared part, texts in URLs": ["cleanup", "extend", "replace", *CSP_SCRIPTS],
        "Shared part, values": ["setup", "extend", "replace"], "Shared part, files of a sandbox": ["setup", "replace"],
        "Shared part, exports for a shell": ["setup", "replace", "csp-user"],
        "Shared part, files of existing tracks": ["setup", "cleanup", "replace"], "Shared part, requests to CSP": CSP_SCRIPTS,
    }, shared
