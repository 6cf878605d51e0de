# Quorate. `make` builds bin/quorate; `make help` says what else there is.
#
# Needs GNU make, bash and Go (GO_LEAST or newer) in PATH. What tests hold us
# against (skopeo, umoci, docker, mmdebstrap, diffoscope …) is installed by
# `make tools` where apt and the right to use it are there.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

GO ?= go
GO_LEAST := 1.26
export PATH := $(CURDIR)/bin:$(PATH):/usr/local/go/bin

# The same source gives the same bytes, whatever the checkout's path, the
# machine's settings and its processor.
REPRODUCIBLE := CGO_ENABLED=0 GOFLAGS= GOAMD64=v1 GOARM64=v8.0 GOEXPERIMENT=
BUILD := build -trimpath -buildvcs=false -ldflags "-s -w -buildid="

# All else is compiled with the same settings as the program, so that the cache has
# what they share; each further set would compile all dependencies once more.
# Programs that tests build have them too.
ALIKE := CGO_ENABLED=0 GOFLAGS="$(strip $(GOFLAGS) -trimpath -buildvcs=false)"

# The checkers that come as Go modules, by version.
INTOTO := github.com/in-toto/in-toto-golang@v0.11.0
CRANE := github.com/google/go-containerregistry/cmd/crane@v0.22.1
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

# What the tests hold us against, as command=Debian package.
TOOLS := skopeo=skopeo umoci=umoci newuidmap=uidmap dockerd=docker.io ip=iproute2 sshd=openssh-server pgrep=procps \
	mmdebstrap=mmdebstrap diffoscope=diffoscope-minimal chromium=chromium npm=npm git=git jq=jq \
	qemu-aarch64-static=qemu-user-static in-toto-verify=in-toto softhsm2-util=softhsm2 pkcs11-tool=opensc openssl=openssl \
	gpg=gnupg ssh-keygen=openssh-client cargo=cargo pip3=python3-pip dpkg-source=dpkg-dev

# What makes the pairs of testdata/pairs, the same way.
TOOLS += gcc=gcc ar=binutils zip=zip cpio=cpio sqlite3=sqlite3 javac=default-jdk-headless perl=perl pigz=pigz \
	xz=xz-utils zstd=zstd msgfmt=gettext mksquashfs=squashfs-tools mke2fs=e2fsprogs gropdf=groff cmake=cmake \
	faketime=faketime uuidgen=uuid-runtime mogrify=imagemagick python3=python3 \
	pybabel=python3-babel locale-gen=locales sng=sng pdftotext=poppler-utils getfacl=acl setfattr=attr setcap=libcap2-bin

.PHONY: all
all: build

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: go
go:
	@if ! command -v $(GO) >/dev/null; then \
		echo "quorate needs Go $(GO_LEAST) or newer in PATH; see https://go.dev/dl/" >&2; exit 1; fi
	@have="$$($(GO) env GOVERSION)"; have="$${have#go}"; \
	if [[ "$$(printf '%s\n' "$(GO_LEAST)" "$$have" | sort -V | head -n 1)" != "$(GO_LEAST)" ]]; then \
		echo "quorate needs Go $(GO_LEAST) or newer, found $$have ($$(command -v $(GO))); see https://go.dev/dl/" >&2; exit 1; fi

.PHONY: build
build: go ## build bin/quorate (the default)
	$(REPRODUCIBLE) $(GO) $(BUILD) -o bin/quorate ./cmd/quorate

.PHONY: demo
demo: build demo-tools ## the main job on real input: lock, build, rebuild, agree, sign, verify
	examples/demo.sh

# Root needs nothing more. Another user needs newuidmap, for maintainer scripts
# that give files to other users.
.PHONY: demo-tools
demo-tools:
	@if (($$(id -u))) && ! command -v newuidmap >/dev/null; then \
		echo "installing uidmap" >&2; \
		sudo -n apt-get install -qq -y --no-install-recommends uidmap >/dev/null || \
		echo "newuidmap is missing; if a step says so too, as root: apt-get install uidmap" >&2; fi

.PHONY: test
test: ## everything; installs what is missing
	$(MAKE) --no-print-directory --jobs=2 tools build
	$(MAKE) --no-print-directory lint unit selfcheck real demo

.PHONY: unit
unit: go ## the tests that need nothing but Go
	$(ALIKE) $(GO) test -count=1 -timeout 10m ./...

.PHONY: race
race: go ## the same with the race detector; needs a C compiler
	CGO_ENABLED=1 $(GO) test -race -count=1 -timeout 20m ./...

