"""Counts the DynamoDB capacity units of each operation of the broker, from the calls that it makes.

    scripts/measure-capacity [BINARY]                          # prints the table
    scripts/measure-capacity [BINARY] --check docs/scaling.md  # fails if the document has other figures

A proxy between a broker and DynamoDB Local. Each call is counted twice: by the published rules, from the items before
and after the call, and as DynamoDB Local reports it (ReturnConsumedCapacity=INDEXES), which differs from DynamoDB in some
cases. All traffic stays on loopback.
"""

import argparse
import base64
import collections
import http.client
import http.server
import json
import math
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

TABLE = "Capacity"
INDEXES = {"StatusIndex": "status", "TrackIndex": "allocated_to_track", "IdempotencyIndex": "idempotency_key"}
SORT = "allocated_at"
POOL = 100
BATCH = 10
LIMIT = 120


def value_size(value):
    """Returns the bytes of a value, by "DynamoDB item sizes and formats" in AWS's documentation."""
    ((kind, content),) = value.items()
    if kind == "S":
        return len(content.encode())
    if kind == "N":
        return (len(content.lstrip("-").replace(".", "").strip("0")) + 1) // 2 + 1
    if kind == "B":
        return len(base64.b64decode(content))
    if kind in ("NULL", "BOOL"):
        return 1
    if kind == "L":
        return 3 + sum(1 + value_size(part) for part in content)
    if kind == "M":
        return 3 + sum(1 + len(name.encode()) + value_size(part) for name, part in content.items())
    raise ValueError(kind)


def size(item):
    return sum(len(name.encode()) + value_size(value) for name, value in item.items())


def write_units(*items):
    return max([1, *(math.ceil(size(item) / 1024) for item in items if item)])


def read_units(items, consistent):
    return max(1, math.ceil(sum(map(size, items)) / 4096)) * (1 if consistent else 0.5)


class Counter:
    """Capacity units by source (rules or DynamoDB Local), kind (read or write) and resource (table or index)."""

    def __init__(self):
        self.units, self.calls = collections.Counter(), collections.Counter()

    def add(self, source, kind, resource, units):
        self.units[source, kind, resource] += units


