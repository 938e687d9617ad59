# Everything is installed into .venv, from the locks; what Orchard writes is in .orchard.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.SILENT:
.DEFAULT_GOAL := help

PYTHON ?= python3
TEST_SECONDS ?= 4800
TEST_WORKERS ?= 2
BIN := .venv/bin
PIP_FLAGS := --disable-pip-version-check --no-input --quiet
UV := uv==0.13.9
TEST_LOCKS := requirements.lock requirements-llm.lock requirements-test.lock
BUILDER := '/^setuptools==/,/[^\\]$$/p'

# flock: two makes at once in one checkout install one after the other.
INSTALL := flock Makefile $(MAKE) --no-print-directory _install LOCKS

.PHONY: help demo test drill lint format llm pictures lock clean reset install _browser _hosts _install _python _system _torch

help: ## this list
	awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile

demo: install ## install, then run RELAY at its laptop preset: minutes on two cores
	$(BIN)/orchard run relay --preset laptop

test: ## install what tests need on top, then run the tests; ARGS="-m 'not slow'" chooses
	$(INSTALL)="$(TEST_LOCKS)"
	$(MAKE) --no-print-directory _browser _hosts
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadscope --session-timeout=$(TEST_SECONDS) $(ARGS)

lint: ## ruff and basedpyright: style, format, types
	$(INSTALL)="$(TEST_LOCKS)"
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright

format: ## mend style and format in place
	$(INSTALL)="$(TEST_LOCKS)"
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

install: ## .venv with what a run needs, and the orchard command in it
	$(INSTALL)=requirements.lock

llm: ## install what policies of Hugging Face need on top: transformers and peft
	$(INSTALL)="requirements.lock requirements-llm.lock"

drill: ## play every fault on a cluster of hosts on this machine, as root: an hour on two cores; ARGS="worker host"
	$(INSTALL)=requirements.lock
	$(MAKE) --no-print-directory _hosts
	$(BIN)/orchard drill $(or $(ARGS),--all)

pictures: ## make the pictures of docs/ anew, from those that the browser tests keep: minutes on two cores
	$(INSTALL)="$(TEST_LOCKS)"
	$(MAKE) --no-print-directory _browser
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m browser tests/browser
	$(BIN)/python -m docs.pictures

