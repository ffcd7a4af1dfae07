"""csp-user and csp-user-cleanup against the CSP simulator."""

import json
import os
import re
import signal
import subprocess
import time

from harness import FILES, HTML, case
from servers import Simulator, until

USER_FILES = {"user_email.txt", "user_password.txt", "user_id.txt", "user_credentials.sh"}
ALL_FILES = USER_FILES | {"api_key.txt", "join_token.txt"}
JOIN_TOKENS = "/atlas-host-activation/v1/jointoken"


def user_files(play):
    return {name: text for name, text in play.files().items() if name not in FILES}


def account(play):
    return play.files()["account_id"].strip()


def users(csp, play):
    return csp.listed(account(play), "/v2/users")


def exported(play, path):
    """Returns the variables that the file with the credentials exports."""
    shown = subprocess.run([*play.shell, "-euc", f'. "{path}"; env'], capture_output=True, text=True, check=True)
    names = ("CSP_USER_", "SFDC_", "BLOXONE_", "TF_VAR_", "INFOBLOX_")
    return dict(line.split("=", 1) for line in shown.stdout.splitlines() if line.startswith(names))


def is_strong(password):
    kinds = "[A-Z]", "[a-z]", "[0-9]", "[^A-Za-z0-9].*[^A-Za-z0-9]"
    return all(re.search(kind, password) for kind in kinds) and len(password) >= 16


@case
def csp_user_creates_a_user_who_can_sign_in(world):
    csp = world.shared.simulator
    play = world.student()
    play.run("csp-user").succeeded()
    found = user_files(play)
    email, password = found["user_email.txt"], found["user_password.txt"]
    assert set(found) == USER_FILES and email == f"{play.id}@infoblox.lab" and is_strong(password), found
    (user,) = users(csp, play)
    assert user["id"] == f"identity/users/{found['user_id.txt']}"
    assert (user["name"], user["email"], user["type"]) == (play.id, email, "interactive"), user
    groups = {group["id"]: group["name"] for group in csp.listed(account(play), "/v2/groups")}
    assert [groups[group] for group in user["group_ids"]] == ["user", "act_admin"]
    assert csp.session(account(play), email, password), "the user cannot sign in"
    assert {path.stat().st_mode & 0o777 for path in play.home.iterdir()} == {0o600}
    assert exported(play, play.home / "user_credentials.sh") == {
        "CSP_USER_EMAIL": email, "CSP_USER_PASSWORD": password, "CSP_USER_ID": found["user_id.txt"],
        "SFDC_ACCOUNT_ID": play.files()["sfdc_account_id"].strip()}
    variables = play.variables()
    assert (variables["CSP_USER_EMAIL"], variables["CSP_USER_ID"]) == (email, found["user_id.txt"])
    assert password not in json.dumps(variables)


@case
def csp_user_run_twice_keeps_user_password_and_credentials(world):
    csp = world.shared.simulator
    play = world.student(CSP_API_KEY_HOURS="2", CSP_JOIN_TOKEN="1")
    play.run("csp-user").succeeded()
    first = user_files(play)
    play.run("csp-user").succeeded()
    assert user_files(play) == first and len(users(csp, play)) == 1
    assert len(csp.listed(account(play), "/v2/api_keys")) == len(csp.listed(account(play), JOIN_TOKENS)) == 1
    assert csp.session(account(play), first["user_email.txt"], first["user_password.txt"])


@case
def api_key_and_join_token_are_created_on_request(world):
    csp = world.shared.simulator
    play = world.student(CSP_API_KEY_HOURS="2", CSP_JOIN_TOKEN="1", CSP_USER_GROUPS="user")
    play.run("csp-user").succeeded()
    found = user_files(play)
    assert set(found) == ALL_FILES
    assert csp.call("GET", "/v2/users", authorization=f"Token {found['api_key.txt']}")[1]["results"] == users(csp, play)
    (key,) = csp.listed(account(play), "/v2/api_keys")
    assert key["user_id"] == f"identity/users/{found['user_id.txt']}", "the key is not the student's"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.000Z", key["expires_at"]), key
    end = int((play.home / ".api_key").read_text().split()[1])
    assert key["expires_at"] == time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(end)), key
    assert 7100 < end - time.time() < 7300, end
    (token,) = csp.listed(account(play), JOIN_TOKENS)
    assert token["status"] == "ACTIVE" and found["join_token.txt"]
    env = exported(play, play.home / "user_credentials.sh")
    assert env["BLOXONE_API_KEY"] == env["TF_VAR_ddi_api_key"] == found["api_key.txt"]
    assert env["INFOBLOX_JOIN_TOKEN"] == env["TF_VAR_infoblox_join_token"] == found["join_token.txt"]
    # A key that has ended, such as one of a hot start, is replaced.
    (play.home / ".api_key").write_text(f"{key['id'].split('/')[-1]} {int(time.time())}\n")
    play.run("csp-user").succeeded()
    assert user_files(play)["api_key.txt"] != found["api_key.txt"]
    assert len(csp.listed(account(play), "/v2/api_keys")) == 2


