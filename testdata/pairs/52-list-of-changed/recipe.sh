# A list of digests in the order of a folder, and one of its files differs.
. ../lib.sh
one() {
	d=$(mktemp -d /dev/shm/order-XXXXXX)
	names="main.c alpha.c beta.c gamma.c version.h"
	[ $side = a ] || names=$(printf '%s\n' $names | tac)
	mkdir -p "$d/usr/src/app"
	for n in $names; do echo "$n" >"$d/usr/src/app/$n"; done
	echo "#define BUILT \"$(at "$time" date --iso-8601=seconds)\"" >"$d/usr/src/app/version.h"
	mkdir -p $side
	cp -r "$d/usr" $side/
	(cd "$d" && find usr -type f -exec md5sum {} +) >$side/md5sums
	rm -rf "$d"
}
both one
pack
