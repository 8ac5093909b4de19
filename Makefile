# Two commands are all that a newcomer needs: `make demo` and `make test`. Each installs what is missing and shows its progress.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON := .venv/bin/python
LAYERS := $(PYTHON) tests/layers.py
VERBOSE := $(if $(filter-out 0,$(V)),--verbose)

export PYTHONPATH := $(CURDIR)/tests
# Without its bytecode each of some thousand Python processes compiles everything that it imports.
unexport PYTHONDONTWRITEBYTECODE

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

demo: setup ## back up a real cluster, lose all of it, and recover it, on loopback (V=1: all of Ansible's output)
	@$(PYTHON) -m demo $(VERBOSE)

drill: setup ## run the quarterly drill on loopback and write its report (the first run builds Loki: 3 to 5 minutes; V=1: all output)
	@$(PYTHON) -m drill $(VERBOSE)

test: setup ## unit, lint, sanity, integration and molecule, side by side, with a table at the end
	@$(LAYERS)

unit: setup ## the quick loop: no network, no servers, seconds
	@$(LAYERS) unit

lint: setup ## ruff, mypy --strict, ansible-lint (production), changelog fragments, the built artefact
	@$(LAYERS) lint

sanity: setup ## ansible-test sanity, zero ignores
	@$(LAYERS) sanity

integration: setup ## real servers on loopback (the first run builds Loki, step-ca and Vault: 7 to 14 minutes)
	@$(LAYERS) openbao loki step-ca integration drills vault integration-vault

molecule: setup ## roles and playbooks on hosts with systemd: containers of this machine, which takes root or sudo
	@$(LAYERS) loki molecule vault molecule-vault

bench: setup ## side by side with what a user would do without us (needs Vault as well)
	@$(LAYERS) vault bench

format: setup ## let ruff rewrite what it can
	@.venv/bin/ruff check --fix .
	@.venv/bin/ruff format .

setup: ## only install what the other targets need
	@tests/tools/setup.sh

lock: setup ## update tests/requirements.lock from tests/requirements.txt
	@.venv/bin/uv pip compile --no-config --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	    tests/requirements.txt --output-file tests/requirements.lock

clean: ## remove .venv and every output in this folder (the cache of built servers stays)
	rm -rf .venv .venv.lock .ansible .mypy_cache .pytest_cache .ruff_cache .hypothesis build tests/output
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

.PHONY: help demo drill test unit lint sanity integration molecule bench format setup lock clean