class Proxy(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    target, counter = "", Counter()
    # One call at a time, so that the items read before and after a call differ by that call only.
    lock = threading.Lock()

    def do_POST(self):
        content = self.rfile.read(int(self.headers["Content-Length"]))
        operation = self.headers["X-Amz-Target"].split(".")[-1]
        with self.lock:
            status, headers, answer = self.count(operation, json.loads(content))
        self.send_response(status)
        for name, value in headers:
            if name.lower() in ("content-type", "x-amz-crc32", "x-amzn-requestid"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass

    @classmethod
    def call(cls, operation, body):
        url = urllib.parse.urlsplit(cls.target)
        connection = http.client.HTTPConnection(url.hostname, url.port, timeout=30)
        connection.request("POST", "/", json.dumps(body), {
            "X-Amz-Target": f"DynamoDB_20120810.{operation}",
            "Content-Type": "application/x-amz-json-1.0",
            "Authorization": "AWS4-HMAC-SHA256 Credential=local/20260101/us-east-1/dynamodb/aws4_request, SignedHeaders=host, Signature=0",
        })
        response = connection.getresponse()
        content = response.read()
        connection.close()
        return response.status, response.getheaders(), content

    @classmethod
    def item(cls, key):
        _, _, content = cls.call("GetItem", {"TableName": TABLE, "Key": key, "ConsistentRead": True})
        return json.loads(content).get("Item")

    def count(self, operation, body):
        counter = self.counter
        if operation not in ("GetItem", "Query", "Scan", "PutItem", "UpdateItem", "TransactWriteItems"):
            return self.call(operation, body)
        counter.calls[operation] += 1
        body["ReturnConsumedCapacity"] = "INDEXES"
        writes = self.writes(operation, body)
        before = [self.item(key) for _, key in writes]
        status, headers, content = self.call(operation, body)
        answer = json.loads(content)
        after = [self.item(key) for _, key in writes]
        for (kind, _), old, new in zip(writes, before, after):
            self.count_write(kind, old, new, operation == "TransactWriteItems")
        if operation == "GetItem":
            counter.add("rules", "read", "table", read_units([answer.get("Item") or {}], body.get("ConsistentRead")))
        elif operation in ("Query", "Scan"):
            items = self.read_items(operation, body)
            counter.add("rules", "read", body.get("IndexName", "table"), read_units(items, body.get("ConsistentRead")))
        self.count_local(answer.get("ConsumedCapacity"), bool(writes))
        return status, headers, content

    @staticmethod
    def writes(operation, body):
        """Returns kind and key of each item that a call writes."""
        def key_of(item):
            return {"PK": item["PK"], "SK": item["SK"]}

        if operation == "PutItem":
            return [("Put", key_of(body["Item"]))]
        if operation == "UpdateItem":
            return [("Update", body["Key"])]
        if operation == "TransactWriteItems":
            actions = [next(iter(action.items())) for action in body["TransactItems"]]
            return [(kind, key_of(action["Item"]) if kind == "Put" else action["Key"]) for kind, action in actions]
        return []

    def count_write(self, kind, old, new, transactional):
        # A transaction writes each item twice (prepare, commit), also for a condition check.
        self.counter.add("rules", "write", "table", write_units(old, new) * (2 if transactional else 1))
        for index, hash_key in INDEXES.items():
            keys = [(item[hash_key], item[SORT]) if item and hash_key in item else None for item in (old, new)]
            if keys[0] != keys[1]:
                # One write removes the old index entry, another one adds the new entry.
                units = sum(write_units(item) for item, key in zip((old, new), keys) if key)
            else:
                units = write_units(old, new) if keys[0] and old != new else 0
            self.counter.add("rules", "write", index, units)

    def read_items(self, operation, body):
        """Returns all items that a query or scan reads, including those that its filter or projection omits."""
        full = {name: body[name] for name in ("TableName", "IndexName", "Limit", "ExclusiveStartKey", "ScanIndexForward",
                                              "ConsistentRead", "KeyConditionExpression") if name in body}
        condition = body.get("KeyConditionExpression", "")
        for name in ("ExpressionAttributeNames", "ExpressionAttributeValues"):
            used = {key: value for key, value in body.get(name, {}).items() if re.search(re.escape(key) + r"\b", condition)}
            if used:
                full[name] = used
        _, _, content = self.call(operation, full)
        return json.loads(content)["Items"]

    def count_local(self, consumed, is_write):
        kind = "write" if is_write else "read"
        for part in consumed if isinstance(consumed, list) else [consumed] if consumed else []:
            if "Table" in part:
                self.counter.add("local", kind, "table", part["Table"]["CapacityUnits"])
            for index, units in part.get("GlobalSecondaryIndexes", {}).items():
                self.counter.add("local", kind, index, units["CapacityUnits"])


class World:
    """A broker that uses the proxy, and a CSP simulator."""

    def __init__(self, binary, directory):
        self.processes, self.binary, self.directory = [], binary, directory
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        simulator = self.start("csp-simulator", r"CSP_BASE_URL=(\S+)", ["--port", "0", "--accounts", str(POOL), "--seed", "1"], {})
        self.simulator = simulator.removesuffix("/v2")
        settings = {
            "STORE": "dynamodb", "DDB_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}", "DDB_TABLE_NAME": TABLE,
            "CSP_MODE": "live", "CSP_BASE_URL": simulator, "CSP_API_TOKEN": "capacity", "PORT": "0", "RUN_JOBS": "false",
            "LOG_FORMAT": "json", "CLEANUP_BATCH_SIZE": str(BATCH), "TOMBSTONE_RETRY_SEC": "86400",
            # Large enough for the pool: no refresh of the index runs beside the measured operation.
            "CANDIDATE_INDEX_CAPACITY": str(POOL),
        }
        subprocess.run([binary, "table", "create"], env=settings, cwd=directory, check=True, stdout=subprocess.DEVNULL)
        self.base = "http://" + self.start("serve", r'"listening".*"address":"([^"]+)"', [], settings)

    def start(self, command, pattern, arguments, settings):
        log = pathlib.Path(self.directory, f"{command}.log")
        with log.open("w") as file:
            process = subprocess.Popen([self.binary, command, *arguments], env=settings, cwd=self.directory, stdout=file, stderr=file)
        self.processes.append(process)
        for _ in range(600):
            if found := re.search(pattern, log.read_text()):
                return found[1]
            if process.poll() is not None:
                break
            time.sleep(0.05)
        sys.exit(f"{command} did not start:\n{log.read_text()}")

    def stop(self):
        for process in self.processes:
            process.kill()
            process.wait()

    def request(self, method, path, caller=None, prefix=None):
        token = "dev-track-token" if caller else "dev-admin-token"
        headers = {"Authorization": f"Bearer {token}"}
        if caller:
            headers |= {"X-Instruqt-Sandbox-ID": caller, "X-Instruqt-Track-ID": "cloud-security-101"}
        if prefix:
            headers["X-Sandbox-Name-Prefix"] = prefix
        request = urllib.request.Request(self.base + path, method=method, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.loads(answer.read() or "null") if "json" in answer.headers["Content-Type"] else None
        except urllib.error.HTTPError as refusal:
            if refusal.code == 409:
                return None
            raise

    def inject(self, faults):
        request = urllib.request.Request(f"{self.simulator}/simulator/faults", method="PUT", data=json.dumps(faults).encode(),
                                         headers={"Content-Type": "application/json"})
        urllib.request.urlopen(request, timeout=10).read()


Row = collections.namedtuple("Row", "name per counter")


def play(number):
    # As long as a participant id of Instruqt.
    return f"participant-{number:06}-{'0' * 12}"


def measure(world):
    rows = []

    def operation(name, action, per=1):
        Proxy.counter = Counter()
        result = action()
        rows.append(Row(name, per, Proxy.counter))
        Proxy.counter = Counter()
        return result

    def allocate(number):
        return world.request("POST", "/v1/allocate", play(number))["sandbox_id"]

    def release(number, sandbox):
        return world.request("POST", f"/v1/sandboxes/{sandbox}/mark-for-deletion", play(number))

    job = lambda name, query="": world.request("POST", f"/v1/admin/{name}{query}")
    get = lambda path: world.request("GET", f"/v1/admin/{path}")
    operation(f"sync that inserts {POOL}, each", lambda: job("sync"), POOL)
    operation(f"sync that changes nothing, pool of {POOL}", lambda: job("sync"))
    sandbox = operation("allocation, fresh", lambda: allocate(0))
    operation("allocation, replayed", lambda: allocate(0))
    operation("get one", lambda: world.request("GET", f"/v1/sandboxes/{sandbox}", play(0)))
    operation("list what the caller holds", lambda: world.request("GET", "/v1/sandboxes", play(0)))
    operation("release", lambda: release(0, sandbox))
    operation("release, repeated", lambda: release(0, sandbox))
    again = operation("allocation over the claim of a released one", lambda: allocate(0))
    release(0, again)
    operation(f"refusal, {POOL - 2} available", lambda: world.request("POST", "/v1/allocate", play(1), "nope-"))
    operation(f"admin's list, page of 50, pool of {POOL}", lambda: get("sandboxes"))
    operation("admin's list by status, page of 50", lambda: get("sandboxes?status=available"))
    operation(f"stats, pool of {POOL}", lambda: get("stats"))
    operation(f"the minute's count, pool of {POOL}", lambda: world.request("GET", "/metrics"))
    operation("the overview, beside its count", lambda: get("overview"))
    operation("the samples of a day", lambda: get("samples?hours=24"))
    operation(f"NIOSXaaS, pool of {POOL}", lambda: get("niosxaas"))
    time.sleep(1.1)
    operation("readiness, asked anew", lambda: world.request("GET", "/readyz"))
    job("cleanup")
    held = [allocate(number) for number in range(10, 10 + BATCH)]
    bytes_by_kind = sizes()
    operation("a run that finds nothing (auto-expire)", lambda: job("auto-expire"))
    for sandbox in held:
        Proxy.call("UpdateItem", {
            "TableName": TABLE, "Key": {"PK": {"S": f"SBX#{sandbox}"}, "SK": {"S": "META"}},
            "UpdateExpression": "SET allocated_at = :day_before", "ExpressionAttributeValues": {":day_before": {"N": str(int(time.time()) - 86400)}},
        })
    operation(f"auto-expire of {BATCH}, each", lambda: job("auto-expire"), BATCH)
    operation(f"cleanup of {BATCH}, each", lambda: job("cleanup"), BATCH)
    world.inject([{"on": "list", "kind": "halved", "times": 1}])
    gone = operation("sync that marks stale, each", lambda: job("sync", "?force=true"))["marked_stale"]
    rows[-1] = rows[-1]._replace(per=gone)
    back = operation("sync that restores, each", lambda: job("sync"))["restored"]
    rows[-1] = rows[-1]._replace(per=back)
    world.inject([{"on": "list", "kind": "halved", "times": 1}])
    job("sync", "?force=true")
    deleted = operation("auto-delete-stale, each", lambda: job("auto-delete-stale", "?grace_period_hours=0"))["deleted"]
    rows[-1] = rows[-1]._replace(per=deleted)
    return rows, sizes() | bytes_by_kind


def sizes():
    """Returns the mean size in bytes of the items of each kind."""
    found = collections.defaultdict(list)
    _, _, content = Proxy.call("Scan", {"TableName": TABLE, "ConsistentRead": True})
    for item in json.loads(content)["Items"]:
        kind = item["PK"]["S"].split("#")[0]
        found[f"{kind} {item['status']['S']}" if kind == "SBX" else kind].append(size(item))
    return {kind: round(sum(each) / len(each)) for kind, each in found.items()}


def number(value):
    return f"{value:.2f}".rstrip("0").rstrip(".") if value else "–"


RESOURCES = ("table", *INDEXES)


def cells(row, source):
    def units(kind, resource):
        return row.counter.units[source, kind, resource] / row.per

    writes = [units("write", resource) for resource in RESOURCES]
    reads = [units("read", resource) for resource in RESOURCES]
    return [*map(number, writes), number(sum(writes)), number(reads[0]), number(sum(reads[1:]))]


def render(rows):
    lines = ["| | calls | table | `status` | `track` | `key` | written | read, table | read, index |", "|---|---|---|---|---|---|---|---|---|"]
    for row in rows:
        calls = sum(row.counter.calls.values()) / row.per
        lines.append(f"| {row.name} | {number(calls)} | {' | '.join(cells(row, 'rules'))} |")
    return lines


def differences(rows):
    lines = []
    for row in rows:
        for kind in ("write", "read"):
            for resource in RESOURCES:
                rules, local = (row.counter.units[source, kind, resource] for source in ("rules", "local"))
                if rules != local:
                    lines.append(f"{row.name}: {kind} {resource}: {number(rules / row.per)} by the rules, {number(local / row.per)} by DynamoDB Local")
    return lines


def check(lines, document):
    """Returns the differences from the document beyond 5 %, which names of different lengths cause."""
    def figures(line):
        return [0.0 if cell.strip() == "–" else float(cell) for cell in line.strip("| \n").split("|")[1:]]

    text = pathlib.Path(document).read_text().splitlines()
    wrong = []
    for line in lines[2:]:
        name = line.split("|")[1]
        known = next((other for other in text if other.startswith(f"|{name}|")), None)
        if known is None or any(abs(a - b) > max(0.5, 0.05 * max(a, b)) for a, b in zip(figures(line), figures(known))):
            wrong.append(f"measured: {line}\n{document}: {known}")
    return wrong


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--check")
    options = parser.parse_args()
    Proxy.target = os.environ["BROKER_TEST_DYNAMODB_ENDPOINT"]
    threading.Timer(LIMIT, lambda: os._exit(124)).start()
    with tempfile.TemporaryDirectory() as directory:
        world = World(os.path.abspath(options.binary), directory)
        try:
            rows, bytes_by_kind = measure(world)
            print("\n".join(render(rows)))
            print("\nBytes:", ", ".join(f"{kind} {each}" for kind, each in sorted(bytes_by_kind.items())))
        finally:
            world.stop()
    print("\nWhere DynamoDB Local differs:", *differences(rows), sep="\n")
    wrong = check(render(rows), options.check) if options.check else []
    print(*wrong, sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)
