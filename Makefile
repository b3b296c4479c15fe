# Needs GNU make, git and Python 3.11 or newer; everything else goes into .venv on first use.

PYTHON ?= python3
PROFILE = compact
DATA = weights cbsd68 bsd432

RUN = .venv/bin/python -m
# Before a command whose results shall not stand in data/mine/.
ELSEWHERE = @output=$$(mktemp -d) && trap 'rm -rf "$$output"' EXIT && CIRLIB_OUTPUT="$$output"
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.DEFAULT_GOAL = help
.PHONY: help reproduce publish test lab demo data index book notebooks lock

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile
	@echo "PYTHON=python3.12 after any of them: make the environment with that Python"

# Trained files and results are written whole or not at all, so no lock need outlive a killed run.
# It writes below data/mine/ alone, and ends with the agreement: 1 if a committed number is missed.
reproduce: .venv/.installed ## all tables and figures; PROFILE=compact (default), smoke, full or paper
	$(RUN) snakemake --cores all --nolock --rerun-incomplete --rerun-triggers mtime \
		--quiet all --config profile=$(PROFILE)
	$(RUN) cirlib.report.agreement $(PROFILE)

publish: .venv/.installed ## make what make reproduce has measured what is committed, and the index
	$(RUN) cirlib.report.publish $(PROFILE)

# passive: threads that wait for others do not take the cores of the other tests.
test: .venv/.installed ## style, notebooks, unit tests and the smoke batch; 10 minutes or more
	$(RUN) ruff check
	$(RUN) ruff format --check
	$(ELSEWHERE) OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive $(RUN) pytest --numprocesses logical --maxprocesses 8 \
		--dist loadfile --no-loadscope-reorder --nbval-lax --nbval-current-env cirlib/tests notebooks

lab: .venv/.installed ## JupyterLab, at the first notebook
	$(RUN) jupyterlab notebooks/00_start_here.ipynb

# Bound to localhost, like JupyterLab; the address that is opened carries a token, as there.
demo: .venv/.installed ## the slider demo as a page in the browser, for photos of your own
	JUPYTER_PATH=cirlib/demo/web $(RUN) voila notebooks/50_slider_demo.ipynb --template=cirlib \
		--token --TagRemovePreprocessor.remove_cell_tags=reading \
		--Voila.root_dir=. --VoilaConfiguration.file_allowlist=figures/full/demo_sweep.webp

data: .venv/.installed ## download metric weights and small data sets, or those of DATA="div2k ..."
	$(RUN) cirlib data $(DATA)

index: .venv/.installed ## write figures/index.md from what is committed
	$(RUN) cirlib.report.index

book: .venv/.installed ## the executed notebooks as a site: data/mine/book/README.html
	$(RUN) sphinx -q -E -W --keep-going -c cirlib/report . data/mine/book

notebooks: .venv/.installed ## run all notebooks anew in place, and clean them for a commit
	$(ELSEWHERE) $(RUN) nbconvert --execute --inplace \
		--config cirlib/report/nbconvert_config.py notebooks/*.ipynb

lock: .venv/.installed ## write requirements.lock anew from pyproject.toml
	$(RUN) uv pip compile --quiet --no-strip-extras --universal --generate-hashes --extra dev \
		--python-version 3.11 pyproject.toml -o requirements.lock

# The stamp says that an installation was finished. Without one, .venv is made anew.
.venv/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit( \
		"$(PYTHON) is Python %d.%d, and cirlib needs 3.11 or newer: make PYTHON=python3.11 ..." % v[:2])'
	@echo "Installing the environment into .venv: about 3 minutes and 6 GB"
	@if test -e $@; then rm $@; else $(PYTHON) -m venv --clear .venv; fi
	@$(RUN) pip install --quiet --require-hashes -r requirements.lock
	@$(RUN) pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@
