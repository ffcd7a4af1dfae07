"""Setup: values, settings and errors that a retry would not change."""

import json
import uuid

from harness import HTML, allocated, case
from servers import ADMIN


@case
def setup_writes_files_and_variables(world):
    proxy = world.proxy()
    play = world.play(proxy.url)
    play.run("setup").succeeded()
    (sandbox,) = world.broker.sandboxes_of(play.id).values()
    expected = {
        "sandbox_id": sandbox["sandbox_id"], "name": sandbox["name"], "external_id": sandbox["external_id"],
        "account_id": sandbox["external_id"].split("/")[-1], "sfdc_account_id": sandbox["sfdc_account_id"],
        "expires_at": str(sandbox["expires_at"]),
    }
    assert play.files() == {name: value + "\n" for name, value in expected.items()}, play.files()
    assert {path.stat().st_mode & 0o777 for path in play.home.iterdir()} == {0o600}
    assert play.home.stat().st_mode & 0o777 == 0o700
    assert play.variables() == {
        "SANDBOX_ID": expected["sandbox_id"], "SANDBOX_NAME": expected["name"], "SANDBOX_EXTERNAL_ID": expected["external_id"],
        "SANDBOX_ACCOUNT_ID": expected["account_id"], "SANDBOX_SFDC_ACCOUNT_ID": expected["sfdc_account_id"],
        "SANDBOX_EXPIRES_AT": expected["expires_at"]}, play.variables()
    assert sandbox["track_name"] == "test-lab" and sandbox["name"].startswith("lab-"), sandbox
    ((_, method, path, headers),) = proxy.seen
    assert (method, path, headers["X-Instruqt-Sandbox-ID"]) == ("POST", "/v1/allocate", play.id)
    assert headers["Content-Length"] == "0" and "Idempotency-Key" not in headers, headers


@case
def setup_run_twice_returns_the_same_sandbox(world):
    play = world.play()
    play.run("setup").succeeded()
    first = play.files()
    result = play.run("setup").succeeded()
    assert play.files() == first and "already holds sandbox" in result.log, result
    assert len(world.broker.sandboxes_of(play.id)) == 1


@case
def two_hosts_of_a_play_get_the_same_sandbox(world):
    one, other = world.play(), world.play()
    other.environment["INSTRUQT_PARTICIPANT_ID"] = one.id
    one.run("setup").succeeded()
    other.run("setup").succeeded()
    assert one.files() == other.files()
    one.run("cleanup").succeeded()
    other.run("cleanup").succeeded()


@case
def names_and_ids_with_escapes_and_unicode_are_preserved(world):
    prefix = f"odd-{uuid.uuid4().hex[:6]}-"
    name = prefix + 'q"b\\s/\\n é \u6f22 \U0001f600 "sandbox_id": "no" \\'
    account = world.csp.add(name, csp_id=f'{prefix}"\\/?#%5:{{}}[1-2]')
    world.broker.sync()
    play = world.play(SANDBOX_NAME_PREFIX=prefix)
    play.run("setup").succeeded()
    assert play.files()["name"] == name + "\n", play.files()
    assert play.sandbox() == account["csp_id"], play.files()
    bare = world.play()  # Without the files, so cleanup uses the broker's list.
    bare.environment["INSTRUQT_PARTICIPANT_ID"] = play.id
    bare.run("cleanup").succeeded()
    assert world.broker.sandboxes_of(play.id)[account["csp_id"]]["status"] == "pending_deletion"
    play.run("cleanup").succeeded()


@case
def a_response_in_another_json_formatting_is_understood(world):
    body = json.dumps({"external_id": "identity/accounts/a-1", "name": 'x "name": "y" \\', "sandbox_id": "77",
                       "sfdc_account_id": None, "expires_at": 1795527085}, indent=2).replace("/", "\\/")
    play = world.play(world.proxy((200, {}, body)).url)
    play.run("setup").succeeded()
    assert play.files() == {
        "external_id": "identity/accounts/a-1\n", "account_id": "a-1\n", "name": 'x "name": "y" \\\n', "sandbox_id": "77\n",
        "sfdc_account_id": "\n", "expires_at": "1795527085\n"}, play.files()
    assert "SANDBOX_SFDC_ACCOUNT_ID" not in play.variables()


@case
def values_are_sent_as_they_are(world):
    allocated = json.dumps({"sandbox_id": "77", "external_id": "identity/accounts/a-1", "name": "x"})
    for value in ["Cloud Security 101", "S\u00e9curit\u00e9 \u6f22", 'say "no" \\n $HOME `id` %s', "@file", "x" * 300, "null", "${LAB}"]:
        proxy = world.proxy((200, {}, allocated))
        # As a caller, a variable that was not expanded is a placeholder.
        caller = value.replace("$", "$ ").replace("null", "nil.")
        play = world.play(proxy.url, LAB_ID=value, SANDBOX_NAME_PREFIX=value, INSTRUQT_PARTICIPANT_ID=caller)
        play.run("setup").succeeded()
        ((_, _, _, headers),) = proxy.seen
        assert headers["X-Instruqt-Sandbox-ID"].encode("latin-1").decode() == caller
        for name in "X-Instruqt-Track-ID", "X-Sandbox-Name-Prefix":
            assert headers[name].encode("latin-1").decode() == value, (name, headers[name])


