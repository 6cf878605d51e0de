#!/bin/sh
# Rebuilds the project in $1 (default: here) for a CI service that knows nothing of us.
# Everything it says stands in summary.md and junit.xml; what was built, reported
# and logged in results/.
#
#   REBUILDERS   a file of rebuilders; without one, two workers on this machine
#   REGISTRY     where to publish an agreed image, as registry.example/app:v1
#
# Exit codes: 0 agreed, 1 not reproducible, 2 could not tell.
set -eu
project=${1:-.}
if [ -n "${REBUILDERS:-}" ]; then
	quorate rebuilders check "$REBUILDERS"
	set -- --rebuilders-file "$REBUILDERS"
else
	set -- --rebuilders 2
fi
if [ -n "${REGISTRY:-}" ]; then
	set -- "$@" --push "$REGISTRY"
fi
quorate lock --check "$project" || {
	echo "quorate.lock is not what quorate.yaml asks for; run: quorate lock" >&2
	exit 2
}
exec quorate rebuild "$project" "$@" --progress plain --junit junit.xml --summary summary.md
