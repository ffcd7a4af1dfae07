"""The part of scripts/check-observability that sends HTTP requests. Uses the standard library only.

  fetch URL                             print the metrics page
  config URL RULES                      print a configuration of Prometheus that scrapes the URL
  ask PROMETHEUS PAGE FILES OPERATIONS  check the rules and the dashboard in FILES against Prometheus and the page
"""

import json
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import defaultdict
from pathlib import Path

# Metrics that the page may lack until an event has happened, each with that event.
LATE_FAMILIES = {
    "broker_lab_held": "an allocation, or a lab with a quota in the policy",
    "broker_pool_target": "a pool in the policy",
    "broker_pool_ready": "a pool in the policy",
    "broker_pool_warming": "a pool in the policy",
    "broker_pool_creations_under_way": "a pool in the policy",
    "broker_pool_late": "a pool in the policy",
    "broker_pool_refill_stopped": "a pool in the policy",
    "broker_pool_time_to_available_seconds": "several creations of accounts for a pool",
    "broker_job_last_success_timestamp_seconds": "the first success of a job",
    "broker_job_last_failure_timestamp_seconds": "the first failure of a job",
    "broker_job_last_paused_timestamp_seconds": "the first run that a pause stops",
    "broker_pause_since_timestamp_seconds": "a pause",
    "broker_pause_until_timestamp_seconds": "a pause with an end",
    "broker_job_last_end_timestamp_seconds": "the end of the first run of a job",
    "broker_job_finished_total": "the end of the first run of a job",
    "broker_job_sandboxes_total": "the end of the first run of a job",
}
# Values of labels that the page may lack: those of jobs that are off by default, and their results.
LATE_VALUES = {("exported_job", "check"), ("exported_job", "refill"), ("result", "quarantined")}
JOB = "sandbox-broker"
# The same page is scraped as two tasks, which finds expressions that fail with more than one.
TASKS = ("task-a", "task-b")
# Values for the variables of Grafana.
VARIABLES = {
    "job": JOB,
    "instance": ".*",
    "__rate_interval": "1m",
    "__interval": "15s",
    "__range": "1h",
}
# Labels that Prometheus adds.
TARGET_LABELS = {"job", "instance", "alertname", "alertstate", "severity"}
TIME_LIMIT_SECONDS = 60
SEVERITIES = ("critical", "warning")

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
STRING = r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'|`[^`]*`'


def fetch(url):
    request = urllib.request.Request(url, headers={"Accept": "text/plain;version=0.0.4"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.read().decode()


def scrape_config(url, rules):
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        sys.exit(f"not an http(s) URL: {url}")
    # JSON is YAML.
    return json.dumps(
        {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": [rules],
            "scrape_configs": [
                {
                    "job_name": JOB,
                    "scheme": parts.scheme,
                    "metrics_path": parts.path or "/",
                    "params": urllib.parse.parse_qs(parts.query),
                    "static_configs": [{"targets": [parts.netloc], "labels": {"instance": task}} for task in TASKS],
                }
            ],
        }
    )


class Prometheus:
    """The HTTP API of a Prometheus server."""

    def __init__(self, address):
        self.address = address

    def get(self, path, **parameters):
        """Returns (data, error); one of them is None."""
        body = urllib.parse.urlencode(parameters).encode() if parameters else None
        try:
            with urllib.request.urlopen(f"{self.address}/api/v1/{path}", data=body, timeout=30) as answer:
                return json.load(answer)["data"], None
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")
            try:
                return None, json.loads(text)["error"]
            except (ValueError, KeyError):
                return None, f"{error.code} {text[:200]}"
        except OSError as error:
            return None, str(error)


class Page:
    """The contents of a metrics page, by the names that queries use."""

    def __init__(self, text):
        self.types = {}  # family -> type, of HELP and TYPE lines
        self.labels = defaultdict(set)  # sample name -> label names
        self.values = defaultdict(set)  # (sample name, label name) -> values
        self.sampled = set()
        for line in text.splitlines():
            comment = re.match(rf"# (HELP|TYPE) ({NAME})(?: (.*))?$", line)
            if comment:
                kind, family, rest = comment.groups()
                if kind == "TYPE":
                    self.types[family] = rest.strip()
                else:
                    self.types.setdefault(family, "untyped")
                continue
            sample = re.match(rf"({NAME})(?:{{(.*)}})?\s+\S+(?:\s+\d+)?\s*$", line)
            if not sample:
                continue
            name, labels = sample.groups()
            self.sampled.add(name)
            for label, value in re.findall(rf'({NAME})="((?:[^"\\]|\\.)*)"', labels or ""):
                # Prometheus reserves these names for the target's labels.
                label = f"exported_{label}" if label in ("job", "instance") else label
                self.labels[name].add(label)
                self.values[name, label].add(re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], value))

    def family(self, name):
        """Returns the metric family that has samples of this name, or None."""
        for suffix in ("_bucket", "_sum", "_count"):
            if name.endswith(suffix) and self.types.get(name[: -len(suffix)]) in ("histogram", "summary"):
                return name[: -len(suffix)]
        if self.types.get(name) == "histogram":
            return None
        return name if name in self.types or name in self.sampled else None


