"""Extend and replace."""

import json
import os
import re
import signal
import time

from harness import EXAMPLES, FILES, allocated, case, granted, problem
from servers import until


@case
def extend_sends_the_minutes_and_writes_the_new_end(world):
    end = int(time.time()) + 5400
    proxy = world.proxy(problem(503, "OVERLOADED", Retry_After="1"), "lose", granted(end))
    play = world.play()
    play.run("setup").succeeded()
    before = play.files()
    play.environment |= {"BROKER_URL": proxy.url, "EXTEND_MINUTES": "90"}
    result = play.run("extend").succeeded()
    assert play.files() == before | {"expires_at": f"{end}\n"}, play.files()
    assert play.variables()["SANDBOX_EXPIRES_AT"] == str(end)
    assert re.search(f"is held until {end}, (89|90) minutes from now", result.log), result
    assert {request[2] for request in proxy.seen} == {f"/v1/sandboxes/{play.sandbox()}/extend"}
    assert [json.loads(body) for body in proxy.bodies] == [{"minutes": 90}] * 3, proxy.bodies
    del play.environment["EXTEND_MINUTES"]
    proxy = world.proxy(granted(end))
    play.environment["BROKER_URL"] = proxy.url
    play.run("extend").succeeded()
    assert json.loads(proxy.bodies[0]) == {"minutes": 60}


@case
def extend_at_the_limit_succeeds_with_a_warning(world):
    proxy = world.proxy(problem(409, "EXTENSION_LIMIT_REACHED"))
    play = world.play()
    play.run("setup").succeeded()
    before = play.files()
    play.environment["BROKER_URL"] = proxy.url
    result = play.run("extend").succeeded()
    assert "warning: the lease has reached its longest duration: HTTP 409 EXTENSION_LIMIT_REACHED" in result.log, result
    assert play.files() == before and len(proxy.seen) == 1


@case
def extend_and_replace_report_a_lease_that_is_over(world):
    for script, failure in ("extend", "could not be extended"), ("replace", "could not be replaced"):
        play = world.play()
        play.run("setup").succeeded()
        before = play.files()
        for status, code in (403, "ALLOCATION_EXPIRED"), (403, "NOT_SANDBOX_OWNER"), (404, "SANDBOX_NOT_FOUND"):
            proxy = world.proxy(problem(status, code))
            play.environment["BROKER_URL"] = proxy.url
            play.run(script).failed(failure, f"HTTP {status} {code}", "Run setup again")
            assert play.files() == before and len(proxy.seen) == 1


@case
def extend_and_replace_need_a_setup_and_valid_settings(world):
    proxy = world.proxy()
    for script in "extend", "replace":
        world.play(proxy.url).run(script).failed("sandbox_id does not exist; run setup on this host first")
    for script, name, value in ("extend", "EXTEND_MINUTES", "an hour"), ("replace", "REPLACE_REASON", "a\nb"):
        world.play(proxy.url, **{name: value}).run(script).failed(name)
    assert not proxy.seen, "a request was made"


@case
def extend_moves_the_end_of_the_lease_up_to_the_maximum(world):
    play = world.play(DURATION_MINUTES="30", EXTEND_MINUTES="90")
    play.run("setup").succeeded()
    start = int(play.files()["expires_at"]) - 30 * 60
    limit = "the lab permits no longer lease"
    for _ in range(2):
        assert limit not in play.run("extend").succeeded().log
        assert 0 <= int(play.files()["expires_at"]) - (start + 90 * 60) < 60, "a repeated run adds to the first one"
    play.environment["EXTEND_MINUTES"] = "999"
    assert limit in play.run("extend").succeeded().log
    assert int(play.files()["expires_at"]) == start + 240 * 60
    assert "has reached its longest duration" in play.run("extend").succeeded().log
    (sandbox,) = world.broker.sandboxes_of(play.id).values()
    assert play.files()["expires_at"] == f"{sandbox['expires_at']}\n", sandbox


@case
def the_line_in_the_readme_extends_the_lease(world):
    (line,) = re.findall(r"^printf 'Authorization.*$", (EXAMPLES / "README.md").read_text(), re.MULTILINE)
    assert "/var/lib/sandbox-broker/" in line
    play = world.play(DURATION_MINUTES="30")
    play.run("setup").succeeded()
    script = play.directory / "line"
    script.write_text(line.replace("/var/lib/sandbox-broker", "$SANDBOX_DIR"))
    result = play.run(script, "-x").succeeded()
    assert json.loads(result.out)["expires_at"] > int(play.files()["expires_at"]), result


@case
def replace_that_fails_reports_the_reason_and_keeps_the_files(world):
    play = world.play()
    play.run("setup").succeeded()
    before = play.files()
    for code, timeout, attempts in ("REPLACEMENT_LIMIT_REACHED", "20", 1), ("NO_SANDBOXES_AVAILABLE", "2", 2):
        proxy = world.proxy(*[problem(409, code)] * 20)
        play.environment |= {"BROKER_URL": proxy.url, "BROKER_TIMEOUT_SEC": timeout}
        play.run("replace").failed("The sandbox could not be replaced", f"HTTP 409 {code}")
        assert play.files() == before and len(proxy.seen) >= attempts
        assert code != "REPLACEMENT_LIMIT_REACHED" or len(proxy.seen) == 1


