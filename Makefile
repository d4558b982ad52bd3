# make demo   see the main job, then try it with curl
# make test   run every test
# make hit    measure the hit path beside nginx
# make drill  let the VMS die and come back under load; DRILL="--away 5s" passes options on
# Each installs what it needs and is not there.

CARGO ?= cargo

.PHONY: demo test hit drill

demo:
	@sh .ci/need cmake
	$(CARGO) run --locked --release -- demo

test:
	@sh .ci/need cmake curl python3 openssl h2load=nghttp2-client prometheus promtool=prometheus chromium chromedriver=chromium-driver
	$(CARGO) test --locked

hit:
	@sh .ci/need cmake nginx wrk
	$(CARGO) build --locked --release
	benches/hit.sh

drill:
	@sh .ci/need cmake
	$(CARGO) bench --locked --bench drill -- $(DRILL)