class Expression:
    """The names in a PromQL expression. Prometheus itself checks the syntax."""

    def __init__(self, text):
        self.metrics = set()
        self.matchers = []  # (metric, label, operator, value)
        self.grouped = set()
        token = re.compile(
            rf"(?P<string>{STRING})|(?P<comment>#[^\n]*)|(?P<range>\[[^\]]*\])|(?P<name>{NAME})|(?P<open>{{)|(?P<other>.)",
            re.S,
        )
        matcher = re.compile(rf"\s*({NAME})\s*(=~|!~|!=|=)\s*({STRING})\s*,?")
        at, metric = 0, None
        while at < len(text):
            found = token.match(text, at)
            kind, word = found.lastgroup, found.group()
            at = found.end()
            if kind == "name":
                if word in ("by", "without", "on", "ignoring", "group_left", "group_right"):
                    metric = None
                    listed = re.compile(r"\s*\(([^)]*)\)").match(text, at)
                    if listed:
                        self.grouped |= set(re.findall(NAME, listed[1]))
                        at = listed.end()
                else:
                    metric = word
                    if re.match(r"(broker|process)_", word) or ":" in word:
                        self.metrics.add(word)
            elif kind == "open":
                while True:
                    one = matcher.match(text, at)
                    if not one:
                        break
                    label, operator, value = one.groups()
                    self.matchers.append((metric, label, operator, value[1:-1].replace("\\\\", "\\").replace('\\"', '"')))
                    at = one.end()
                at = text.find("}", at) + 1 or len(text)
                metric = None
            elif not word.isspace():
                metric = None


def substituted(text):
    for name, value in VARIABLES.items():
        text = re.sub(rf"\$\{{{name}(?::\w+)?\}}|\${name}\b|\[\[{name}\]\]", value, text)
    return text


def panels_of(dashboard):
    for panel in dashboard.get("panels", []):
        yield panel
        yield from panels_of(panel)


def expressions_of(dashboard):
    """Yields (location, expression, legend) for every expression of a dashboard."""
    for panel in panels_of(dashboard):
        for target in panel.get("targets", []):
            yield f'panel "{panel["title"]}" {target["refId"]}', target["expr"], target.get("legendFormat", "")
    for annotation in dashboard["annotations"]["list"]:
        if "expr" in annotation:
            yield f'annotation "{annotation["name"]}"', annotation["expr"], ""
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            query = variable["query"]["query"]
            label_query = re.fullmatch(rf"label_values\((.*),\s*({NAME})\)", query)
            where = f'variable "{variable["name"]}"'
            yield where, f"count by ({label_query[2]}) ({label_query[1]})" if label_query else query, ""


