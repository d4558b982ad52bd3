# make demo   see the main job, then try it with curl
# make test   run every test
# make deb    build the Debian package, in target/debian
# make load   measure it all beside nginx and Varnish; LOAD="--quick" or LOAD="--only hit-10" passes options on
# make instructions  count the instructions of the parts of a batch, and fail if some take more than when they were
#                    last accepted; ACCEPT=1 accepts them
# make parts  measure the time of the same parts; PARTS="hit" chooses
# make drill  let the VMS die and come back under load; DRILL="--away 5s" passes options on
# make model  play a million schedules of everything that happens to batches, and look for a leak; SCHEDULES=5000000 is more
# make siege  measure what others notice while it is attacked; SIEGE="--quick" passes options on
# make soak   let everything happen at once for an hour, and hold each answer against the VMS; SOAK="--for 2m" is shorter
# make fuzz   fuzz every target for a minute, see tests/fuzz/README.md; FUZZ="--seconds 600 --target ids" passes options on
# make mutants  change what decides who is shown what, here and there, and see whether tests notice: some hours
# Each installs what it needs and is not there.

CARGO ?= cargo

# Debian has nginx, varnishd, ip and others where only root looks.
export PATH := $(PATH):/usr/local/sbin:/usr/sbin:/sbin

.PHONY: demo test deb load instructions parts drill model siege soak fuzz mutants

demo:
	@sh .ci/need cmake
	$(CARGO) run --locked --release -- demo

# Tests whose tools cannot be had are skipped by name, but in CI they fail. Those of the packages are Debian's.
test:
	@sh .ci/need cmake
	@sh .ci/need curl gzip python3 openssl h2load=nghttp2-client slowhttptest varnishtest=varnish prometheus promtool=prometheus \
		protoc=protobuf-compiler chromium chromedriver=chromium-driver || [ -z "$$CI" ]
	@! command -v apt-get >/dev/null || sh .ci/need xz=xz-utils strip=binutils lintian man=man-db ip=iproute2 \
		nsenter=util-linux systemd-analyze=systemd npm node=nodejs pip3=python3-pip || [ -z "$$CI" ]
	@sh .ci/tools || [ -z "$$CI" ]
	$(CARGO) test --locked --workspace

# The program is built as for every release; cargo-deb packs it with what conf/debian/build makes.
deb:
	@sh .ci/need cmake xz=xz-utils strip=binutils dpkg-shlibdeps=dpkg-dev
	@sh .ci/tools package
	$(CARGO) build --locked --release --bin vms-edge
	conf/debian/build "$${CARGO_TARGET_DIR:-target}/release/vms-edge" target/debian

# Each is built on its own, so that what is measured is what is released.
load:
	@sh .ci/need cmake nginx varnishd=varnish
	$(CARGO) build --locked --release --bin vms-edge
	$(CARGO) build --locked --release --package vms-edge-load
	"$${CARGO_TARGET_DIR:-target}/release/vms-edge-load" bench $(LOAD)

instructions:
	@sh .ci/need cmake valgrind
	$(CARGO) bench --locked --bench instructions -- $(if $(ACCEPT),--accept)

parts:
	@sh .ci/need cmake
	$(CARGO) bench --locked --bench parts -- $(PARTS)

drill:
	@sh .ci/need cmake
	$(CARGO) bench --locked --bench drill -- $(DRILL)

model:
	@sh .ci/need cmake
	VMS_EDGE_SCHEDULES=$(or $(SCHEDULES),1000000) \
		$(CARGO) test --locked --profile bench --lib -- --nocapture batch::model::no_schedule_breaks_a_promise

siege:
	@sh .ci/need cmake
	$(CARGO) build --locked --release --bin vms-edge
	$(CARGO) build --locked --release --package vms-edge-load
	"$${CARGO_TARGET_DIR:-target}/release/vms-edge-load" siege $(SIEGE)

soak:
	@sh .ci/need cmake
	$(CARGO) build --locked --release --bin vms-edge
	$(CARGO) build --locked --release --package vms-edge-load
	"$${CARGO_TARGET_DIR:-target}/release/vms-edge-load" soak $(SOAK)

fuzz:
	@sh .ci/need cmake c++=g++
	@sh .ci/tools fuzz
	tests/fuzz/run $(FUZZ)

mutants:
	@sh .ci/need cmake
	@sh .ci/tools mutants
	target/tools/bin/cargo-mutants mutants --output target $(MUTANTS)
