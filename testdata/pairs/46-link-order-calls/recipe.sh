# Objects in another order, in a program whose functions call each other: calls hold distances.
. ../lib.sh
one() {
	for n in red green blue; do printf 'int %s(int n) { int s = 0; for (int i = 0; i < n; i++) s += i * %d; return s; }\n' $n ${#n} >$n.c; done
	echo 'int red(int), green(int), blue(int); int _start(int n) { return red(n) + green(n) + blue(n); }' >main.c
	gcc -O1 -c red.c green.c blue.c main.c
	order="red.o green.o blue.o"; [ $side = a ] || order="blue.o red.o green.o"
	gcc -nostdlib -static -Wl,--build-id=sha1 -Wl,-z,noseparate-code -o $side/colours main.o $order
	rm *.c *.o
}
both one
pack
