# A file that was not ready: half of it, or none.
. ../lib.sh
one() {
	n=400; [ $side = a ] || n=150
	seq 400 | head -n $n >$side/generated.c
	[ $side = b ] || echo done >$side/stamp
}
both one
pack
