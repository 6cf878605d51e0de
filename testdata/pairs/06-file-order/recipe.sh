# A list of files as the file system gives them, and an archive of them.
. ../lib.sh
# A file system in memory lists new files first: two orders of making, two lists.
one() {
	d=$(mktemp -d /dev/shm/order-XXXXXX)
	names="beta.c alpha.c gamma.c zeta.c eta.c main.c util.c"
	[ $side = a ] || names="util.c zeta.c main.c alpha.c eta.c gamma.c beta.c"
	for n in $names; do echo "int ${n%.c};" >"$d/$n"; done
	(cd "$d" && find . -type f) >$side/files.list
	tar --format=ustar --owner=0 --group=0 --numeric-owner --mtime=@1767225600 -b1 -C "$d" -cf $side/files.tar .
	rm -rf "$d"
}
both one
pack
