"""The part of scripts/check-workflows that knows this repository: pins, paths and the shell in workflows."""

import re
import subprocess
import sys
from pathlib import Path

import yaml

WORKFLOWS = Path(".github/workflows")
# Looked for only where the infrastructure is: it may land after the workflows.
INFRASTRUCTURE = ("terraform", "scripts/terraform", "scripts/check-terraform")
HAS_INFRASTRUCTURE = Path("terraform/versions.tf").exists()

faults = []


def fault(where, what):
    faults.append(f"{where}: {what}")


def is_later(path):
    return not HAS_INFRASTRUCTURE and any(path == top or path.startswith(top + "/") for top in INFRASTRUCTURE)


def each_step(workflow):
    for name, job in workflow["jobs"].items():
        for number, step in enumerate(job.get("steps", []), 1):
            yield f"{name}, step {number}", step


def look_at_pins(file):
    """Every action by its commit, with the version that a person reads; one version of an action everywhere."""
    for number, line in enumerate(file.read_text().splitlines(), 1):
        used = re.match(r"\s*(?:- )?uses:\s*(.*)", line)
        if not used or used[1].startswith("./"):
            continue
        pin = re.fullmatch(r"([\w.-]+/[\w./-]+)@([0-9a-f]{40}) # (v\d+\.\d+\.\d+)", used[1])
        if not pin:
            fault(f"{file}:{number}", f"{used[1]}: wanted owner/name@COMMIT # vX.Y.Z")
        elif pins.setdefault(pin[1], pin.groups()[1:]) != pin.groups()[1:]:
            fault(f"{file}:{number}", f"{pin[1]} is pinned to something else elsewhere")


def look_at_paths(where, text):
    """Every script and folder of ours that is named has to exist, and a script to be executable."""
    for path in re.findall(r"(?<![\w./-])(?:scripts|terraform|docs|deploy|\.ci|\.github)/[\w./-]*\w", text):
        if is_later(path) or path in WRITTEN:
            continue
        if not Path(path).exists():
            fault(where, f"{path} does not exist")
        elif re.fullmatch(r"scripts/[\w-]+|\.ci/run", path) and not Path(path).stat().st_mode & 0o100:
            fault(where, f"{path} is not executable")


def look_at_shell(where, step):
    """shellcheck, as GitHub would run it. Expressions have no place in it: what they bring would be run."""
    if "${{" in step["run"]:
        fault(where, "an expression in `run`; give it to the shell in `env`")
        return
    result = subprocess.run(
        ["shellcheck", "--shell=bash", "--format=gcc", "-"],
        input="set -e -o pipefail\n" + step["run"], text=True, capture_output=True, check=False,
    )
    if result.returncode != 0:
        fault(where, result.stdout.strip())


def look_at_jobs(file, workflow):
    if workflow.get("permissions") != {}:
        fault(file, "wanted `permissions: {}` at the top, and each job's own below it")
    if "concurrency" not in workflow:
        fault(file, "no concurrency group")
    for name, job in workflow["jobs"].items():
        if "permissions" not in job:
            fault(f"{file}, {name}", "no permissions of its own")


# What a deployment writes, or its owner commits.
WRITTEN = {"terraform/backend.tf", "terraform/terraform.tfvars", "terraform/.terraform.lock.hcl"}
pins = {}
seen = 0
for file in sorted(WORKFLOWS.glob("*.y*ml")):
    workflow = yaml.safe_load(file.read_text())
    seen += 1
    look_at_pins(file)
    look_at_jobs(file, workflow)
    look_at_paths(file, file.read_text())
    for where, step in each_step(workflow):
        if step.get("uses", "").startswith("actions/checkout@"):
            if step.get("with", {}).get("persist-credentials") is not False:
                fault(f"{file}, {where}", "checks out without persist-credentials: false")
        if "run" in step:
            look_at_shell(f"{file}, {where}", step)
for text in ["CONTRIBUTING.md", "SECURITY.md", "docs/github.md", ".github/dependabot.yml", ".github/CODEOWNERS"]:
    look_at_paths(text, Path(text).read_text())
# GitHub does not read a form, nor its settings, that are not YAML.
for file in Path(".github").rglob("*.y*ml"):
    yaml.safe_load(file.read_text())

if faults:
    print("\n".join(faults), file=sys.stderr)
    sys.exit(1)
print(f"ok: {seen} workflows, {len(pins)} pinned actions")
