# The two commands: `make book` and `make test`. `make help` lists the rest.
PYTHON ?= python3
BUDGET ?= cpu
# Chapters, and tests, that run side by side, each with one thread.
JOBS ?= 2
DEVICE ?= cuda
PORT ?= 8000
COLAB_PYTHON ?= python3.12
COLAB_IMAGE ?= us-docker.pkg.dev/colab-images/public/runtime:latest
REQUIREMENTS ?= requirements.txt

BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
READY := .venv/ready
# The folder that .venv was made for: its scripts and the installed library name it.
MADE_FOR := $(shell cat .venv/ready 2>/dev/null)
ifneq ($(MADE_FOR),$(CURDIR))
.PHONY: $(READY)
endif
SITE := _build/html
export JOBS
export OMP_NUM_THREADS ?= 1
export SEQ2SEQ_CLAIMS := strict
export PYDEVD_DISABLE_FILE_VALIDATION := 1
# Threads that soon stop spinning when they wait: on busy cores torch is several times slower otherwise.
export GOMP_SPINCOUNT ?= 3000

.PHONY: help setup extras export format frontend book serve test lint looks words workflows check replay unit
.PHONY: notebooks gpu-notebooks talks gpu-visible gpu-plan gpu-report gpu-skip issue issue-body colab-image newest audit release-files
.PHONY: site browser records benchmarks mutants colab-check bare-check lighthouse release clean
.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' Makefile
	@echo "  BUDGET=smoke gives a quick look in minutes; BUDGET=full is for a GPU. PYTHON=python3.12 chooses another Python."

setup: $(READY) ## the virtual environment in .venv, with all that the book needs

$(READY): requirements.txt requirements-nodeps.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "The book needs Python 3.11 or newer; name one with: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@if [ -e $(READY) ] && [ "$(MADE_FOR)" != "$(CURDIR)" ]; then \
		echo "== .venv was made in another folder ($(MADE_FOR)), whose code it would run: it is made anew"; rm -rf .venv; fi
	@echo "== setting up .venv (some minutes the first time: PyTorch is large)"
	@$(PYTHON) -m venv .venv
	@$(PIP) -r $(REQUIREMENTS)
	@$(PIP) --no-deps -r requirements-nodeps.txt
	@$(PIP) --no-deps --editable .
	@mkdir -p .venv/etc/ipython
	@echo '{"IPKernelApp": {"log_level": 40}}' > .venv/etc/ipython/ipython_kernel_config.json  # errors only
	@echo "$(CURDIR)" > $(READY)

extras: $(READY) ## large or optional weights and recordings, where they can be had
	@$(BIN)/python tools/extras.py

export: $(READY) ## notebooks and modules from the chapters
	@$(BIN)/python tools/export.py

format: $(READY) ## the chapters' code cells in the book's format
	@$(BIN)/python tools/format_cells.py

frontend: $(READY)
	@$(BIN)/python tools/frontend.py

book: export frontend ## execute every chapter and build the site
	@echo "== building the site at the $(BUDGET) budget"
	SEQ2SEQ_BUDGET=$(BUDGET) $(BIN)/jupyter-book build . --quiet -W --keep-going
	@echo "To read it at http://localhost:$(PORT): make serve"

serve: ## serve the built site on http://localhost:8000
	@test -f $(SITE)/index.html || { echo "There is no site yet; run: make book"; exit 1; }
	$(BIN)/python -m http.server $(PORT) --bind 127.0.0.1 --directory $(SITE)

test: $(READY) ## every test: style, generated files, units, notebooks, the built site
	@bash tools/stages.sh lint check unit notebooks book site
	@echo "== all tests passed"

lint: $(READY) workflows
	@echo "== lint"
	$(BIN)/ruff check .
	$(BIN)/python tools/format_cells.py --check
	$(BIN)/codespell

workflows: $(READY) ## check the GitHub workflows with actionlint
	@$(BIN)/python tools/workflows.py

