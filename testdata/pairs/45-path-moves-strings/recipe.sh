# Folders of other lengths, known of no host: debug information says them, and offsets move with them.
. ../lib.sh
A_PATH=/tmp/build-kzqmwx B_PATH=/opt/pkgs/reproducible/lib-1.0
one() {
	mkdir -p "$path/src"
	echo 'struct s { int a, b[9]; }; int f(struct s *s) { return s->a + s->b[3]; }' >"$path/src/f.c"
	echo 'int f(void *); int g(void *p) { return f(p); }' >"$path/src/g.c"
	(cd "$path" && gcc -g -O1 -fPIC -shared -nostdlib -Wl,--build-id=sha1 -Wl,-z,noseparate-code -o lib.so "$path/src/f.c" "$path/src/g.c")
	cp "$path/lib.so" $side/
	rm -rf "$path"
}
both one
pack
