# Everything is built, run and tested from here. `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

export PATH := $(CURDIR)/.venv/bin:$(PATH)
export ANSIBLE_COLLECTIONS_PATH := $(CURDIR)/.cache/collections
export HYPOTHESIS_STORAGE_DIRECTORY := $(CURDIR)/.cache/hypothesis
PYTHON := .venv/bin/python
STAMPS := .cache/stamps
PIP := $(PYTHON) -m pip install -qq --only-binary :all: --disable-pip-version-check
STAGES := lint sanity unit molecule integration e2e faults-quick
DEEP_STAGES := deep-integration deep-e2e deep-faults deep-simulate

.PHONY: help setup collection $(STAGES) $(DEEP_STAGES) test test-deep simulate bench-campaign bench-status bench-peer bench-media bench-footprint demo lab-up lab-down clean distclean FORCE

help: ## list the targets
	@awk -F ':.*## ' '/^[^.\t ].*## / { printf "  %-42s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(STAMPS)/develop ## install the host packages and the tools' virtual environment

collection: $(STAMPS)/collection ## build the collection and install the artefact into .cache/collections

lint sanity unit molecule integration e2e faults-quick: $(STAMPS)/develop ## run one stage of the tests
	@$(PYTHON) tests/run.py $@

deep-integration deep-e2e deep-faults deep-simulate: $(STAMPS)/develop ## run one of the long stages
	@$(PYTHON) tests/run.py $@

lint molecule integration e2e faults-quick $(DEEP_STAGES): $(STAMPS)/collection

faults: $(STAMPS)/develop $(STAMPS)/collection ## kill every part at every moment of an upgrade, and show how each ended
	@$(PYTHON) tests/faults/faults.py

test: $(STAMPS)/develop $(STAMPS)/collection ## run all stages of the tests
	@$(PYTHON) tests/run.py $(STAGES)

test-deep: $(STAMPS)/develop $(STAMPS)/collection ## run all stages and the long ones
	@$(PYTHON) tests/run.py $(STAGES) $(DEEP_STAGES)

SIMULATION_PATH := .cache/src:roles/compute_relay/files:roles/guest_agent/files:tests
SEEDS ?= 1000

simulate: $(STAMPS)/develop ## run the parts under simulated faults: SEEDS=20000, or SEED=n for one with its trace
	@PYTHONPATH=$(SIMULATION_PATH) $(PYTHON) -m simulation \
	  $(if $(SEED),--seed $(SEED) $(if $(KEEP),--keep $(KEEP)),--seeds $(SEEDS)) \
	  $(if $(MUTATION),--mutation "$(MUTATION)")

bench-media: $(STAMPS)/runtime $(STAMPS)/collection ## compare changing discs in one call with loops: DOMAINS=50
	@$(PYTHON) tests/bench/bench.py media --domains $(or $(DOMAINS),50) --rounds $(or $(ROUNDS),6)

bench-footprint: $(STAMPS)/runtime $(STAMPS)/collection ## watch agent and relay, idle and busy: VMS=100 SECONDS=60
	@$(PYTHON) tests/bench/bench.py footprint --vms $(or $(VMS),100) --seconds $(or $(SECONDS),60)

CAMPAIGN := $(if $(PROFILE),profile,campaign) --vms $(or $(VMS),10000)

bench-campaign: $(STAMPS)/$(if $(PROFILE),develop,runtime) $(STAMPS)/collection ## time a campaign on emulated VMs: VMS=10000 PER_NODE=40, or with PROFILE=1 or GROWTH=1
	@$(PYTHON) tests/scale/bench.py $(if $(GROWTH),growth,$(CAMPAIGN)) --per-node $(or $(PER_NODE),40)

bench-status: $(STAMPS)/runtime $(STAMPS)/collection ## find one upgrade among many campaigns: CAMPAIGNS=1000 VMS=1000
	@$(PYTHON) tests/scale/bench.py status --campaigns $(or $(CAMPAIGNS),1000) --vms $(or $(VMS),1000)

bench-peer: $(STAMPS)/runtime $(STAMPS)/collection ## compare with Ansible, Mitogen and Salt, a VM being a host: VMS=100
	@$(PYTHON) tests/scale/bench.py peer --vms $(or $(VMS),100)

demo: $(STAMPS)/runtime $(STAMPS)/collection ## upgrade real virtual machines, in plain view
	@$(PYTHON) tests/lab/demo.py

lab-up: $(STAMPS)/runtime $(STAMPS)/collection

lab-up lab-down: lab-%: ## start or stop the lab of two compute nodes with guests
	@python3 tests/lab/lab.py $*

clean: ## remove what builds and tests made; keep the tools and the lab's images
	rm -rf .cache/{collections,dist,hypothesis,mypy,pytest,reports,ruff,sanity,sources} $(STAMPS)/collection
	find plugins roles tests -name __pycache__ -prune -exec rm -rf {} +

distclean: clean ## stop the lab and remove everything that is not source
	[ ! -e .cache/lab ] || python3 tests/lab/lab.py down
	rm -rf --one-file-system .cache .venv

$(STAMPS)/packages: tests/lab/packages.txt
	@mkdir -p $(@D)
	@packages="python3-venv genisoimage libarchive-tools shellcheck $$(sed 's/#.*//' $< | xargs)"; \
	installed=$$(dpkg-query --show --showformat '$${db:Status-Abbrev}\n' $$packages 2>/dev/null | grep -c '^ii' || true); \
	if [ "$$installed" -ne "$$(wc -w <<< "$$packages")" ]; then \
	  echo "host packages: installing $$packages"; \
	  apt-get update --quiet=2; \
	  DEBIAN_FRONTEND=noninteractive apt-get install --quiet=2 --yes --no-install-recommends --no-upgrade \
	    $$packages > /dev/null; \
	fi
	@touch $@

# The link makes the checkout importable as ansible_collections.isolift.vm, for pytest and mypy.
$(STAMPS)/runtime: requirements.txt | $(STAMPS)/packages
	@echo "virtual environment: what the controller needs"
	@/usr/bin/python3 -m venv .venv
	@$(PIP) -r $<
	@mkdir -p .cache/src/ansible_collections/isolift
	@ln -sfn ../../../.. .cache/src/ansible_collections/isolift/vm
	@touch $@

$(STAMPS)/develop: requirements-dev.txt $(STAMPS)/runtime
	@echo "virtual environment: test tools"
	@$(PIP) -r $<
	@touch $@

$(STAMPS)/collection: .cache/sources $(STAMPS)/runtime
	@rm -rf .cache/dist
	@ansible-galaxy collection build --output-path .cache/dist
	@ansible-galaxy collection install --force --offline --collections-path .cache/collections .cache/dist/*.tar.gz
	@touch $@

# The checksums of all sources. Written anew only when a file changed, came or went.
.cache/sources: FORCE
	@mkdir -p $(@D)
	@git ls-files --cached --others --exclude-standard -z -- . ':!tests' \
	  | xargs -0 sh -c 'for f; do [ ! -e "$$f" ] || sha256sum "$$f"; done' sh > $@.new
	@cmp --silent $@.new $@ && rm $@.new || mv $@.new $@