check: $(READY) ## generated files are up to date and records whole
	@echo "== generated files and records"
	$(BIN)/python tools/export.py --check
	$(BIN)/python tools/records.py --check

replay: $(READY) ## the first steps of what is on record, again: some minutes (BRIEF=1: of one run a study)
	@echo "== replaying what is on record"
	SEQ2SEQ_BUDGET=cpu OMP_NUM_THREADS=1 $(BIN)/python tools/records.py --replay --jobs $(JOBS) $(if $(BRIEF),--brief)

unit: $(READY)
	@echo "== unit tests"
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal tests --ignore tests/site || \
		{ echo "== once more and alone, what failed: a library may end a worker, a busy machine hold one up"; \
		$(BIN)/python -m pytest --last-failed tests --ignore tests/site; }

notebooks: $(READY) ## run every notebook through nbval at the smoke budget, each cell twice, and the solutions
	@echo "== notebooks at the smoke budget"
	$(BIN)/python tools/twice.py
	SEQ2SEQ_BUDGET=smoke $(BIN)/python -m pytest -n $(JOBS) --dist loadfile \
		--nbval-lax --nbval-current-env --nbval-cell-timeout=600 _build/twice

gpu-notebooks: BUDGET = full
gpu-notebooks: $(if $(WITH),,$(READY)) ## run every notebook on a GPU (DEVICE=cpu: on the CPU; WITH=python3: with the Python at hand)
	SEQ2SEQ_BUDGET=$(BUDGET) $(or $(WITH),$(BIN)/python) tools/gpu_notebooks.py --device $(DEVICE) $(if $(SHARD),--shard $(SHARD))

gpu-visible: $(if $(WITH),,$(READY)) ## what GPU there is; fails where torch cannot compute on one
	nvidia-smi
	$(or $(WITH),$(BIN)/python) tools/gpu_notebooks.py --visible

gpu-plan: ## the shards into which gpu.yml divides the notebooks, as JSON
	@$(PYTHON) tools/gpu_shards.py

gpu-report: ## put together what the shards left in _build/gpu-shards; fails if a notebook is missing or wrong
	@$(PYTHON) tools/gpu_shards.py --report _build/gpu-shards

gpu-skip: ## why a fork's pull request is not tried on a GPU
	@echo "The notebooks are not run on a GPU for a pull request from a fork, since its code would run on the project's own machine. A maintainer who has read it can run the workflow \"gpu\" by hand on a branch of this repository."

talks: BUDGET = full
talks: $(if $(WITH),,$(READY)) ## train the translators of talks, English to Chinese: four hours on a GPU, and a download
	SEQ2SEQ_BUDGET=$(BUDGET) $(or $(WITH),$(BIN)/python) -m seq2seq.kit.translators --out _build/talks

issue: ## tell of a failed run in an issue: make issue TITLE="…" LOG=file (needs gh)
	@$(PYTHON) tools/issue.py "$(TITLE)" "$(LOG)"

issue-body: ## the text of that issue
	@$(PYTHON) tools/issue.py --print "$(TITLE)" "$(LOG)"

site: browser book ## test the built site in Chromium
	@echo "== the built site"
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal tests/site || \
		{ echo "== once more and alone, what failed: a browser on a busy machine can stall"; $(BIN)/python -m pytest --last-failed tests/site; }

looks: browser frontend ## take the pictures of the site's components anew (tests/site/looks), after a change of their looks
	LOOKS=renew $(BIN)/python -m pytest tests/site/test_looks.py -k components
	@git --no-pager diff --stat tests/site/looks

words: $(READY) ## words on each page of the built site; fails where a chapter is too long
	@$(BIN)/python tools/words.py

browser: ## Chromium, for the tests of the site
	@if command -v chromium chromium-browser google-chrome google-chrome-stable >/dev/null || \
		[ -d "/Applications/Google Chrome.app" ] || [ -d /Applications/Chromium.app ]; then exit 0; fi; \
	echo "== installing Chromium"; \
	if ! command -v apt-get >/dev/null; then echo "Install Chromium or Chrome to test the site."; exit 1; fi; \
	root=; [ "$$(id -u)" = 0 ] || root=sudo; \
	$$root apt-get update -qq && $$root apt-get install -y -qq --no-install-recommends chromium >/dev/null

