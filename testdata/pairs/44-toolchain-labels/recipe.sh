# Another flag: the compiler unrolls, and names labels and constants of its own.
. ../lib.sh
one() {
	o=-O1; [ $side = a ] || o=-O3
	echo 'int sum(int n) { int s = 0; while (n--) s += n * n; return s; }' >sum.c
	gcc -g $o -c -o $side/sum.o sum.c
	rm sum.c
}
both one
pack