lock: _python ## resolve the dependencies of pyproject.toml anew, into the locks
	folder=$$(mktemp -d)
	trap 'rm -rf "$$folder"' EXIT
	"$(PYTHON)" -m venv "$$folder/venv"
	python="$$folder/venv/bin/python"
	wanted() { "$$python" -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb')); print($$1, sep='\n')"; }
	pins() { "$$python" -m pip freeze --all | sed -E '/^pip==/d; s/\+[A-Za-z0-9.]+$$//'; }
	wanted "*p['build-system']['requires'], *p['project']['dependencies']" >"$$folder/run.in"
	wanted "*p['project']['optional-dependencies']['llm']" >"$$folder/llm.in"
	wanted "*p['dependency-groups']['test']" >"$$folder/test.in"
	"$$python" -m pip install $(PIP_FLAGS) -r "$$folder/run.in"
	pins >"$$folder/run"
	"$$python" -m pip install $(PIP_FLAGS) -r "$$folder/llm.in" -c "$$folder/run"
	pins | grep -vxFf "$$folder/run" >"$$folder/llm"
	"$$python" -m pip install $(PIP_FLAGS) -r "$$folder/test.in" -c "$$folder/run" -c "$$folder/llm"
	pins | grep -vxFf "$$folder/run" | grep -vxFf "$$folder/llm" >"$$folder/test"
	# The hash of this machine's torch beside those of the index, which has no build for a CPU only.
	"$$python" -m pip download $(PIP_FLAGS) --no-deps --dest "$$folder/torch" "$$(grep '^torch==' "$$folder/run")"
	torch=$$(sha256sum "$$folder"/torch/* | cut -d' ' -f1)
	"$$python" -m pip install $(PIP_FLAGS) $(UV)
	resolved() { "$$folder/venv/bin/uv" pip compile --quiet --no-header --no-annotate --python "$$python" "$$@"; }
	hashed() {
	    resolved --universal --no-deps --generate-hashes "$$1" |
	        sed -E "s/^torch==.*/&\n    --hash=sha256:$$torch \\\\/"
	}
	# What Pythons other than this one need besides what is known: pins with a marker.
	elsewhere() {
	    resolved --universal --python-version 3.11 -c "$$folder/known" "$$1" >"$$folder/all"
	    grep -E "^[^ ;]+ ; python_full_version [<>=]+ '[0-9.]+'$$" "$$folder/all" |
	        grep -vf <(sed -E 's/ ;.*//; s/.*/^& ;/' "$$folder/known") || true
	}
	resolved --no-deps "$$folder/run" >"$$folder/known"
	elsewhere "$$folder/run.in" | tee -a "$$folder/known" >>"$$folder/run"
	resolved --no-deps "$$folder/llm" >>"$$folder/known"
	elsewhere "$$folder/llm.in" | tee -a "$$folder/known" >>"$$folder/llm"
	resolved --no-deps "$$folder/test" >>"$$folder/known"
	elsewhere "$$folder/test.in" >>"$$folder/test"
	# What the torch of the index names besides; this machine's own may be for a CPU only.
	grep '^torch==' "$$folder/run" >"$$folder/torch.in"
	resolved -c "$$folder/known" "$$folder/torch.in" | grep -vxFf "$$folder/known" >"$$folder/cuda" || {
	    echo "uv finds no build for CUDA of $$(cat "$$folder/torch.in"), whose libraries are to be locked" >&2
	    echo "run make lock on Linux, with an index that has one" >&2
	    exit 1
	}
	made="# Made by \`make lock\` from pyproject.toml, on Python 3.11 and Linux; not edited by hand."
	what="# What a run needs. CUDA's libraries are in requirements-cuda.lock."
	{ printf '%s\n' "$$made" "$$what" "" && hashed "$$folder/run"; } >requirements.lock
	what="# What torch needs on top of requirements.lock where its build is for CUDA."
	{ printf '%s\n' "$$made" "$$what" "" && hashed "$$folder/cuda"; } >requirements-cuda.lock
	what="# What policies of Hugging Face need on top of requirements.lock."
	{ printf '%s\n' "$$made" "$$what" "" && hashed "$$folder/llm"; } >requirements-llm.lock
	what="# What tests and development need on top of requirements.lock and requirements-llm.lock."
	{ printf '%s\n' "$$made" "$$what" "" && hashed "$$folder/test"; } >requirements-test.lock

clean: ## remove caches, and nothing that a run wrote
	find . -path ./.venv -prune -o -path ./.orchard -prune -o -name __pycache__ -type d -exec rm -rf {} +
	rm -rf .pytest_cache .ruff_cache build *.egg-info

reset: ## remove all that Orchard wrote here: runs, datasets, and the local registry
	rm -rf .orchard

_install:
	command -v git >/dev/null || $(MAKE) --no-print-directory _system MISSING=git PACKAGE=git
	here=$$(pwd)
	if [ "$$(cat .venv/.made-in 2>/dev/null || echo "$$here")" != "$$here" ] || ! $(BIN)/python -m pip --version >/dev/null 2>&1; then
	    $(MAKE) --no-print-directory _python
	    "$(PYTHON)" -m venv --clear .venv
	fi
	echo "$$here" >.venv/.made-in
	changed=()
	for lock in $(LOCKS) requirements-cuda.lock; do
	    cmp -s "$$lock" ".venv/.$$lock" || changed+=("$$lock")
	done
	if [ $${#changed[@]} -gt 0 ]; then
	    echo "Installing what the locks name into .venv; the first time takes a few minutes."
	    case " $${changed[*]} " in *" requirements.lock "*) $(MAKE) --no-print-directory _torch ;; esac
	    locks=($(LOCKS))
	    # Of torch's builds, those for CUDA name its libraries.
	    if $(BIN)/python -m pip show torch | grep -E '^Requires:.* (cuda|nvidia)-' >/dev/null; then
	        locks+=(requirements-cuda.lock)
	    fi
	    wanted=$$(printf -- '-r %s ' "$${locks[@]}")
	    # Two packages come as source: the setuptools of the lock builds them, not the newest that an index has.
	    sed -n $(BUILDER) requirements.lock >.venv/.setuptools
	    $(BIN)/python -m pip install $(PIP_FLAGS) --no-deps --require-hashes -r .venv/.setuptools
	    $(BIN)/python -m pip install $(PIP_FLAGS) --no-build-isolation --no-deps --require-hashes $$wanted
	    # Refused is what a package needs and no lock names. Asked at once, pip wants the newest of some, with its hash:
	    # of those that another package needs with extras.
	    $(BIN)/python -m pip install $(PIP_FLAGS) --dry-run --require-hashes $$wanted
	    for lock in "$${changed[@]}"; do cp "$$lock" ".venv/.$$lock"; done
	fi
	if ! cmp -s pyproject.toml .venv/.pyproject.toml || [ ! -x $(BIN)/orchard ]; then
	    $(BIN)/python -m pip install $(PIP_FLAGS) --no-deps --no-build-isolation --editable .
	    cp pyproject.toml .venv/.pyproject.toml
	fi

# The build of torch that this machine's indexes prefer. pip itself would prefer one whose hash its index tells, and so
# bring 3 GB of CUDA where a wheel for the processor lies in a folder.
_torch:
	folder=$$(mktemp -d)
	trap 'rm -rf "$$folder"' EXIT
	pin=$$(grep -oE '^torch==\S+' requirements.lock)
	$(BIN)/python -m pip download $(PIP_FLAGS) --no-deps --dest "$$folder" "$$pin"
	hash=sha256:$$(cat "$$folder"/*.whl | sha256sum | cut -d' ' -f1)
	if ! grep -q -- "--hash=$$hash" requirements.lock; then
	    echo "$$(ls "$$folder") is none of the builds of $$pin that requirements.lock names" >&2
	    echo "if you trust where it came from, add --hash=$$hash to $$pin there" >&2
	    exit 1
	fi
	$(BIN)/python -m pip install $(PIP_FLAGS) --no-deps --no-index -f "$$folder" "$$pin"

# A Python that can make .venv.
_python:
	if ! command -v "$(PYTHON)" >/dev/null; then
	    [ "$(PYTHON)" = python3 ] || { echo "PYTHON=$(PYTHON) is no command; try: make demo PYTHON=python3" >&2; exit 1; }
	    $(MAKE) --no-print-directory _system MISSING=python3 PACKAGE="python3 python3-venv"
	fi
	version=$$("$(PYTHON)" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
	case $$version in
	    3.11 | 3.12 | 3.13) ;;
	    *)
	        echo "$(PYTHON) is Python $$version; fits: 3.11, 3.12, 3.13, which torch and Ray have wheels for" >&2
	        echo "name another, as in: make demo PYTHON=python3.11" >&2
	        exit 1 ;;
	esac
	"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null ||
	    $(MAKE) --no-print-directory _system MISSING="the venv module of Python $$version" PACKAGE="python$$version-venv"

# The browser that tests drive, and letters for it. Where it cannot be installed those tests skip, and say why.
_browser:
	fonts=$$(fc-list 2>/dev/null || true)
	if command -v chromium >/dev/null && [ -n "$$fonts" ]; then exit 0; fi
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
	    $(MAKE) --no-print-directory _system MISSING=chromium PACKAGE="chromium fontconfig fonts-dejavu-core" ||
	        echo "chromium cannot be installed; tests in a browser are left out" >&2
	fi

# Several hosts on one machine. Where their tools cannot be installed those tests skip, and say why.
_hosts:
	if command -v ip >/dev/null && command -v bridge >/dev/null; then exit 0; fi
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
	    $(MAKE) --no-print-directory _system MISSING=ip PACKAGE=iproute2 ||
	        echo "ip cannot be installed; tests on several hosts are left out" >&2
	fi

# What only the system can bring: as root on Debian it is installed, else the command is told.
_system:
	if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
	    echo "$(MISSING) is not on this machine; on Debian: sudo apt-get install $(PACKAGE)" >&2
	    exit 1
	fi
	echo "Installing $(PACKAGE): $(MISSING) is not on this machine."
	{ apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $(PACKAGE); } >/dev/null