records: export ## run the studies that are missing or out of date (two to three hours, one at a time, resumable)
	SEQ2SEQ_BUDGET=cpu $(BIN)/python tools/records.py

# The book's environment, seen from one of its own that holds what only the comparison needs.
PEERS := _build/benchmarks
$(PEERS)/ready: benchmarks/requirements.txt $(READY)
	@echo "== setting up $(PEERS), with the libraries that are compared"
	@$(BIN)/python -m venv $(PEERS)
	@$(PEERS)/bin/python -c 'import site, sys; from pathlib import Path; \
		Path(site.getsitepackages()[0], "book.pth").write_text(f"import site; site.addsitedir({sys.argv[1]!r})\n")' \
		"$$($(BIN)/python -c 'import site; print(site.getsitepackages()[0])')"
	@grep -v '^#' benchmarks/requirements.txt | while read -r peer; do \
		$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check $$peer || \
		echo "$$peer does not install here; the table will say so"; done
	@touch $@

benchmarks: $(PEERS)/ready ## the book's models and other libraries', side by side (five minutes; wants idle cores)
	PYTHONPATH=.:tools $(PEERS)/bin/python benchmarks/side_by_side.py

colab-check: $(READY) ## run the notebooks as on a fresh Colab runtime (needs Python 3.12; THIRD=1: every third of them)
	$(BIN)/python tools/colab_check.py --python $(COLAB_PYTHON) $(if $(IF_ROOM),--if-room) $(if $(THIRD),--third)

colab-image: ## run the notebooks in Colab's own image (needs docker; GPUS=all for its GPU)
	docker run --rm $(if $(GPUS),--gpus $(GPUS) --env SEQ2SEQ_DEVICE=cuda) --env JOBS --volume "$(CURDIR)":/book --workdir /book \
		--entrypoint python3 $(COLAB_IMAGE) tools/colab_check.py --here

newest: ## the unit tests and the notebooks with the newest releases of what the book needs, in _build/newest
	rm -rf _build/newest
	git clone --quiet . _build/newest
	$(PYTHON) tools/newest.py > _build/newest/newest.txt
	make -C _build/newest setup unit notebooks REQUIREMENTS=newest.txt

audit: $(READY) ## known vulnerabilities of everything that the requirements bring
	@$(PYTHON) -m venv _build/audit && _build/audit/bin/python -m pip install --quiet pip-audit==2.10.1
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu$$//' > _build/audit/installed.txt
	_build/audit/bin/pip-audit --strict --no-deps --disable-pip -r _build/audit/installed.txt

bare-check: $(READY) ## run a notebook in an environment that holds only ipykernel, as a reader's may
	$(BIN)/python tools/colab_check.py --bare --python $(PYTHON)

mutants: $(READY) ## break the library line by line and see what no test notices: make mutants MUTANTS="rnn --sample 40"
	$(BIN)/python tools/mutants.py $(MUTANTS)

release: $(READY) ## commit and tag a release: make release TAG=v0.1.0
	@$(BIN)/python tools/release.py "$(TAG)"

release-files: ## make a GitHub release of a tag with its site: make release-files TAG=v0.1.0 SITE_TAR=artifact.tar (needs gh)
	mkdir -p _build/release && tar --extract --file $(SITE_TAR) --directory _build/release
	cd _build/release && zip --quiet --recurse-paths "../site-$(TAG).zip" .
	gh release create "$(TAG)" "_build/site-$(TAG).zip" --verify-tag --generate-notes

lighthouse: browser book ## measure the landing page and every chapter with Lighthouse
	$(BIN)/python tools/lighthouse.py

clean: ## remove what was built; the virtual environment stays
	rm -rf _build .pytest_cache .ruff_cache
