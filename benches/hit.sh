#!/usr/bin/env bash
# CPU time per hit of a 10-item batch: vms-edge beside nginx's proxy_cache, in one run.
#
# The servers share core 0 in turn, wrk has core 1. Each round measures both; the medians of the rounds count. Times are
# the processes' own (user and system), so a busy machine disturbs them less than requests per second.
set -euo pipefail
cd "$(dirname "$0")/.."

rounds=${ROUNDS:-5}
seconds=${SECONDS_PER_ROUND:-4}
edge=${EDGE:-target/release/vms-edge}
work=$(mktemp -d)
# Started by root, nginx's worker is somebody else, who has to reach the cache.
chmod 711 "$work"
started=()
trap 'kill "${started[@]}" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$work"' EXIT

cat >"$work/edge.toml" <<TOML
[server]
listen = ["127.0.0.1:18080"]
threads = 1
[upstream]
servers = ["127.0.0.1:19000"]
[admin]
listen = "127.0.0.1:18090"
[log]
access = false
[[batch]]
path = "/api/v1/intercom/shows"
fresh = "1d"
TOML

token=tok-1-$(printf 'x%.0s' {1..900})
cat >"$work/widget.lua" <<LUA
wrk.headers["Authorization"] = "Bearer $token"
wrk.headers["Accept"] = "application/json"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["X-Client"] = "ios"
wrk.headers["X-UUID"] = "b7f0c0de-1"
wrk.headers["X-Version"] = "24.03.0.0"
wrk.headers["User-Agent"] = "VMS/24.03"
LUA
target='/api/v1/intercom/shows?ids%5B%5D=1'
for id in 2 3 9 16 44 52 63 73 84; do target+="&ids%5B%5D=$id"; done

"$edge" demo-vms --listen 127.0.0.1:19000 2>/dev/null &
started+=($!)
taskset -c 0 "$edge" run --config "$work/edge.toml" 2>"$work/edge.log" &
edge_pid=$!
started+=("$edge_pid")
taskset -c 0 nginx -p "$work" -c "$PWD/benches/peers/nginx.conf" 2>/dev/null &
started+=($!)
for port in 18080 18081 19000; do
    until (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do sleep 0.1; done
done
nginx_pid=$(pgrep -P "$(cat "$work/nginx.pid")" | head -1)

# Clock ticks of CPU that a process has used.
ticks() { awk '{ print $14 + $15 }' "/proc/$1/stat"; }

# round NAME PORT PID: microseconds of CPU per request.
round() {
    taskset -c 1 wrk -t1 -c16 -d1 -s "$work/widget.lua" "http://127.0.0.1:$2$target" >/dev/null
    before=$(ticks "$3")
    taskset -c 1 wrk -t1 -c16 -d"$seconds" -s "$work/widget.lua" "http://127.0.0.1:$2$target" >"$work/wrk.txt"
    after=$(ticks "$3")
    if grep -q 'Non-2xx' "$work/wrk.txt"; then
        echo "$1 answered errors" >&2
        exit 1
    fi
    requests=$(awk '/requests in/ { print $1 }' "$work/wrk.txt")
    awk -v t=$((after - before)) -v hz="$(getconf CLK_TCK)" -v n="$requests" \
        'BEGIN { printf "%.2f\n", t / hz * 1e6 / n }' >>"$work/$1"
}

median() { sort -n "$work/$1" | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }

for _ in $(seq "$rounds"); do
    round edge 18080 "$edge_pid"
    round nginx 18081 "$nginx_pid"
done
size=$(curl -sg -H "Authorization: Bearer $token" -H 'X-Client: ios' -H 'X-UUID: b7f0c0de-1' \
    "http://127.0.0.1:18080$target" | wc -c)
echo "CPU per hit of 10 items ($size bytes), median of $rounds rounds, one core:"
printf '  %-28s %6s us\n' 'vms-edge' "$(median edge)" 'nginx proxy_cache' "$(median nginx)"
awk -v a="$(median edge)" -v b="$(median nginx)" 'BEGIN { printf "  ratio %.2f\n", a / b }'
