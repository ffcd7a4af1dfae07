"""The part of scripts/check-workflows that is specific to this repository: pins, paths and the shell in workflows."""

import re
import subprocess
import sys
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
    for where, step in each_step(workflow):
        if step.get("uses", "").startswith("actions/checkout@"):
            if step.get("with", {}).get("persist-credentials") is not False:
                fault(f"{file}, {where}", "the checkout lacks persist-credentials: false")
        if "run" in step:
            check_shell(f"{file}, {where}", step)
for text in ["CONTRIBUTING.md", "SECURITY.md", "docs/github.md", ".github/dependabot.yml", ".github/CODEOWNERS"]:
    check_paths(text, Path(text).read_text())
# GitHub ignores forms and settings that are not valid YAML.
for file in Path(".github").rglob("*.y*ml"):
    yaml.safe_load(file.read_text())

if faults:
    print("\n".join(faults), file=sys.stderr)
    sys.exit(1)
print(f"ok: {seen} workflows, {len(pins)} pinned actions")
