# Equal contents, another level, another program, another number of threads.
. ../lib.sh
one() {
	for i in $(seq 400); do seq $i; done | head -c 300000 >text
	level=2; [ $side = a ] || level=9
	gzip -n -$level -c text >$side/level.gz
	if [ $side = a ]; then gzip -n -c text; else pigz -n -b 128 -c text; fi >$side/program.gz
	xz -$level -c text >$side/text.xz
	zstd -q -$level -c text >$side/text.zst
	rm text
}
both one
pack
