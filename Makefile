# `make help` lists the targets. Everything is rebuilt only when its inputs changed.
.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NAMESPACE ?= demo

include tools/cluster.mk

.PHONY: help demo test test-fast unit integration e2e venv client generate verify lint format bench install uninstall clean lock

help: ## List the targets.
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sort -u | awk -F':.*## ' '{printf "  \033[1m%-14s\033[0m %s\n", $$1, $$2}'

demo: machine client install ## Cluster, images, operator, then examples/tabular and examples/image end to end.
	$(BIN)/python tools/demo.py --namespace $(NAMESPACE)

test: test-machine lint test-fast e2e ## All tiers: lint, unit, integration, end to end on kind.

test-fast: test-machine venv test-packages ## Unit and integration tests: no cluster needed.
	$(BIN)/python -m pytest -m "unit or integration" $(PYTEST_ARGS)

unit: venv ## Unit tests: only Python needed.
	$(BIN)/python -m pytest -m unit $(PYTEST_ARGS)

integration: test-machine venv test-packages ## Integration tests: kube-apiserver and etcd, Triton and nginx, on loopback.
	$(BIN)/python -m pytest -m integration $(PYTEST_ARGS)

e2e: machine venv install ## End-to-end tests on the kind cluster.
	$(BIN)/python -m pytest -m e2e --durations=15 $(PYTEST_ARGS)

.PHONY: test-machine test-packages
test-machine: # what it lacks is said before anything is built
	tools/install-debian-packages python
	tools/check-machine test

test-packages:
	tools/install-debian-packages test

venv: $(VENV)/.installed ## The development environment, in .venv.

$(VENV)/.installed: pyproject.toml requirements/constraints.txt
	$(call install-python-packages,operator,trainer,dev)

# The `modelship` command alone, without torch: what the demo needs.
client: $(if $(wildcard $(VENV)/.installed),venv,$(VENV)/.client)

$(VENV)/.client: pyproject.toml requirements/constraints.txt
	$(call install-python-packages,client)

comma := ,
define install-python-packages
	tools/install-debian-packages python
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements/constraints.txt uv
	$(BIN)/python tools/localcluster/uv.py pip install --quiet --python $(BIN)/python -c requirements/constraints.txt \
	  -e '.[$(1)$(if $(2),$(comma)$(2))$(if $(3),$(comma)$(3))]'
	touch $@
endef

lock: venv ## Rewrite requirements/constraints.txt with the newest versions that fit.
	tools/lock

generate: venv ## Write crds/, the chart's copies, docs and golden files from their sources.
	tools/generate

verify: generate ## Generate, then fail on any difference or untracked file.
	git diff --exit-code
	test -z "$$(git status --porcelain)"

format: venv ## Format the code.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: venv ## ruff, mypy strict, import contracts, shellcheck, helm lint.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/shellcheck $$(git ls-files | xargs -r grep -lE '^#!.*\b(ba)?sh$$')
	"$$(tools/bin-path helm)/helm" lint --quiet --strict charts/modelship

install: images ## Install or upgrade the operator in the cluster with Helm.
	tools/install

uninstall: ## Remove the operator from the cluster; custom resources and their definitions stay.
	kubeconfig="$$(tools/cluster kubeconfig)" && bin="$$(tools/bin-path helm)" \
	  && "$$bin/helm" uninstall modelship --namespace modelship-system --kubeconfig "$$kubeconfig"

bench: venv ## Measure: control plane against a bare client, trainer against a plain loop.
	status=0; for each in control_plane trainer_throughput; do $(BIN)/python benchmarks/$$each.py || status=1; done; exit $$status

clean: ALL = 1
clean: cluster-clean ## Remove the cluster, the images, the caches and .venv.
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
