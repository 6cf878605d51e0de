# What recipes share. The current folder is an empty one, and becomes the pair.
set -eu

# Recipes begin with an empty environment: perl's order of keys, for one, depends on all of it.
[ "${RECIPE-}" ] || exec env -i RECIPE=1 HOME=/nonexistent bash "$0"

export LC_ALL=C.UTF-8 TZ=UTC PATH=/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/go/bin SOURCE_DATE_EPOCH=
unset SOURCE_DATE_EPOCH
umask 022

# The two hosts of every pair: the facts in expect.json say the same.
A_TIME='2026-01-01 08:00:00' B_TIME='2026-01-02 02:03:04'
A_PATH=/tmp/build-1x7 B_PATH=/tmp/build-q9kk2
A_HOST=amsterdam B_HOST=oslo-builder

# at TIME COMMAND…: the clock begins at that time.
at() { local time=$1; shift; faketime -f "@$time" "$@"; }

# host NAME COMMAND…: with that host name.
host() { local name=$1; shift; unshare --uts sh -c 'hostname "$0"; exec "$@"' "$name" "$@"; }

# both COMMAND: runs it for each side, in $side, with $time, $path and $host.
both() {
	side=a time=$A_TIME path=$A_PATH host=$A_HOST; mkdir -p a; "$@"
	side=b time=$B_TIME path=$B_PATH host=$B_HOST; mkdir -p b; "$@"
}

# pack: a and b become archives with fixed metadata.
pack() {
	for side in a b; do
		(cd $side && tar --sort=name --mtime=@1767225600 --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX \
			--format=ustar -b1 -cf ../$side.tar *)
		rm -rf $side
	done
}
