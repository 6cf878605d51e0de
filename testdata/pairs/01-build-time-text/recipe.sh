# A date in text and one from C's __DATE__ and __TIME__.
. ../lib.sh
one() {
	cat >app.c <<-'C'
	const char *built(void) { return "built " __DATE__ " " __TIME__; }
	C
	at "$time" gcc -c -O1 -o $side/app.o app.c
	at "$time" date -R >$side/built.txt
	at "$time" date +'<p>Generated %Y-%m-%dT%H:%M:%SZ, (c) %Y</p>' >$side/page.html
	at "$time" date +'{"built": %s}' >$side/build.json
	rm app.c
}
both one
pack
