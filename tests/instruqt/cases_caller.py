"""The caller id of a play: its variables, their order, and the note of the setup."""

import json

from harness import case, granted

NAMES = ["INSTRUQT_PARTICIPANT_ID", "_SANDBOX_ID", "INSTRUQT_SESSION_ID"]


def with_ids(play, ids):
    """Sets the variables of the caller; a name that is absent is unset."""
    for name in NAMES:
        play.environment.pop(name, None)
    play.environment |= ids
    return play


def callers(proxy):
    return [request[3]["X-Instruqt-Sandbox-ID"] for request in proxy.seen]


@case
def caller_is_the_first_variable_that_has_a_value(world):
    for ids, caller, scripts in [
        ({"INSTRUQT_PARTICIPANT_ID": "p", "_SANDBOX_ID": "b", "INSTRUQT_SESSION_ID": "s"}, "p", ["setup"]),
        ({"INSTRUQT_PARTICIPANT_ID": "", "_SANDBOX_ID": "b", "INSTRUQT_SESSION_ID": "s"}, "b", ["setup", "extend", "replace", "cleanup"]),
        ({"_SANDBOX_ID": "", "INSTRUQT_SESSION_ID": "s"}, "s", ["setup", "cleanup"]),
    ]:
        for script in scripts:
            play = world.play()
            proxy = world.proxy((400, {}, "{}"))
            with_ids(play, {**ids, "BROKER_URL": proxy.url})
            play.home.mkdir(parents=True)
            (play.home / "sandbox_id").write_text("7\n")
            result = play.run(script)
            assert callers(proxy) == [caller], (script, ids, result)
            name = next(name for name in NAMES if ids.get(name) == caller)
            assert (f"the one of {name}" in result.log) == (caller != "p"), result


@case
def scripts_keep_the_caller_of_the_setup(world):
    # A hot start ran the setup before Instruqt knew the participant.
    play = with_ids(world.play(), {"_SANDBOX_ID": "box-" + world.play().id})
    caller = play.environment["_SANDBOX_ID"]
    play.run("setup").succeeded()
    for ids in {"INSTRUQT_PARTICIPANT_ID": "p", "_SANDBOX_ID": caller, "INSTRUQT_SESSION_ID": "s"}, {}:
        for script in "setup", "extend", "replace":
            if script == "setup" and not ids:
                continue
            proxy = world.proxy()
            with_ids(play, {**ids, "BROKER_URL": proxy.url})
            play.run(script).succeeded()
            assert callers(proxy) == [caller], (script, ids)
    held = world.broker.sandboxes_of(caller)
    assert [one["status"] for one in held.values()].count("allocated") == 1, held
    play.run("cleanup").succeeded()
    assert {one["status"] for one in world.broker.sandboxes_of(caller).values()} == {"pending_deletion"}
    assert not play.home.exists()


@case
def note_of_another_play_is_not_used(world):
    # An image that was made of a host on which setup had run.
    proxy = world.proxy()
    play = with_ids(world.play(), {"INSTRUQT_PARTICIPANT_ID": world.play().id, "BROKER_URL": proxy.url})
    play.home.mkdir(parents=True)
    (play.home / ".caller").write_text("another play\n")
    play.run("setup").succeeded()
    assert callers(proxy) == [play.environment["INSTRUQT_PARTICIPANT_ID"]]
    (play.home / ".caller").write_text("another play\n")
    with_ids(play, {}).run("setup").failed("_SANDBOX_ID and INSTRUQT_SESSION_ID are empty")
    assert len(proxy.seen) == 1


@case
def placeholders_are_no_callers(world):
    placeholders = ["null", "NONE", "undefined", "Nil", "(null)", "<nil>", "${_SANDBOX_ID}", "$INSTRUQT_SESSION_ID", "$(hostname)",
                    "play-$HOSTNAME", "{{ id }}", '[[ Instruqt-Var key="ID" hostname="shell" ]]']
    for one, other in zip(placeholders[::2], placeholders[1::2]):
        proxy = world.proxy(granted(1795000000))
        play = with_ids(world.play(), {"INSTRUQT_PARTICIPANT_ID": one, "_SANDBOX_ID": other, "INSTRUQT_SESSION_ID": "s",
                                       "BROKER_URL": proxy.url})
        play.home.mkdir(parents=True)
        (play.home / "sandbox_id").write_text("77\n")
        result = play.run("extend").succeeded()
        assert callers(proxy) == ["s"] and result.log.count(" is the placeholder ") == 2, result
    proxy = world.proxy()
    play = with_ids(world.play(), {"INSTRUQT_PARTICIPANT_ID": "${INSTRUQT_PARTICIPANT_ID}", "BROKER_URL": proxy.url})
    for script in "setup", "cleanup":
        play.run(script).failed("INSTRUQT_PARTICIPANT_ID, _SANDBOX_ID and INSTRUQT_SESSION_ID are empty")
    assert not proxy.seen, "a request was made"
    # The broker has the same list.
    for placeholder in placeholders:
        headers = {"Authorization": f"Bearer {play.environment['BROKER_TOKEN']}", "X-Instruqt-Sandbox-ID": placeholder}
        assert world.broker.status("POST", "/allocate", headers) == 400, placeholder


@case
def ids_that_resemble_placeholders_are_callers(world):
    for caller in "nullify", "play$5 a{b [1] $":
        proxy = world.proxy((200, {}, json.dumps({"sandbox_id": "7", "name": "x", "external_id": "identity/accounts/a"})))
        with_ids(world.play(), {"INSTRUQT_PARTICIPANT_ID": caller, "BROKER_URL": proxy.url}).run("setup").succeeded()
        assert callers(proxy) == [caller]
