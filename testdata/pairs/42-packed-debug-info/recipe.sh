# The folder of the build in debug information that is compressed: with zlib, with zstd, and as before ELF had a flag for it.
. ../lib.sh
one() {
	mkdir -p "$path/src"
	cat >"$path/src/main.c" <<-'C'
	struct point { int x, y, z; };
	int length(struct point *p) { return p->x * p->x + p->y * p->y + p->z * p->z; }
	int _start(int n) { struct point p = {n, n, n}; return length(&p); }
	C
	(cd "$path/src" && gcc -g -O1 -nostdlib -static -o hello main.c)
	for how in zlib zstd zlib-gnu; do objcopy --compress-debug-sections=$how "$path/src/hello" $side/hello-$how; done
	rm -rf "$path"
}
both one
pack