@case
def setup_requests_the_duration_of_the_track(world):
    for minutes, lasts in [("90", 90), ("999", 240)]:
        proxy = world.proxy()
        play = world.play(proxy.url, DURATION_MINUTES=minutes)
        result = play.run("setup").succeeded()
        assert [json.loads(body) for body in proxy.bodies] == [{"duration_minutes": int(minutes)}], proxy.bodies
        (sandbox,) = world.broker.sandboxes_of(play.id).values()
        assert sandbox["expires_at"] - sandbox["allocated_at"] == lasts * 60, sandbox
        warning = "the lease lasts 240 minutes instead of 999"
        assert (warning in result.log) == (lasts == 240), result
    play = world.play(DURATION_MINUTES="43201")
    play.run("setup").failed("HTTP 400 INVALID_BODY", "a whole number from 1 to 43200")


@case
def hot_start_works_without_user_variables(world):
    # Without a prefix: in the other pool it could take the one sandbox that another case has added.
    broker = world.shared.simulated_broker
    play = world.play(broker.url, INSTRUQT_USER_ID="", INSTRUQT_USER_EMAIL="", INSTRUQT_USER_NAME="")
    for name in "INSTRUQT_TRACK_SLUG", "SANDBOX_NAME_PREFIX":
        del play.environment[name]
    play.run("setup").succeeded()
    (sandbox,) = broker.sandboxes_of(play.id).values()
    assert sandbox["track_name"] == "t0", sandbox
    play.environment |= {"INSTRUQT_USER_ID": "u1", "INSTRUQT_USER_EMAIL": "student@example.com"}
    play.run("setup").succeeded()
    assert list(broker.sandboxes_of(play.id)) == [play.sandbox()], "the run of the student allocated another sandbox"


@case
def token_of_another_lab_is_reported_with_the_settings_to_correct(world):
    labs = {"role": "track", "labs": ["lab of the token"]}
    token = world.broker.admin("POST", "/admin/tokens", {"name": f"bound {uuid.uuid4()}", **labs})["secret"]
    proxy = world.proxy()
    play = world.play(proxy.url)
    play.environment |= {"BROKER_TOKEN": token, "LAB_ID": "another lab"}
    play.run("setup").failed("HTTP 403 LAB_NOT_ALLOWED", "Do LAB_ID and SANDBOX_NAME_PREFIX belong to BROKER_TOKEN?")
    assert len(proxy.seen) == 1, "the request was repeated"
    play.environment["LAB_ID"] = labs["labs"][0]
    play.run("setup").succeeded()
    play.run("cleanup").succeeded()


@case
def settings_are_validated_before_the_first_request(world):
    proxy = world.proxy()
    for name, values in {
        "BROKER_URL": ["", "broker.example.com", "https://", "ftp://broker/v1", "https://me:pw@broker/v1", "https://b/v1?x", "https://b/ v1"],
        "BROKER_TOKEN": ["", "two words", "line\nX-Instruqt-Sandbox-ID: other"],
        "INSTRUQT_PARTICIPANT_ID": ["", "a\r\nX-Evil: 1", "a\tb"],
        "SANDBOX_NAME_PREFIX": ["a\nb"],
        "DURATION_MINUTES": ["0", "1h", "-5", "1.5", "90}"],
        "LAB_ID": ["my\x7flab"],
        "BROKER_TIMEOUT_SEC": ["0", "ten", "-1", "1000000", "010"],
        "BROKER_BACKOFF_MS": ["0.5"],
        "SANDBOX_DIR": ["relative", "/dev/null/x"],
    }.items():
        for value in values:
            play = world.play(proxy.url)
            play.environment[name] = value
            result = play.run("setup")
            texts = [value] if name == "SANDBOX_DIR" else [name]
            result.failed(*texts)
            if name == "BROKER_TOKEN" and value:
                assert value not in result.out + result.log, result
    assert not proxy.seen, "a request was made"
    play = world.play(proxy.url)
    del play.environment["INSTRUQT_PARTICIPANT_ID"]
    play.run("cleanup").failed("INSTRUQT_PARTICIPANT_ID, _SANDBOX_ID and INSTRUQT_SESSION_ID are empty")


@case
def permanent_errors_are_reported_and_not_retried(world):
    for change, texts in [
        ({"BROKER_TOKEN": "wrong-token-1234"}, ["HTTP 401 UNAUTHORIZED: The token is not valid", "Is BROKER_TOKEN a track token"]),
        ({"BROKER_TOKEN": ADMIN}, ["HTTP 403 FORBIDDEN", "Is BROKER_TOKEN a track token"]),
        ({"BROKER_URL": "/v2"}, ["HTTP 404 NOT_FOUND", "Is BROKER_URL right?"]),
    ]:
        for script in "setup", "cleanup":
            proxy = world.proxy()
            play = world.play(proxy.url)
            play.environment |= change
            if "BROKER_URL" in change:
                play.environment["BROKER_URL"] = proxy.url.replace("/v1", change["BROKER_URL"])
            result = play.run(script).failed(*texts)
            assert len(proxy.seen) == 1, f"{change}: {len(proxy.seen)} requests"
            assert "wrong-token" not in result.out + result.log and ADMIN not in result.out + result.log, result
    for status in 400, 301:
        proxy = world.proxy((status, {"Location": "/elsewhere"}, HTML))
        world.play(proxy.url).run("setup").failed(f"HTTP {status}")
        assert len(proxy.seen) == 1, status