class Check:
    def __init__(self, prometheus, page, files, operations):
        self.prometheus = prometheus
        self.page = page
        self.files = files
        self.operations = operations
        self.faults = []

    def fault(self, text):
        # One misspelled name appears in many places; one report is enough.
        if text not in self.faults:
            self.faults.append(text)

    def done(self, title):
        """Ends a step: prints all its faults and exits, or prints that it passed."""
        if self.faults:
            for fault in self.faults:
                print(f"FAULT: {fault}", file=sys.stderr)
            sys.exit(1)
        print(f"ok: {title}", flush=True)

    def wait(self, title, poll):
        """Calls `poll` until it returns nothing; after the time limit, its result is a fault."""
        deadline = time.monotonic() + TIME_LIMIT_SECONDS
        while True:
            pending = poll()
            if not pending:
                return
            if time.monotonic() > deadline:
                self.fault(f"{title}, after {TIME_LIMIT_SECONDS} s: {pending}")
                return
            time.sleep(0.5)

    def scraped(self):
        def unscraped():
            data, error = self.prometheus.get("targets")
            if error:
                return error
            targets = data["activeTargets"]
            if len(targets) != len(TASKS):
                return f"{len(targets)} targets instead of {len(TASKS)}"
            bad = [target for target in targets if target["health"] != "up"]
            if bad:
                return bad[0]["lastError"] or "no scrape yet"
            # A rate needs several samples.
            data, error = self.prometheus.get("query", query=f'count_over_time(up{{job="{JOB}"}}[1m]) >= 4')
            return error or ("too few scrapes" if len(data["result"]) < len(TASKS) else None)

        self.wait("Prometheus has not scraped the metrics", unscraped)
        self.done("Prometheus scrapes the metrics")

    def rules(self):
        written = (self.files / "alerts.yml").read_text()
        expected = len(re.findall(r"^\s*- (?:alert|record):", written, re.M))
        rules = []

        def unhealthy():
            data, error = self.prometheus.get("rules")
            if error:
                return error
            rules[:] = [rule for group in data["groups"] for rule in group["rules"]]
            if len(rules) != expected:
                return f"{len(rules)} of the {expected} rules in alerts.yml are loaded"
            bad = [rule for rule in rules if rule["health"] != "ok"]
            return "; ".join(f'{rule["name"]} is {rule["health"]} {rule.get("lastError", "")}' for rule in bad)

        self.wait("rules are unhealthy", unhealthy)
        tests = (self.files / "alerts_test.yml").read_text()
        anchors = self.anchors()
        for rule in rules:
            if rule["type"] != "alerting":
                continue
            name, notes = rule["name"], rule["annotations"]
            if rule["labels"].get("severity") not in SEVERITIES:
                self.fault(f"{name} has no severity from {', '.join(SEVERITIES)}")
            for note in ("summary", "description", "runbook_url"):
                if not notes.get(note):
                    self.fault(f"{name} has no {note}")
            if name not in tests:
                self.fault(f"{name} has no test in alerts_test.yml")
            runbook, _, anchor = notes.get("runbook_url", "").partition("#")
            if anchors is not None and (runbook != "docs/operations.md" or anchor not in anchors):
                self.fault(f"{name}: {runbook}#{anchor} does not exist")
            for alert in rule["alerts"]:
                for text in alert["annotations"].values():
                    if "<error" in text:
                        self.fault(f"{name}: {text}")
        if anchors is None:
            print(f"note: {self.operations.name} does not exist yet, so the anchors of the runbooks were not checked")
        self.done(f"{len(rules)} rules are loaded and healthy")
        return rules

    def anchors(self):
        """Returns the anchors of the runbook, derived from its headings as GitHub does."""
        if not self.operations.is_file():
            return None
        text = self.operations.read_text()
        headings = re.findall(r"^#+\s+(.*?)\s*#*$", text, re.M)
        slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
        return slugs | set(re.findall(r'(?:id|name)="([^"]+)"', text))

    def expressions(self, rules):
        dashboard = json.loads((self.files / "grafana-dashboard.json").read_text())
        all_of_them = [(f'rule {rule["name"]}', rule["query"], "") for rule in rules]
        all_of_them += [("dashboard, " + where, text, legend) for where, text, legend in expressions_of(dashboard)]
        recorded = {rule["name"] for rule in rules if rule["type"] == "recording"}
        empty = []
        for where, written, legend in all_of_them:
            text = substituted(written)
            left = re.search(r"\$\{?\w+|\[\[\w+", text)
            if left:
                self.fault(f"{where}: {left[0]} is not a variable of the dashboard")
                continue
            data, error = self.prometheus.get("query", query=text)
            if error:
                self.fault(f"{where}: {error}\n    {text}")
                continue
            if not data["result"] and not where.startswith("rule"):
                empty.append(where)
            self.names(where, Expression(text), legend, recorded)
        self.done(f"{len(all_of_them)} expressions of rules and dashboard evaluate, and the page has their names")
        if empty:
            print("note: no data at the moment, which may be correct: " + "; ".join(empty))

    def names(self, where, expression, legend, recorded):
        page = self.page
        for metric in sorted(expression.metrics):
            if ":" in metric:
                if metric not in recorded:
                    self.fault(f"{where}: no rule records {metric}")
            elif page.family(metric) is None and metric not in LATE_FAMILIES:
                self.fault(f"{where}: the page has no {metric}")
        for metric, label, operator, value in expression.matchers:
            if metric not in page.sampled or label in TARGET_LABELS:
                continue
            if label not in page.labels[metric]:
                self.fault(f"{where}: {metric} has no label {label}")
            # The statuses of a histogram appear with the requests; counters and gauges have all their values from the start.
            elif (
                operator == "="
                and page.family(metric) == metric
                and value not in page.values[metric, label]
                and (label, value) not in LATE_VALUES
            ):
                self.fault(f'{where}: no {metric} has {label}="{value}"')
        plain = {metric for metric in expression.metrics if ":" not in metric}
        if plain and plain <= page.sampled:
            known = TARGET_LABELS.union(*(page.labels[metric] for metric in plain))
            for label in sorted((expression.grouped | set(re.findall(r"{{\s*(\w+)\s*}}", legend))) - known):
                self.fault(f"{where}: none of its metrics has a label {label}")


def main():
    match sys.argv[1:]:
        case ["fetch", url]:
            try:
                sys.stdout.write(fetch(url))
            except (OSError, ValueError) as error:
                sys.exit(f"{error}")
        case ["config", url, rules]:
            print(scrape_config(url, rules))
        case ["ask", address, page, files, operations]:
            check = Check(Prometheus(address), Page(Path(page).read_text()), Path(files), Path(operations))
            check.scraped()
            check.expressions(check.rules())
        case _:
            sys.exit(__doc__)


main()
