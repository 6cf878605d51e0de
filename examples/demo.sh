#!/usr/bin/env bash
# The main job on real input: lock, build twice apart, agree, sign, verify; and
# a flawed image that is refused. Works on copies below results/demo, with a
# store and keys of its own there; run again, it fetches nothing again.
set -euo pipefail
cd "$(dirname "$0")/.."

demo=$PWD/results/demo
export PATH=$PWD/bin:$PATH
export QUORATE_STORE=${QUORATE_STORE:-$demo/store}
export XDG_STATE_HOME=$demo/state
mkdir -p "$demo"

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
run() { printf '$ %s\n' "$*"; "$@"; }

for example in greeter flaky; do
	rm -rf "${demo:?}/$example"
	cp -r "examples/$example" "$demo/$example"
done
cd "$demo"

say "1. Lock: what has changed in Debian's archive since the example was locked?"
run quorate lock greeter

say "2. Rebuild: two single-use workers that differ in what a sandbox cannot hide"
run quorate rebuild greeter --rebuilders 2 --results greeter-results

say "3. Verify: from files alone, by judging the rebuilders' own reports again"
run quorate verify greeter-results/agreement.intoto.jsonl --policy greeter-results/policy.yaml --image oci=greeter-results/image

say "4. A flawed image: it embeds the time, chance and facts of the host"
run quorate lock flaky
code=0
run quorate rebuild flaky --rebuilders 2 --results flaky-results || code=$?
if [ "$code" != 1 ]; then
	echo "expected exit code 1 for the flawed image, got $code" >&2
	exit 1
fi
say "Refused, as it should be: exit code 1, nothing signed."
ls flaky-results
