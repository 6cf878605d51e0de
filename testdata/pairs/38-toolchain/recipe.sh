# Another compiler, other flags.
. ../lib.sh
one() {
	o=-O1 r=11; [ $side = a ] || o=-O2 r=17
	echo 'int f(int n) { int s = 0; while (n--) s += n * n; return s; }' >f.c; gcc -g $o -c -o $side/f.o f.c
	echo 'class One { int f(int a) { return a + 1; } }' >One.java; javac --release $r -d $side One.java
	rm f.c One.java
}
both one
pack