@case
def replace_writes_the_files_of_the_new_sandbox(world):
    play = world.play(REPLACE_REASON='DNS says "no" \\ \u6f22')
    play.run("setup").succeeded()
    old = play.sandbox()
    proxy = world.proxy("lose", problem(503, "STORE_UNAVAILABLE"), "lose")
    play.environment["BROKER_URL"] = proxy.url
    result = play.run("replace").succeeded()
    new = play.sandbox()
    assert f"({new}) replaces {old}" in result.log and len(proxy.seen) == 4, result
    sandboxes = world.broker.sandboxes_of(play.id)
    assert set(sandboxes) == {old, new} and old != new, sandboxes
    assert (sandboxes[old]["status"], sandboxes[new]["status"]) == ("pending_deletion", "allocated"), sandboxes
    assert sandboxes[old]["replacement_reason"] == play.environment["REPLACE_REASON"], sandboxes[old]
    assert play.files() == {
        "sandbox_id": f"{new}\n", "name": sandboxes[new]["name"] + "\n", "external_id": sandboxes[new]["external_id"] + "\n",
        "account_id": sandboxes[new]["external_id"].split("/")[-1] + "\n", "expires_at": f"{sandboxes[new]['expires_at']}\n",
        "sfdc_account_id": sandboxes[new]["sfdc_account_id"] + "\n"}, play.files()
    assert play.variables()["SANDBOX_ID"] == new
    play.run("cleanup").succeeded()
    assert world.broker.sandboxes_of(play.id)[new]["status"] == "pending_deletion"


@case
def replace_killed_after_the_replacement_returns_the_same_sandbox(world):
    play = world.play()
    play.run("setup").succeeded()
    before = play.files()
    proxy = world.proxy("hold")
    play.environment["BROKER_URL"] = proxy.url
    process = play.start("replace")
    assert proxy.forwarded.wait(20)
    os.killpg(process.pid, signal.SIGKILL)
    play.finish(process)
    assert {name: play.files()[name] for name in before} == before
    proxy.resume.set()
    play.run("replace").succeeded()
    assert play.sandbox() != before["sandbox_id"].strip() and len(world.broker.sandboxes_of(play.id)) == 2


@case
def setup_on_another_host_writes_the_files_of_the_new_sandbox(world):
    one, other = world.play(), world.play(helpers="watching-helpers")
    other.environment["INSTRUQT_PARTICIPANT_ID"] = one.id
    one.run("setup").succeeded()
    other.run("setup").succeeded()
    one.run("replace").succeeded()
    other.run("setup").succeeded()
    assert one.files() == other.files()


@case
def replacements_end_at_the_limit_of_the_lab(world):
    play = world.play()
    play.run("setup").succeeded()
    for _ in range(3):
        play.run("replace").succeeded()
    before = play.files()
    play.run("replace").failed("HTTP 409 REPLACEMENT_LIMIT_REACHED")
    assert play.files() == before and len(world.broker.sandboxes_of(play.id)) == 4


@case
def files_are_of_one_sandbox_at_any_time(world):
    for script in "replace", "setup":
        proxy = world.proxy(allocated("1", sfdc_account_id="001"), allocated("2"))
        play = world.play(proxy.url, helpers="watching-helpers")
        play.run("setup").succeeded()
        play.run(script).succeeded()
        steps = (play.directory / "snapshots").read_text().split("SANDBOX_")[1:]
        assert len(steps) == 12, steps
        for step in steps:
            variable, *values = step.splitlines()
            ids = {re.sub(r"^.*[/-]", "", value.strip()) for value in values}
            assert len(ids) <= 1, f"{script}: files of two sandboxes at {variable}: {values}"
        # The replaced sandbox had a Salesforce account, the new one has none.
        assert [step for step in steps if step.startswith("SFDC")][1].startswith("SFDC_ACCOUNT_ID=\n"), steps
        assert set(play.files()) == FILES and play.sandbox() == "2" and play.files()["name"] == "lab-2\n", play.files()


@case
def run_after_a_killed_replace_completes_it(world):
    # Killed when it had removed some of the old files, and when it had written some of the new ones.
    for left in {"name": "lab-1", "account_id": "a-1"}, {"name": "lab-2"}, {}:
        for script, path in ("replace", "/v1/sandboxes/1/replace"), ("setup", "/v1/allocate"):
            proxy = world.proxy(allocated("2"))
            play = world.play(proxy.url)
            play.home.mkdir(parents=True)
            for name, value in {".replaced": "1", **left}.items():
                (play.home / name).write_text(value + "\n")
            play.run(script).succeeded()
            assert [request[2] for request in proxy.seen] == [path]
            assert set(play.files()) == FILES and play.files()["account_id"] == "a-2\n", play.files()