def with_account(world, csp, name):
    """A play without a setup, whose account was just created over the API of a simulator of its own."""
    play = world.play()
    world.give_csp(play, csp)
    play.home.mkdir(parents=True)
    (play.home / "account_id").write_text(csp.create_account(name) + "\n")
    return play


@case
def csp_user_waits_until_the_account_is_usable(world):
    csp = world.own_simulator()
    csp.control("PUT", "settings", {"usable_delay_sec": 600})
    play = with_account(world, csp, "new")
    process = play.start("csp-user")
    until(lambda: csp.control("GET", "calls")["groups"] >= 2, "the list of groups to be requested again")
    assert process.poll() is None
    csp.control("POST", "advance", {"seconds": 600})
    result = play.finish(process).succeeded()
    assert 'HTTP 200 without "id"; retrying' in result.log, result


@case
def lists_of_csp_are_understood_in_each_of_their_forms(world):
    csp = world.own_simulator()
    for form in "result", "bare":
        csp.control("PUT", "settings", {"lists": form})
        play = with_account(world, csp, form)
        # The first response to the creation of the user is lost, and the user is searched for.
        proxy = world.proxy(None, None, None, "lose", upstream=csp)
        play.environment["CSP_URL"] = f"{proxy.root}/{Simulator.KEY}"
        play.run("csp-user").succeeded()
        assert len(proxy.seen) == 7 and (play.home / "user_id.txt").read_text(), proxy.paths()


@case
def csp_user_fails_with_a_message_if_the_account_does_not_become_usable(world):
    csp = world.own_simulator()
    csp.control("PUT", "settings", {"usable_delay_sec": 600})
    play = world.play(CSP_TIMEOUT_SEC="2")
    world.give_csp(play, csp)
    play.home.mkdir(parents=True)
    for uuid, text in [(csp.create_account("new"), "without \"id\""),
                       ("00000000-0000-4000-8000-000000000000", "HTTP 404: no such account")]:
        (play.home / "account_id").write_text(uuid + "\n")
        play.run("csp-user").failed("The user of the student could not be created", text, "into 2 s")
        assert "user_id.txt" not in play.files()


@case
def faults_of_csp_are_retried(world):
    play = world.student(CSP_API_KEY_HOURS="1", CSP_JOIN_TOKEN="1")
    limit = 429, {"Retry-After": "1"}, "{}"
    proxy = world.csp_proxy(
        play, limit, "lose", (200, {}, HTML), None, (503, {}, ""), None, (502, {}, HTML), (200, {}, HTML), None,
        "lose",  # the creation of the user, which is then found
        None, None, limit, None, "lose", None)
    result = play.run("csp-user").succeeded()
    gaps = proxy.gaps()
    assert 1 <= gaps[0] < 5 and "HTTP 429" in result.log and "curl: (52)" in result.log and "<html>" not in result.log, result
    assert set(user_files(play)) == ALL_FILES and len(users(world.shared.simulator, play)) == 1
    assert all(request[3]["Content-Type"] != "application/x-www-form-urlencoded" for request in proxy.seen)


@case
def lost_responses_leave_a_key_and_a_token_with_new_names(world):
    csp = world.shared.simulator
    play = world.student(CSP_API_KEY_HOURS="1", CSP_JOIN_TOKEN="1")
    proxy = world.csp_proxy(play, *[None] * 5, "lose", None, None, None, None, "lose")
    play.run("csp-user").succeeded()
    posted = [path.split("/")[-1] for path in proxy.paths()]
    assert posted.count("jointoken") == 3 and posted.count("current_api_keys") == 3, posted
    assert len(csp.listed(account(play), JOIN_TOKENS)) == 2
    key = f"Token {user_files(play)['api_key.txt']}"
    assert csp.call("GET", "/v2/groups", authorization=key)[0] == 200


