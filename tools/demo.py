"""`make demo`: apply the examples and watch the chain on the cluster, from data to an answered prediction.

Only what a user has: kubectl and the `modelship` command. Leaves everything running, so that the next step can be tried.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ("tabular", "image")
KINDS = ("ModelTraining", "ModelEvaluation", "ModelDeployment")
BOLD, DIM, RED, GREEN, RESET = ("\033[1m", "\033[2m", "\033[31m", "\033[32m", "\033[0m") if sys.stdout.isatty() else ("",) * 5


def main() -> None:
    """Apply, watch, predict, show."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--namespace", default="demo")
    parser.add_argument("--timeout", type=float, default=1200, help="seconds")
    options = parser.parse_args()
    bin_path, kubeconfig = tool("bin-path", "kubectl", "helm"), tool("cluster", "kubeconfig")
    os.environ["KUBECONFIG"] = kubeconfig  # also for the `modelship` command; kubectl is told by name
    kubectl = Kubectl(f"{bin_path}/kubectl", kubeconfig, options.namespace)
    headline(f"Applying examples/{{{','.join(EXAMPLES)}}} in namespace {options.namespace}")
    kubectl.apply_namespace()
    for example in EXAMPLES:
        print(kubectl("apply", "-f", str(ROOT / "examples" / example)).rstrip())
    headline("Training, evaluating, deploying")
    watch(kubectl, time.monotonic() + options.timeout)
    for example in EXAMPLES:
        predict(kubectl, example)
    headline("What there is now")
    print(kubectl("get", "modelship"))
    print(next_steps(options.namespace, [str(Path(sys.executable).parent), bin_path], kubeconfig))


def tool(name: str, *args: str) -> str:
    """What a script beside this one prints; ends the demo when it fails, which it has explained."""
    done = subprocess.run([ROOT / "tools" / name, *args], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout.strip()


class Kubectl:
    """`kubectl` in one namespace of the kind cluster."""

    def __init__(self, binary: str, kubeconfig: str, namespace: str) -> None:
        self.namespace = namespace
        self.command = [binary, "--kubeconfig", kubeconfig, "--namespace", namespace]

    def __call__(self, *args: str, stdin: str | None = None) -> str:
        """What kubectl prints; ends the demo with kubectl's own words when it fails."""
        done = subprocess.run([*self.command, *args], input=stdin, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{RED}kubectl {' '.join(args)}{RESET}\n{done.stderr.strip()}")
        return done.stdout

    def apply_namespace(self) -> None:
        """The namespace, under the restricted Pod Security Standard: all that Modelship starts passes it."""
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        self(
            "apply",
            "-f",
            "-",
            stdin=json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace, "labels": labels}}),
        )

    def items(self) -> list[dict]:
        """The examples' resources of the three kinds; what else the namespace holds is its user's."""
        files = [argument for example in EXAMPLES for argument in ("-f", str(ROOT / "examples" / example))]
        return [item for item in json.loads(self("get", *files, "-o", "json"))["items"] if item["kind"] in KINDS]


def headline(text: str) -> None:
    """A step's title."""
    print(f"\n{BOLD}== {text}{RESET}", flush=True)


def watch(kubectl: Kubectl, deadline: float) -> None:
    """Print each change of each resource until all are Ready; stop at once when one is Stalled."""
    start, shown = time.monotonic(), {}
    while True:
        items = kubectl.items()
        for item in items:
            key = f"{item['kind']}/{item['metadata']['name']}"
            line = describe(item)
            if shown.get(key) != line:
                shown[key] = line
                print(f"{DIM}{time.monotonic() - start:5.0f}s{RESET}  {key:<32} {line}", flush=True)
        stalled = [item for item in items if condition(item, "Stalled").get("status") == "True"]
        if stalled:
            names = ", ".join(f"{item['kind']}/{item['metadata']['name']}" for item in stalled)
            sys.exit(f"\n{RED}{names} cannot go on: see the message above, and `kubectl -n {kubectl.namespace} describe`.{RESET}")
        if items and all(condition(item, "Ready").get("status") == "True" for item in items):
            return
        if time.monotonic() > deadline:
            sys.exit(f"\n{RED}Not ready in time; `kubectl -n {kubectl.namespace} get modelship,pods` shows what is waiting.{RESET}")
        time.sleep(1)


def condition(item: dict, kind: str) -> dict:
    """The condition of this type; empty where there is none yet."""
    conditions = item.get("status", {}).get("conditions", [])
    return next((entry for entry in conditions if entry["type"] == kind), {})


def describe(item: dict) -> str:
    """One line: how far the resource is, in the words of its own status."""
    for kind, colour in (("Stalled", RED), ("Reconciling", ""), ("Ready", GREEN)):
        entry = condition(item, kind)
        if entry.get("status") == "True":
            return f"{colour}{entry['reason']}{RESET}: {entry.get('message', '')}"
    return "seen"


def predict(kubectl: Kubectl, example: str) -> None:
    """Ask the served model over HTTP and over gRPC, with rows of the real data."""
    name = kubectl("get", "-f", str(ROOT / "examples" / example / "deployment.yaml"), "-o", "jsonpath={.metadata.name}")
    endpoint = kubectl("get", "modeldeployment", name, "-o", "jsonpath={.status.endpoint.url}")
    (rows,) = (ROOT / "examples" / example).glob("rows.*")
    headline(f"Asking {name} ({endpoint}) with {rows.relative_to(ROOT)}")
    for extra in ([], ["--grpc"]):
        command = [
            str(Path(sys.executable).with_name("modelship")),
            "predict",
            name,
            "-n",
            kubectl.namespace,
            "--file",
            str(rows),
            *extra,
        ]
        print(
            f"{DIM}$ modelship predict {name} -n {kubectl.namespace} --file {rows.relative_to(ROOT)} {' '.join(extra)}{RESET}",
            flush=True,
        )
        subprocess.run(command, check=True)


def next_steps(namespace: str, programs: list[str], kubeconfig: str) -> str:
    """What a newcomer may type now, in a fresh shell in the repository."""
    path = ":".join(shlex.quote(folder) for folder in programs)
    return f"""{BOLD}Try next{RESET}
  export PATH={path}:$PATH KUBECONFIG={shlex.quote(kubeconfig)}
  kubectl -n {namespace} describe modelevaluation tumour-cv
  modelship report tumour-cv -n {namespace} -o report.html
  kubectl explain modeltraining.spec.training.optimizer
  kubectl -n {namespace} scale modeldeployment tumour --replicas 2
  docs/tutorial.md takes you through a model of your own; `make clean` removes everything.
"""


if __name__ == "__main__":
    main()
