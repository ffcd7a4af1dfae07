"""Cleanup."""

import contextlib
import json
import os
import signal
import sqlite3

from harness import EXAMPLES, HTML, case, problem


@case
def cleanup_releases_the_sandbox_and_can_be_repeated(world):
    play = world.play()
    play.run("setup").succeeded()
    sandbox = play.sandbox()
    assert "released sandbox" in play.run("cleanup").succeeded().log
    assert world.broker.sandboxes_of(play.id)[sandbox]["status"] == "pending_deletion"
    assert not play.home.exists()
    assert "this play holds no sandbox" in play.run("cleanup").succeeded().log
    play.run("setup").succeeded()
    assert play.sandbox() != sandbox, "a used sandbox was allocated again"
    play.run("cleanup").succeeded()


@case
def cleanup_without_a_setup_does_nothing(world):
    play = world.play()
    assert "this play holds no sandbox" in play.run("cleanup").succeeded().log
    assert not play.home.exists()


@case
def cleanup_releases_the_sandbox_of_a_killed_setup(world):
    proxy = world.proxy("hold")
    play = world.play(proxy.url)
    process = play.start("setup")
    assert proxy.forwarded.wait(20)
    os.killpg(process.pid, signal.SIGKILL)
    play.finish(process)
    proxy.resume.set()
    play.run("cleanup").succeeded()
    (sandbox,) = world.broker.sandboxes_of(play.id).values()
    assert sandbox["status"] == "pending_deletion" and not play.home.exists()


@case
def cleanup_after_the_allocation_is_over_does_nothing(world):
    broker = world.own_broker()
    play = world.play(broker.url)
    play.run("setup").succeeded()
    broker.stop(signal.SIGTERM)
    # The shortest allocation lasts an hour, so this one is backdated by a day.
    with contextlib.closing(sqlite3.connect(broker.directory / "data" / "pool.sqlite")) as database, database:
        key = f"S:SBX#{play.sandbox()}"
        ((text,),) = database.execute('SELECT item_json FROM "SandboxPool" WHERE pk = ?', (key,))
        item = json.loads(text)
        for name in "allocated_at", "expires_at":
            item[name]["N"] = str(int(item[name]["N"]) - 86400)
        database.execute('UPDATE "SandboxPool" SET item_json = ? WHERE pk = ?', (json.dumps(item), key))
    broker.start()
    proxy = world.proxy(upstream=broker)
    play.environment["BROKER_URL"] = proxy.url
    result = play.run("cleanup").succeeded()
    assert "is over" in result.log and not play.home.exists(), result
    assert [request[1] for request in proxy.seen] == ["POST", "GET"], "no retry"


@case
def cleanup_ignores_deleted_sandboxes_and_those_of_other_plays(world):
    owner, other = world.play(), world.play()
    owner.run("setup").succeeded()
    for sandbox, text in [(owner.sandbox(), "is not held by this play"), ("4711", "is already deleted")]:
        other.home.mkdir(parents=True)
        (other.home / "sandbox_id").write_text(sandbox + "\n")
        assert text in other.run("cleanup").succeeded().log
        assert not other.home.exists()
    assert world.broker.sandboxes_of(owner.id)[owner.sandbox()]["status"] == "allocated"


@case
def cleanup_retries_while_the_broker_fails_and_gives_up_after_the_timeout(world):
    play = world.play()
    play.run("setup").succeeded()
    sandbox = play.sandbox()
    play.environment |= {"BROKER_URL": world.proxy(*["hang"] * 9).url, "BROKER_TIMEOUT_SEC": "2", "BROKER_REQUEST_SEC": "1"}
    play.run("cleanup").failed("The sandbox could not be released", "curl: (28)")
    assert play.sandbox() == sandbox, "the next run needs the file"
    proxy = world.proxy((502, {}, HTML), problem(429, "RATE_LIMITED", Retry_After="1"), "lose", problem(503, "STORE_UNAVAILABLE"))
    play.environment |= {"BROKER_URL": proxy.url, "BROKER_TIMEOUT_SEC": "20", "BROKER_REQUEST_SEC": "35"}
    play.run("cleanup").succeeded()
    assert world.broker.sandboxes_of(play.id)[sandbox]["status"] == "pending_deletion"


