# VENV: where the virtual environment goes. PYTHON: what makes it, 3.11 or newer. EXTRAS: extras of pyproject.toml to
# install besides, such as cuda12 or cuda13. ARGS: further options of the training run.
VENV ?= .venv
# The newest that can make one, since jax convolves faster from Python 3.12 on. A name may stand for nothing that runs.
can_make = $(shell $(1) -c 'import ensurepip; print("$(1)")' 2>/dev/null)
PYTHON ?= $(firstword $(foreach name,python3.13 python3.12 python3.11 python3,$(call can_make,$(name))) python3)
EXTRAS ?=
ARGS ?=

empty :=
space := $(empty) $(empty)
comma := ,
concat = $(subst $(space),$(2),$(strip $(1)))
# A file a set of extras says that it is installed: .installed-core, .installed-core-test-cuda12, ...
installed = $(VENV)/.installed-$(call concat,core $(1) $(subst $(comma), ,$(EXTRAS)),-)

.PHONY: train test slow lint

train: $(call installed,tfds)
	$(VENV)/bin/python -m unet_jax.train --workdir runs/a $(ARGS)

test: $(call installed,test)
	$(VENV)/bin/python -m pytest -n 2 $(ARGS)

slow: $(call installed,test)
	$(VENV)/bin/python -m pytest -m slow -n 2 $(ARGS)

lint: $(call installed,test dev)
	$(VENV)/bin/python -m ruff check .
	$(VENV)/bin/python -m ruff format --check .
	$(VENV)/bin/python -m basedpyright --pythonpath $(VENV)/bin/python

$(VENV)/bin/python:
	@python='$(PYTHON)'; echo "$$python makes $(VENV)"; $$python -m venv $(VENV) || \
		{ rm -f $@; echo 'Give a Python with venv, such as apt install python3-venv'; exit 1; }

$(VENV)/.installed-%: pyproject.toml | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install -e '.$(addprefix [,$(addsuffix ],$(call concat,$(filter-out core,$(subst -, ,$*)),$(comma))))'
	touch $@