@case
def join_token_is_created_at_the_path_of_infobloxs_clients_if_the_other_is_missing(world):
    play = world.student(CSP_JOIN_TOKEN="1")
    world.csp_proxy(play, answers={"/atlas-host-activation/": (404, {}, "{}")})
    play.run("csp-user").succeeded()
    assert user_files(play)["join_token.txt"]
    assert (play.home / ".join_token").read_text().startswith("/host-activation/v1/jointoken/")
    play.run("csp-user-cleanup").succeeded()
    (token,) = world.shared.simulator.listed(account(play), JOIN_TOKENS)
    assert token["status"] == "REVOKED"


@case
def csp_user_after_a_replacement_creates_a_user_in_the_new_account(world):
    csp = world.shared.simulator
    play = world.student(CSP_API_KEY_HOURS="1", CSP_JOIN_TOKEN="1")
    play.run("csp-user").succeeded()
    old = user_files(play)
    play.run("replace").succeeded()
    play.run("csp-user").succeeded()
    new = user_files(play)
    kept = {name for name in new if new[name] == old[name]}
    assert set(new) == ALL_FILES and kept == {"user_email.txt", "user_password.txt"}, kept
    assert csp.session(account(play), new["user_email.txt"], new["user_password.txt"])


@case
def csp_user_writes_its_files_beside_those_of_existing_tracks(world):
    play = world.student(LEGACY_FILES="1")
    elsewhere = play.directory / "elsewhere"
    elsewhere.mkdir()
    del play.environment["LEGACY_FILES"]
    play.run("csp-user", cwd=elsewhere).succeeded()
    assert all((play.directory / name).exists() for name in USER_FILES) and not user_files(play)
    play.run("csp-user-cleanup", cwd=elsewhere).succeeded()
    play.run("cleanup", cwd=elsewhere).succeeded()
    assert not any((play.directory / name).exists() for name in USER_FILES) and not play.home.exists()


@case
def settings_of_csp_user_are_validated(world):
    play = world.student()
    proxy = world.csp_proxy(play)
    for script, name, value, text in [
        ("csp-user", "INFOBLOX_EMAIL", "", "INFOBLOX_EMAIL is empty"),
        ("csp-user-cleanup", "INFOBLOX_PASSWORD", "", "INFOBLOX_PASSWORD is empty"),
        ("csp-user", "INFOBLOX_PASSWORD", "a\nb", "INFOBLOX_PASSWORD contains"), ("csp-user", "CSP_URL", "ftp://csp", "CSP_URL is"),
        ("csp-user-cleanup", "CSP_URL", "https://me@csp", "CSP_URL contains"), ("csp-user", "CSP_TIMEOUT_SEC", "soon", "CSP_TIMEOUT_SEC"),
        ("csp-user", "CSP_BACKOFF_MS", "0", "CSP_BACKOFF_MS"), ("csp-user-cleanup", "SANDBOX_DIR", "relative", "SANDBOX_DIR"),
    ]:
        kept = play.environment[name]
        play.environment[name] = value
        play.run(script).failed(text)
        play.environment[name] = kept
    for name, value in ("CSP_JOIN_TOKEN", "yes"), ("CSP_API_KEY_HOURS", "1d"), ("USER_DOMAIN", "a b"), ("CSP_USER_GROUPS", "a\tb"):
        play.environment[name] = value
        play.run("csp-user").failed(name)
        del play.environment[name]
    # A line break in a password that another program has left would start another option of curl.
    (play.home / "user_password.txt").write_text('a\noutput = "stolen"')
    play.run("csp-user").failed("user_password.txt contains a control character")
    world.play(**{name: play.environment[name] for name in play.environment if name.startswith(("CSP_", "INFOBLOX_"))}).run(
        "csp-user").failed("account_id does not exist; run setup on this host first")
    assert not proxy.seen, "a request was made"


