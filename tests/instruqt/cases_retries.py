"""Temporary faults: retries, backoff and the time-out."""

import os
import signal
import socket
import time
import uuid

from harness import FILES, HTML, case, problem
from servers import until


@case
def setup_waits_for_a_temporarily_empty_pool(world):
    prefix = f"late-{uuid.uuid4().hex[:6]}-"
    proxy = world.proxy(retry_after="1")
    play = world.play(proxy.url, SANDBOX_NAME_PREFIX=prefix)
    process = play.start("setup")
    until(lambda: len(proxy.seen) >= 2, "a second attempt")
    account = world.csp.add(prefix + "1")
    world.broker.sync()
    result = play.finish(process).succeeded()
    assert play.sandbox() == str(account["csp_id"]) and "NO_SANDBOXES_AVAILABLE" in result.log, result
    assert {request[3]["X-Instruqt-Sandbox-ID"] for request in proxy.seen} == {play.id}


@case
def setup_fails_with_a_message_if_the_pool_stays_empty(world):
    proxy = world.proxy(retry_after="1")
    play = world.play(proxy.url, SANDBOX_NAME_PREFIX="nothing-", BROKER_TIMEOUT_SEC="6")
    began = time.monotonic()
    play.run("setup").failed("No sandbox was obtained", "HTTP 409 NO_SANDBOXES_AVAILABLE", "request ", "into 6 s")
    assert time.monotonic() - began < 12 and len(proxy.seen) >= 2, proxy.gaps()
    assert not play.files()


@case
def a_pause_that_does_not_fit_into_the_timeout_fails_immediately(world):
    for faults in [], [problem(503, "OVERLOADED", Retry_After="0999")]:
        proxy = world.proxy(*faults)
        play = world.play(proxy.url, SANDBOX_NAME_PREFIX="nothing-", BROKER_TIMEOUT_SEC="20")
        began = time.monotonic()
        play.run("setup").failed("gave up after attempt 1", "does not fit into 20 s")
        assert len(proxy.seen) == 1 and time.monotonic() - began < 10, "the broker's own Retry-After is 30 s"


@case
def retry_after_is_respected(world):
    proxy = world.proxy(problem(429, "RATE_LIMITED", Retry_After="1"), problem(503, "OVERLOADED", retry_after="02"),
                        problem(409, "LAB_QUOTA_REACHED", Retry_After="1"))
    play = world.play(proxy.url)
    result = play.run("setup").succeeded()
    first, second, third = proxy.gaps()
    assert 1 <= first < 5 and 2 <= second < 6 and 1 <= third < 5, proxy.gaps()
    assert "HTTP 429 RATE_LIMITED: Injected. (request r-1)" in result.log, result


@case
def setup_logs_the_reason_of_a_pause_and_succeeds_after_it(world):
    reason = "CSP is being repaired until noon"
    # The broker answers with a Retry-After of 30 s, which the proxy shortens.
    broker = world.own_broker()
    proxy = world.proxy(upstream=broker, retry_after="1")
    play = world.play(proxy.url)
    with broker.paused("allocations", reason):
        process = play.start("setup")
        until(lambda: len(proxy.seen) >= 2, "a second attempt")
    result = play.finish(process).succeeded()
    assert f"HTTP 503 ALLOCATIONS_PAUSED: Allocations are paused: {reason} (request " in result.log, result
    assert play.files()


@case
def an_invalid_retry_after_is_ignored(world):
    invalid = ["Wed, 21 Oct 2099 07:28:00 GMT", "soon", "-5", "1.5", "99999999999999999999", "0", "$(touch x)"]
    proxy = world.proxy(*(problem(503, "OVERLOADED", Retry_After=value) for value in invalid))
    world.play(proxy.url).run("setup").succeeded()
    assert len(proxy.seen) == len(invalid) + 1 and max(proxy.gaps()) < 4, proxy.gaps()


