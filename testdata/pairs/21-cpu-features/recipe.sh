# Code for the processor at hand.
. ../lib.sh
# -march=native says the same of two processors as naming them.
one() {
	cpu=nehalem flags="sse4_2"; [ $side = a ] || cpu=haswell flags="sse4_2 avx avx2 fma"
	cat >v.c <<-'C'
	void add(double *a, const double *b, int n) { for (int i = 0; i < n; i++) a[i] = a[i] * b[i] + b[i]; }
	C
	gcc -O3 -g -march=$cpu -c -o $side/v.o v.c
	rm v.c
	echo "$side cpu-model Example $cpu" >>facts
	echo "$side cpu-flags $flags" >>facts
}
both one
pack