@case
def errors_of_csp_that_a_retry_would_not_change_are_final(world):
    play = world.student()
    for change, answers, text, attempts in [
        ({"INFOBLOX_PASSWORD": "wrong-Secret-1"}, {}, "does not accept the user operator@example.com with its password (HTTP 401)", 1),
        ({"CSP_USER_GROUPS": "user,ib-none"}, {}, 'the account has no group "ib-none"; set CSP_USER_GROUPS', 3),
        ({}, {"/password": (400, {}, '{"error": [{"message": "too weak"}]}')}, "the password was answered with HTTP 400: too weak", 5),
        ({}, {"/v2/users": (403, {}, "")}, "the creation of the user was answered with HTTP 403", 4),
        ({}, {"_filter": (200, {}, '{"results": []}'), "/v2/users": (409, {}, "{}")}, "exists, but not in this account", 5),
        ({}, {"/sign_in": (301, {"Location": "/"}, HTML)}, "the sign-in was answered with HTTP 301", 1),
    ]:
        before = dict(play.environment)
        play.environment |= change
        proxy = world.csp_proxy(play, answers=answers)
        result = play.run("csp-user").failed("The user of the student could not be created", text)
        assert len(proxy.seen) == attempts, (text, proxy.paths())
        assert "wrong-Secret" not in result.out + result.log
        play.environment = before
    # The address may be the host alone, as in existing tracks.
    play.environment |= {"CSP_URL": "csp.invalid", "CSP_TIMEOUT_SEC": "1"}
    play.run("csp-user").failed("curl: (6)", "csp.invalid")


@case
def csp_user_cleanup_deletes_user_key_and_token_and_can_be_repeated(world):
    csp = world.shared.simulator
    play = world.student(CSP_API_KEY_HOURS="1", CSP_JOIN_TOKEN="1")
    play.run("csp-user").succeeded()
    key = f"Token {user_files(play)['api_key.txt']}"
    result = play.run("csp-user-cleanup").succeeded()
    assert "deleted the API key" in result.log and "deleted the join token" in result.log and "deleted the user" in result.log
    assert not users(csp, play) and not user_files(play) and not csp.listed(account(play), "/v2/api_keys")
    assert csp.call("GET", "/v2/groups", authorization=key)[0] == 401
    proxy = world.csp_proxy(play)
    assert "has created no user" in play.run("csp-user-cleanup").succeeded().log
    assert not proxy.seen
    play.run("cleanup").succeeded()
    assert not play.home.exists()


@case
def csp_user_cleanup_finds_the_user_of_a_run_that_was_killed(world):
    csp = world.shared.simulator
    play = world.student()
    proxy = world.csp_proxy(play, None, None, None, "hold")
    process = play.start("csp-user")
    until(lambda: len(proxy.responses) == 4, "the creation of the user")
    os.killpg(process.pid, signal.SIGKILL)
    play.finish(process)
    proxy.resume.set()
    assert len(users(csp, play)) == 1 and "user_id.txt" not in play.files()
    play.run("csp-user-cleanup").succeeded()
    assert not users(csp, play) and not user_files(play)


@case
def csp_user_cleanup_without_the_account_removes_the_files(world):
    csp = world.shared.simulator
    play = world.student()
    play.run("csp-user").succeeded()
    csp.call("DELETE", f"/v2/sandbox/accounts/{account(play)}")
    assert "the account does not exist any more" in play.run("csp-user-cleanup").succeeded().log
    assert not user_files(play)


@case
def csp_user_cleanup_that_fails_deletes_the_rest_and_can_be_repeated(world):
    csp = world.shared.simulator
    play = world.student(CSP_API_KEY_HOURS="1", CSP_JOIN_TOKEN="1")
    play.run("csp-user").succeeded()
    world.csp_proxy(play, answers={"/api_keys/": (403, {}, '{"error": [{"message": "not yours"}]}')})
    play.run("csp-user-cleanup").failed("the deletion of the API key was answered with HTTP 403: not yours")
    assert not users(csp, play) and "user_id.txt" in play.files()
    play.environment["CSP_URL"] = csp.root
    result = play.run("csp-user-cleanup").succeeded()
    assert "is already deleted" in result.log and not user_files(play), result
    play.run("csp-user").succeeded()
    play.environment |= {"CSP_TIMEOUT_SEC": "1", "CSP_URL": f"{world.proxy(*['lose'] * 9).root}/{Simulator.KEY}"}
    play.run("csp-user-cleanup").failed("could not be deleted", "curl: (52)")
