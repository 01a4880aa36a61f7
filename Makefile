# Everything a contributor runs; `make` alone lists it. Needs Python 3.10 or later and a C compiler.

# The interpreter that the environments are made with.
PYTHON ?= python3
# What pip is told about torch. The default names the CPU build; `TORCH=torch` takes the build that
# the package index serves first, and `TORCH='torch==2.6.0'` one of your own choice.
TORCH ?= -c constraints.txt

giotto := .venv
modern := .venv-modern
bench := .venv-bench

# Small tensors gain nothing from many threads, and on many cores they lose much: the tests run in
# processes instead.
WORKERS ?= 2
export OMP_NUM_THREADS ?= 2

.NOTPARALLEL:
.DEFAULT_GOAL := help
.PHONY: help demo test lint types docs sharp long bench reproductions scorecards gallery clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-13s  %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(giotto)/.installed  ## train a small network, audit it, and write demo/report.html
	$(giotto)/bin/python examples/demo.py

test: lint types docs sharp long  ## check everything: style, types, docs, and the tests on both stacks
	@for stage in $^; do echo "passed: $$stage"; done

lint: $(modern)/.installed  ## check style and formatting with ruff
	$(modern)/bin/ruff check .
	$(modern)/bin/ruff format --check .

types: $(modern)/.installed  ## check types with mypy --strict
	$(modern)/bin/mypy --strict

docs: $(modern)/.installed  ## build the documentation; a warning is an error
	rm -rf docs/generated docs/_build
	$(modern)/bin/sphinx-build --quiet -W --keep-going -b html docs docs/_build/html

pytest = OMP_NUM_THREADS=1 $(1)/bin/python -m pytest -n $(WORKERS) --dist worksteal

# pytest exits with 5 where it selects no test at all.
sharp: $(giotto)/.installed-test $(modern)/.installed  ## run the quick tests on both stacks
	$(call pytest,$(giotto)) -m "not long" || [ $$? -eq 5 ]
	$(call pytest,$(modern)) -m "not long" || [ $$? -eq 5 ]

long: $(giotto)/.installed-test $(modern)/.installed  ## run the tests that take more than a few seconds
	$(call pytest,$(giotto)) -m long || [ $$? -eq 5 ]
	$(call pytest,$(modern)) -m long || [ $$? -eq 5 ]

bench: $(bench)/.installed $(modern)/.installed  ## measure time and memory beside the peers (an hour; wants a quiet machine)
	$(bench)/bin/python benchmarks/capture.py
	$(bench)/bin/python benchmarks/homology.py
	$(bench)/bin/python benchmarks/mst.py
	$(bench)/bin/python benchmarks/ph_dimension.py
	$(bench)/bin/python benchmarks/tropical.py
	$(bench)/bin/python benchmarks/surfaces.py
	$(bench)/bin/python benchmarks/neurovarieties.py
	$(bench)/bin/python benchmarks/fisher.py
	$(bench)/bin/python benchmarks/landscape.py
	$(modern)/bin/python benchmarks/callbacks.py
	$(bench)/bin/python benchmarks/scaling.py
	$(bench)/bin/python docs/paper/tables.py

reproductions: $(modern)/.installed  ## find published results again and write docs/reproductions (more than an hour)
	for script in $(filter-out %/pages.py %/reproduction.py,$(wildcard examples/reproductions/*.py)); do \
	    $(modern)/bin/python $$script --output docs/reproductions || exit 1; \
	done
	$(modern)/bin/python examples/reproductions/pages.py docs/reproductions
	$(modern)/bin/python docs/paper/tables.py

scorecards: $(modern)/.installed  ## score all measures on the zoos' records and write docs/scorecards (ten minutes)
	OMP_NUM_THREADS=1 $(modern)/bin/python benchmarks/zoo/page.py

gallery: $(modern)/.installed  ## run the examples and write docs/gallery.md (some minutes)
	$(modern)/bin/python docs/gallery/make.py

clean:  ## remove all that make has made, the environments included
	rm -rf $(giotto) $(modern) $(bench) demo build dist docs/_build docs/generated
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find geomprobe tests examples benchmarks docs -name __pycache__ -type d -prune -exec rm -rf {} +

# --- environments -------------------------------------------------------------------------------
# A stamp inside an environment says what has been installed there. Without any stamp the last
# installation failed, and the environment is made anew.

$(giotto)/.installed: pyproject.toml constraints.txt constraints-giotto.txt
	$(call install,giotto,constraints-giotto.txt)

$(giotto)/.installed-test: pyproject.toml constraints.txt constraints-giotto.txt
	$(call install,giotto$(comma)test,constraints-giotto.txt)
	@touch $(@D)/.installed

$(modern)/.installed: pyproject.toml constraints.txt constraints-modern.txt
	$(call install,dev,constraints-modern.txt)

$(bench)/.installed: pyproject.toml constraints.txt constraints-modern.txt
	$(call install,bench,constraints-modern.txt)

comma := ,

define install
	@$(PYTHON) -c 'import sys; v = sys.version.split()[0]; sys.exit("geomprobe needs Python 3.10 \
	or later, and $(PYTHON) is " + v + ": say make PYTHON=python3.12, for example" \
	if sys.version_info < (3, 10) else 0)'
	@ls $(@D)/.installed* >/dev/null 2>&1 || rm -rf $(@D)
	@rm -f $(@D)/.installed*
	@test -d $(@D) || $(PYTHON) -m venv $(@D)
	@echo "installing geomprobe[$(1)] into $(@D); the first time this takes some minutes"
	@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check \
	    --editable '.[$(1)]' -c $(2) $(TORCH) || { $(hint); exit 1; }
	@touch $@
endef

hint = printf '%s\n' '' \
    'The installation failed. If pip found no matching torch, point it at an index or a folder that' \
    'has the CPU builds of torch, by the variable PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS, or choose' \
    'another build, for example: make $(MAKECMDGOALS) TORCH=torch' >&2
