# Lists of files that are shipped, as the file system gives them: bare names, with sums, with columns, in one
# line, and in JSON.
. ../lib.sh
one() {
	d=$(mktemp -d /dev/shm/order-XXXXXX)
	names="main.c alpha.c beta.c util.h gamma.c README"
	[ $side = a ] || names=$(printf '%s\n' $names | tac)
	mkdir -p "$d/usr/src/app"
	for n in $names; do echo "$n" >"$d/usr/src/app/$n"; done
	mkdir -p $side/lists
	cp -r "$d/usr" $side/
	(
		to=$PWD/$side/lists
		cd "$d/usr/src/app"
		ls -U >"$to/names"
		find . -type f -exec sha256sum {} + >"$to/SHA256SUMS"
		find . -type f -printf '%m %5s %p\n' >"$to/columns"
		echo "SRCS = $(find . -name '*.c' -printf '%f ')" >"$to/sources.mk"
		python3 -c 'import json, os; print(json.dumps({"app": {"kind": "program", "files": os.listdir(".")}}, indent=1))' >"$to/files.json"
	)
	rm -rf "$d"
}
both one
pack
