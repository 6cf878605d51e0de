# How many processors the build saw.
. ../lib.sh
one() {
	cpus=4; [ $side = a ] || cpus=16
	export OMP_NUM_THREADS=$cpus
	echo "MAKEFLAGS = -j$(nproc)" >$side/flags.mk
	nproc >$side/cpus.txt
	echo "$side cpus $(nproc)" >>facts
	unset OMP_NUM_THREADS
}
both one
pack