@case
def pauses_grow_and_have_jitter(world):
    proxy = world.proxy(*[problem(500, "INTERNAL_ERROR")] * 5)
    result = world.play(proxy.url).run("setup").succeeded()
    waits = [int(line.split(" retrying in ")[1].split()[0]) for line in result.log.splitlines() if " retrying in " in line]
    bounds = [(50, 100), (100, 200), (200, 400), (200, 400), (200, 400)]
    assert all(low <= wait <= high for wait, (low, high) in zip(waits, bounds)) and len(waits) == 5, waits
    assert len(set(waits[2:])) > 1, "the pauses have no jitter"


@case
def pages_of_a_load_balancer_are_retried(world):
    page = {"Content-Type": "text/html"}
    proxy = world.proxy((502, page, HTML), (504, page, HTML), (503, page, ""), (200, page, HTML), (200, page, ""))
    play = world.play(proxy.url)
    result = play.run("setup").succeeded()
    assert len(proxy.seen) == 6 and "HTTP 504; retrying" in result.log and "HTTP 200, but not from the broker" in result.log, result
    assert "<html>" not in result.out + result.log, result


@case
def a_response_that_is_too_large_is_not_read_and_retried(world):
    proxy = world.proxy((200, {}, " " * (10 << 20) + '{"sandbox_id"'))
    result = world.play(proxy.url).run("setup").succeeded()
    assert "Maximum file size exceeded" in result.log and len(proxy.seen) == 2, result


@case
def setup_waits_for_a_temporarily_unavailable_broker(world):
    broker = world.own_broker()
    broker.stop()
    play = world.play(broker.url)
    process = play.start("setup")
    time.sleep(1)
    broker.start()
    result = play.finish(process).succeeded()
    assert "curl: (7)" in result.log and len(broker.sandboxes_of(play.id)) == 1, result


@case
def setup_fails_with_a_message_if_the_broker_stays_unavailable(world):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    play = world.play(f"http://127.0.0.1:{port}/v1", BROKER_TIMEOUT_SEC="2")
    play.run("setup").failed("No sandbox was obtained: curl: (7)")
    nowhere = world.play("https://broker.invalid/v1", BROKER_TIMEOUT_SEC="1")
    nowhere.run("setup").failed("No sandbox was obtained: curl: (6)")


@case
def a_missing_response_does_not_exceed_the_timeout(world):
    proxy = world.proxy(*["hang"] * 9)
    play = world.play(proxy.url, BROKER_REQUEST_SEC="1", BROKER_TIMEOUT_SEC="4")
    began = time.monotonic()
    play.run("setup").failed("curl: (28)")
    assert time.monotonic() - began < 12 and len(proxy.seen) >= 2, proxy.gaps()
    proxy = world.proxy("hang")
    play = world.play(proxy.url, BROKER_TIMEOUT_SEC="2")
    began = time.monotonic()
    play.run("setup").failed("curl: (28)")
    assert time.monotonic() - began < 12, "the time-out of a request, 35 s, exceeded that of the script"


@case
def setup_killed_after_the_allocation_returns_the_same_sandbox(world):
    proxy = world.proxy("hold")
    play = world.play(proxy.url)
    process = play.start("setup")
    assert proxy.forwarded.wait(20)
    os.killpg(process.pid, signal.SIGKILL)
    play.finish(process)
    (held,) = world.broker.sandboxes_of(play.id)
    assert not play.sandbox()
    proxy.resume.set()
    play.run("setup").succeeded()
    assert play.sandbox() == held and list(world.broker.sandboxes_of(play.id)) == [held]
    assert set(play.files()) == FILES, "temporary files of the first run are left"


@case
def a_lost_response_allocates_no_second_sandbox(world):
    proxy = world.proxy("lose", "lose")
    play = world.play(proxy.url)
    result = play.run("setup").succeeded()
    assert len(proxy.seen) == 3 and "curl: (52)" in result.log, result
    assert list(world.broker.sandboxes_of(play.id)) == [play.sandbox()]