# Only packages that have such a suite, since the others would be linked for nothing;
# first the one that takes as long as all others.
.PHONY: real
real: go ## the slow suites: real archives, other people's tools (TestReal…)
	QUORATE_REAL=1 $(ALIKE) $(GO) test -count=1 -timeout 60m -p 2 -run '^TestReal' ./cmd/quorate \
		$$($(GO) list -f '{{.ImportPath}} {{.Dir}}' ./... | while read -r package dir; do \
			if grep -qs '^func TestReal' "$$dir"/*_test.go; then echo "$$package"; fi; done)

.PHONY: upstream
upstream: go ## programs of others, built twice in other surroundings, and mended as diff says; as root
	QUORATE_UPSTREAM=1 $(GO) test -count=1 -timeout 60m -run '^TestUpstream$$' -v ./cmd/quorate

.PHONY: bench
bench: build ## benchmarks; some fetch real packages
	QUORATE_REAL=1 $(GO) test -run '^$$' -bench . -benchmem -timeout 60m -p 1 ./...

.PHONY: lint
lint: go ## gofmt, go vet for three systems, staticcheck
	@bad="$$("$$($(GO) env GOROOT)/bin/gofmt" -l $$(find . -name '*.go' -not -path './bin/*'))"; \
	if [[ -n "$$bad" ]]; then echo "not as gofmt writes it:" >&2; echo "$$bad" >&2; exit 1; fi
	GOOS=linux $(ALIKE) $(GO) vet ./...
	@# Nothing runs what is compiled for the others, so it is not optimised.
	GOOS=darwin $(ALIKE) $(GO) vet -gcflags='all=-N -l' ./...
	GOOS=windows $(ALIKE) $(GO) vet -gcflags='all=-N -l' ./...
	GOBIN="$(CURDIR)/bin" $(ALIKE) $(GO) install $(STATICCHECK)
	$(ALIKE) bin/staticcheck ./...

# Builds the same source in two folders of different depth, the second with an
# empty build cache, and compares the bytes.
.PHONY: selfcheck
selfcheck: go ## two checkouts in different paths give the same bin/quorate
	@tmp="$$(mktemp -d)"; trap 'chmod -R u+w "$$tmp"; rm -rf "$$tmp"' EXIT; \
	for checkout in one "two/further down"; do \
		mkdir -p "$$tmp/$$checkout"; \
		tar -c --exclude=./.git --exclude=./bin --exclude=./results . | tar -x -C "$$tmp/$$checkout"; \
	done; \
	(cd "$$tmp/one" && $(REPRODUCIBLE) $(GO) $(BUILD) -o "$$tmp/quorate.1" ./cmd/quorate); \
	(cd "$$tmp/two/further down" && GOCACHE="$$tmp/cache" $(REPRODUCIBLE) $(GO) $(BUILD) -o "$$tmp/quorate.2" ./cmd/quorate); \
	cmp "$$tmp/quorate.1" "$$tmp/quorate.2"; \
	echo "two checkouts, one binary: sha256:$$(sha256sum <"$$tmp/quorate.1" | cut -d ' ' -f 1)"

.PHONY: tools
tools: go ## install what the tests hold us against, where it is missing
	@lacks=(); for tool in $(TOOLS); do \
		PATH="$$PATH:/usr/sbin:/sbin" command -v "$${tool%%=*}" >/dev/null || lacks+=("$${tool#*=}"); done; \
	if (($${#lacks[@]})); then \
		sudo=(); if (($$(id -u))); then sudo=(sudo -n); fi; \
		if ! command -v apt-get >/dev/null || ! "$${sudo[@]}" true 2>/dev/null; then \
			echo "these are missing and cannot be installed from here: $${lacks[*]}; as root: apt-get install $${lacks[*]}" >&2; exit 1; fi; \
		echo "installing $${lacks[*]}" >&2; \
		export DEBIAN_FRONTEND=noninteractive; \
		"$${sudo[@]}" apt-get update -qq; \
		"$${sudo[@]}" apt-get install -qq -y --no-install-recommends "$${lacks[@]}" >/dev/null; \
	fi
	@# Some tests ask the machine's own apt, which knows nothing before its first update.
	@if ! compgen -G '/var/lib/apt/lists/*_Packages*' >/dev/null && command -v apt-get >/dev/null; then \
		sudo=(); if (($$(id -u))); then sudo=(sudo -n); fi; \
		"$${sudo[@]}" apt-get update -qq; \
	fi
	@command -v crane >/dev/null || GOBIN="$(CURDIR)/bin" $(ALIKE) $(GO) install $(CRANE)
	@command -v in-toto-golang >/dev/null || GOBIN="$(CURDIR)/bin" $(ALIKE) $(GO) install $(INTOTO)

# The committed source, beside the definition of its image.
.PHONY: image
image: build ## Quorate's own image, from its own module graph, in results/quorate
	rm -rf examples/quorate/source results/quorate && mkdir -p examples/quorate/source results
	git archive HEAD | tar -x -C examples/quorate/source
	bin/quorate build examples/quorate --output oci=results/quorate

.PHONY: clean
clean: ## remove what was built here
	rm -rf bin results examples/quorate/source
