# The order in which objects were linked.
. ../lib.sh
one() {
	for n in one two three; do echo "int $n(void) { return sizeof \"$n\"; }" >$n.c; done
	gcc -c one.c two.c three.c
	order="one.o two.o three.o"; [ $side = a ] || order="three.o one.o two.o"
	ar crD $side/libnum.a $order
	gcc -shared -nostdlib -Wl,--build-id=none -Wl,-z,noseparate-code -o $side/libnum.so $order
	rm *.c *.o
}
both one
pack