@case
def cleanup_with_the_files_of_a_replaced_sandbox_releases_the_current_one(world):
    one, other = world.play(), world.play()
    other.environment["INSTRUQT_PARTICIPANT_ID"] = one.id
    one.run("setup").succeeded()
    other.run("setup").succeeded()
    for _ in range(2):
        one.run("replace").succeeded()
    assert one.sandbox() != other.sandbox()
    result = other.run("cleanup").succeeded()
    assert f"released sandbox {one.sandbox()}" in result.log, result
    assert {sandbox["status"] for sandbox in world.broker.sandboxes_of(one.id).values()} == {"pending_deletion"}
    one.run("cleanup").succeeded()


@case
def cleanup_releases_the_successors_of_a_replaced_sandbox(world):
    def released(sandbox, replaced_by):
        return 200, {}, json.dumps({"sandbox_id": sandbox, "status": "pending_deletion", "replaced_by": replaced_by})

    none = 200, {}, json.dumps({"sandboxes": [], "count": 0})
    for file in "sandbox_id", ".replaced":
        for chain in ["1"], ["1", "2", "3"], ["1", "2", "1"]:
            # The last one has no successor; in the third chain the answers form a circle.
            following = [*chain[1:], None] if chain[0] != chain[-1] or len(chain) == 1 else chain[1:]
            proxy = world.proxy(*map(released, chain, following), none)
            play = world.play(proxy.url)
            play.home.mkdir(parents=True)
            (play.home / file).write_text("1\n")
            play.run("cleanup").succeeded()
            paths = [f"/v1/sandboxes/{one}/mark-for-deletion" for one in dict.fromkeys(chain)]
            seen = [request[2] for request in proxy.seen]
            assert seen[:len(paths)] == paths and not play.home.exists(), (chain, seen)


ALERT = "SANDBOX_RELEASE_FAILED"


def alerts(result):
    return [line for line in result.log.splitlines() if ALERT in line]


@case
def failed_cleanup_ends_with_a_line_for_an_alert(world):
    play = world.play()
    play.run("setup").succeeded()
    for faults, variables in [
        (["lose"] * 9, {"BROKER_TIMEOUT_SEC": "1"}), ([(200, {}, HTML)] * 9, {"BROKER_TIMEOUT_SEC": "1"}),
        ([(301, {"Location": "/"}, HTML)], {}), ([problem(400, "INVALID_HEADER")], {}), ([], {"BROKER_TOKEN": "wrong"}),
        ([], {"BROKER_TOKEN": ""}), ([], {"BROKER_URL": ""}), ([], {"INSTRUQT_PARTICIPANT_ID": "a\nb"}),
        ([], {"SANDBOX_DIR": "/dev/null/x"}),
    ]:
        # Alone, and one of them above commands of an author, with and without -e.
        for prelude in ("", "set -e", ":") if variables == {"BROKER_TOKEN": ""} else ("",):
            before = dict(play.environment)
            play.environment |= {"BROKER_URL": world.proxy(*faults).url, **variables}
            path = "cleanup"
            if prelude:
                path = play.directory / "script"
                path.write_text(f"{prelude}\n{(EXAMPLES / 'cleanup').read_text()}\necho done\n")
            result = play.run(path)
            assert result.code == 1 and "done" not in result.out, (variables, result)
            assert alerts(result) == [ALERT] == result.log.splitlines()[-1:], (variables, result)
            play.environment = before
    assert not alerts(play.run("cleanup").succeeded())
    assert not alerts(play.run("cleanup").succeeded())


@case
def interrupted_cleanup_ends_with_a_line_for_an_alert(world):
    play = world.play()
    play.run("setup").succeeded()
    sandbox = play.sandbox()
    for number in signal.SIGTERM, signal.SIGINT, signal.SIGHUP:
        proxy = world.proxy("hold")
        play.environment["BROKER_URL"] = proxy.url
        process = play.start("cleanup")
        assert proxy.forwarded.wait(20)
        os.killpg(process.pid, number)
        proxy.resume.set()
        result = play.finish(process)
        # Some shells end by the signal itself once their trap has run.
        assert result.code != 0 and alerts(result) == [ALERT], (number, result)
        assert play.sandbox() == sandbox, "the next run needs the file"
    play.environment["BROKER_URL"] = world.broker.url
    play.run("cleanup").succeeded()
    assert world.broker.sandboxes_of(play.id)[sandbox]["status"] == "pending_deletion"


@case
def other_scripts_print_no_line_for_an_alert(world):
    play = world.play(BROKER_TOKEN="wrong", INFOBLOX_PASSWORD="")
    for script in "setup", "extend", "replace", "csp-user", "csp-user-cleanup":
        assert not alerts(play.run(script).failed(""))
