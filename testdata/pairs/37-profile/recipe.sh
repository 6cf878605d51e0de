# What was measured while building: a profile that the compiler went by, the counts themselves, tuned
# plans, and sums that were added up in another order.
. ../lib.sh
one() {
	mkdir w
	cat >w/hot.c <<-'C'
	int even(int n) { int s = 0; for (int i = 0; i < n; i++) if (i & 1) s -= i * n; else s += i ^ n; return s; }
	int odd(int n) { int s = 1; while (n > 1) { s = s * 3 + n; n = n & 1 ? n - 1 : n / 2; } return s; }
	int pick(int n, int k) { return k > 100 ? even(n) : k > 10 ? odd(n) : n * k; }
	C
	cat >w/main.c <<-'C'
	#include <stdlib.h>
	int pick(int, int);
	int main(int c, char **v) { int s = 0; for (int i = 0; i < atoi(v[1]); i++) s += pick(i, atoi(v[2])); return s == 42; }
	C
	runs="2000 200"; [ $side = a ] || runs="50 1"
	(cd w && gcc -O2 -fprofile-generate -c -o hot.o hot.c && gcc -fprofile-generate -o run hot.o -x c main.c && { ./run $runs || true; } &&
		gcc -O2 -g -fprofile-use -c -o hot.o hot.c)
	cp w/hot.o $side/hot.o
	cp w/hot.gcda $side/hot.gcda
	rm -rf w
	order='lambda x: x'; [ $side = a ] || order='reversed'
	python3 - $side <<-PY
	import sys, struct
	v = [1 / (n * n) for n in range(1, 2000)]
	s = sum(($order)(v) if "$order" == "reversed" else v)
	open(sys.argv[1] + "/weights.txt", "w").write(f"name: pi squared by six\nsum: {s!r}\nterms: {len(v)}\n")
	open(sys.argv[1] + "/weights.bin", "wb").write(b"weights\0" + struct.pack("<4d", 0.25, s, s / 3, 7.5))
	PY
	printf '(fftw-3.3.10 fftw_wisdom #x%s\n)\n' $([ $side = a ] && echo 4be1 || echo 77c0) >$side/wisdom
}
both one
pack
