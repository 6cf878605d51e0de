# ar without D keeps times and owners.
. ../lib.sh
one() {
	echo 'int one(void) { return 1; }' >one.c; echo 'int two(void) { return 2; }' >two.c
	gcc -c one.c two.c
	touch -d "$time" one.o two.o
	ar crU $side/libnum.a one.o two.o
	rm *.c *.o
}
both one
pack
