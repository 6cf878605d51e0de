# The folder of the build, in debug info and through assert's __FILE__.
. ../lib.sh
one() {
	mkdir -p "$path/src"
	cat >"$path/src/main.c" <<-'C'
	extern void fail(const char *, int);
	int _start(int n) { if (n > 3) fail(__FILE__, __LINE__); return n; }
	void fail(const char *file, int line) { for (;;) if (file[line]) break; }
	C
	(cd "$path/src" && gcc -g -O1 -nostdlib -static -o hello "$path/src/main.c")
	cp "$path/src/hello" $side/hello
	rm -rf "$path"
}
both one
pack
