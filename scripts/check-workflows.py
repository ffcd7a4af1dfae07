"""The part of scripts/check-workflows that is specific to this repository: pins, paths and the shell in workflows."""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

WORKFLOWS = Path(".github/workflows")

faults = []


def fault(where, text):
    faults.append(f"{where}: {text}")


def each_step(workflow):
    for name, job in workflow["jobs"].items():
        for number, step in enumerate(job.get("steps", []), 1):
            yield f"{name}, step {number}", step


def check_pins(file):
    """Every action is pinned to a commit with its version in a comment, to the same one everywhere."""
    for number, line in enumerate(file.read_text().splitlines(), 1):
        used = re.match(r"\s*(?:- )?uses:\s*(.*)", line)
        if not used or used[1].startswith("./"):
            continue
        pin = re.fullmatch(r"([\w.-]+/[\w./-]+)@([0-9a-f]{40}) # (v\d+\.\d+\.\d+)", used[1])
        if not pin:
            fault(f"{file}:{number}", f"{used[1]}: expected owner/name@COMMIT # vX.Y.Z")
        elif pins.setdefault(pin[1], pin.groups()[1:]) != pin.groups()[1:]:
            fault(f"{file}:{number}", f"{pin[1]} is pinned to another version elsewhere")


def check_paths(where, text):
    """Every script and folder of this repository that is named exists, and scripts are executable."""
    for path in re.findall(r"(?<![\w./-])(?:scripts|terraform|docs|deploy|\.ci|\.github)/[\w./-]*\w", text):
        if path in WRITTEN:
            continue
        if not Path(path).exists():
            fault(where, f"{path} does not exist")
        elif re.fullmatch(r"scripts/[\w-]+|\.ci/run", path) and not Path(path).stat().st_mode & 0o100:
            fault(where, f"{path} is not executable")


def check_shell(where, step):
    """Runs shellcheck as GitHub would run the step. Expressions are faults: their values would be executed."""
    if "${{" in step["run"]:
        fault(where, "an expression in `run`; pass it to the shell in `env`")
        return
    result = subprocess.run(
        ["shellcheck", "--shell=bash", "--format=gcc", "-"],
        input="set -e -o pipefail\n" + step["run"], text=True, capture_output=True, check=False,
    )
    if result.returncode != 0:
        fault(where, result.stdout.strip())


def check_jobs(file, workflow):
    if workflow.get("permissions") != {}:
        fault(file, "expected `permissions: {}` at the top, and permissions of each job")
    if "concurrency" not in workflow:
        fault(file, "no concurrency group")
    for name, job in workflow["jobs"].items():
        if "permissions" not in job:
            fault(f"{file}, {name}", "the job has no `permissions`")


def check_attestations(where, workflow, step):
    """Private repositories have attestations in GitHub Enterprise only."""
    if "private" not in workflow.get("env", {}).get("ATTEST", "") or step.get("if") != "env.ATTEST == 'true'":
        fault(where, "an attestation without `if: env.ATTEST == 'true'`")


def check_environments(file, workflow):
    """A job that names an environment needs a job before it that checks its protection."""
    checked = {}
    for name, job in workflow["jobs"].items():
        for step in job.get("steps", []):
            for environment in re.findall(r"scripts/check-environment ([\w-]+)", step.get("run", "")):
                checked[environment] = name
    for name, job in workflow["jobs"].items():
        environment = job.get("environment")
        environment = environment["name"] if isinstance(environment, dict) else environment
        needs = job.get("needs", [])
        needs = needs if isinstance(needs, list) else [needs]
        if environment and checked.get(environment) not in needs:
            fault(f"{file}, {name}", f"nothing before it checks the environment {environment}")


def check_protection():
    """Runs scripts/check-environment on answers of GitHub."""
    policy = {"protected_branches": False, "custom_branch_policies": True}
    reviewers = {"type": "required_reviewers", "reviewers": [{"type": "User"}]}
    branches = {"type": "branch_policy"}
    protected = {"deployment_branch_policy": policy, "protection_rules": [branches, reviewers]}
    unreviewed = protected | {"protection_rules": [branches]}
    cases = [
        (protected, "reviewers", "", 0),
        (unreviewed, "reviewers", "", 1),
        (unreviewed, "", "", 0),
        (unreviewed, "reviewers", "true", 0),
        (protected | {"deployment_branch_policy": None}, "reviewers", "", 1),
        (None, "", "", 1),
        (None, "", "false", 1),
        (None, "reviewers", "true", 0),
    ]
    with tempfile.TemporaryDirectory() as folder:
        gh = Path(folder, "gh")
        gh.write_text('#!/bin/sh\n[ "$2" = repos/example/broker/environments/production ] && [ -n "$ANSWER" ] && echo "$ANSWER"\n')
        gh.chmod(0o755)
        for answer, wanted, accepted, status in cases:
            settings = {
                "PATH": f"{folder}:{os.environ['PATH']}",
                "GITHUB_REPOSITORY": "example/broker",
                "ANSWER": json.dumps(answer) if answer else "",
                "UNPROTECTED_ENVIRONMENTS": accepted,
            }
            command = ["scripts/check-environment", "production", *wanted.split()]
            result = subprocess.run(command, env=settings, text=True, capture_output=True, check=False)
            if result.returncode != status or (status and "::error::" not in result.stdout):
                fault(" ".join(command), f"exit status {result.returncode} on {answer}: {result.stdout}{result.stderr}")


def check_committed(path):
    """A file that workflows need must not be ignored by git."""
    if subprocess.run(["git", "check-ignore", "--quiet", path], check=False).returncode == 0:
        fault(path, "a deployment needs it committed, but .gitignore ignores it")


# Files that a deployment writes or its owner commits.
WRITTEN = {"terraform/backend.tf", "terraform/terraform.tfvars", "terraform/.terraform.lock.hcl"}
pins = {}
seen = 0
for file in sorted(WORKFLOWS.glob("*.y*ml")):
    workflow = yaml.safe_load(file.read_text())
    seen += 1
    check_pins(file)
    check_jobs(file, workflow)
    check_paths(file, file.read_text())
    check_environments(file, workflow)
    for where, step in each_step(workflow):
        if step.get("uses", "").startswith("actions/attest@"):
            check_attestations(f"{file}, {where}", workflow, step)
        if step.get("uses", "").startswith("actions/checkout@"):
            if step.get("with", {}).get("persist-credentials") is not False:
                fault(f"{file}, {where}", "the checkout lacks persist-credentials: false")
        if "run" in step:
            check_shell(f"{file}, {where}", step)
for text in ["CONTRIBUTING.md", "SECURITY.md", "docs/github.md", ".github/dependabot.yml", ".github/CODEOWNERS"]:
    check_paths(text, Path(text).read_text())
check_protection()
for path in sorted(WRITTEN):
    check_committed(path)
# GitHub ignores forms and settings that are not valid YAML.
for file in Path(".github").rglob("*.y*ml"):
    yaml.safe_load(file.read_text())

if faults:
    print("\n".join(faults), file=sys.stderr)
    sys.exit(1)
print(f"ok: {seen} workflows, {len(pins)} pinned actions")
