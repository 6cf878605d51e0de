# A linker that makes up its build-id.
. ../lib.sh
one() {
	echo 'int _start(void) { return 7; }' >x.c
	gcc -nostdlib -static -Wl,--build-id=uuid -o $side/seven x.c
	strip $side/seven
	rm x.c
}
both one
pack
