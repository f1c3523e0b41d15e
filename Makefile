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
STAGES := lint sanity unit molecule integration e2e

.PHONY: help setup collection $(STAGES) test demo lab-up lab-down clean distclean FORCE

help: ## list the targets
	@awk -F ':.*## ' '/^[^.\t ].*## / { printf "  %-42s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(STAMPS)/develop ## install the host packages and the tools' virtual environment

collection: $(STAMPS)/collection ## build the collection and install the artefact into .cache/collections

lint sanity unit molecule integration e2e: $(STAMPS)/develop ## run one stage of the tests
	@$(PYTHON) tests/run.py $@

lint molecule integration e2e: $(STAMPS)/collection

test: $(STAMPS)/develop $(STAMPS)/collection ## run all stages of the tests
	@$(PYTHON) tests/run.py $(STAGES)

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
	@packages="python3-venv libarchive-tools shellcheck $$(sed 's/#.*//' $< | xargs)"; \
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
