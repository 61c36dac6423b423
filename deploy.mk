# Targets for whoever deploys; included by the Makefile.

DEPLOY := $(call stamp,deploy)
# Checkov wants old releases of much that others want new.
CHECKOV_VENV := .venv-checkov
CHECKOV := $(CHECKOV_VENV)/.installed-$(shell cksum < requirements/checkov.txt | cut -d' ' -f1)

.PHONY: secrets lint-deploy test-compose compose-possible test-podman test-k8s

secrets: ## Make the passwords that docker-compose.yml reads from secrets/, where there are none yet
	@sh secrets.sh secrets

lint-deploy: $(DEPLOY) $(CHECKOV) ## Check Dockerfiles and manifests (hadolint, checkov)
	@$(BIN)/hadolint services/*/Dockerfile serving/Dockerfile serving/Dockerfile.embedded
	@$(CHECKOV_VENV)/bin/checkov --config-file .checkov.yaml

test-compose: $(TEST) $(DEPLOY) ## Build and run docker-compose.yml on a Docker engine of its own (Debian, root)
	@LESIONLENS_COMPOSE_TESTS=1 $(BIN)/python -m pytest tests/compose $(PYTEST_ARGS)

test-podman: $(TEST) $(DEPLOY) ## Run the overlay `minimal` as Pods of Podman's; a part of test-compose (Debian, root, kubectl)
	@LESIONLENS_COMPOSE_TESTS=1 $(BIN)/python -m pytest tests/compose/test_kubernetes.py $(PYTEST_ARGS)

compose-possible: $(TEST) $(DEPLOY)
	@$(BIN)/python tests/compose/engine.py

test-k8s: $(TEST) $(DEPLOY) ## Check the Kubernetes manifests (needs kubectl 1.28 or newer)
	@LESIONLENS_K8S_TESTS=1 $(BIN)/python -m pytest tests/k8s $(PYTEST_ARGS)

$(DEPLOY): $(RUN)
	$(call install,deploy,about 40 MB)
	@touch $@

$(CHECKOV): $(BIN)/python
	@echo "Installing requirements/checkov.txt into $(CHECKOV_VENV) (about 290 MB; once)…"
	@$(PYTHON) -m venv $(CHECKOV_VENV)
	@$(CHECKOV_VENV)/bin/python -m pip install -qq --disable-pip-version-check --no-deps --require-hashes -r requirements/checkov.txt
	@touch $@
