# Equal contents, another level, another program, another number of threads.
. ../lib.sh
one() {
	seq 3000 >text
	level=6; [ $side = a ] || level=9
	gzip -n -$level -c text >$side/level.gz
	if [ $side = a ]; then gzip -n -c text; else pigz -n -b 128 -c text; fi >$side/program.gz
	xz -$level -c text >$side/text.xz
	zstd -q -$level -c text >$side/text.zst
	bzip2 -$level -c text >/dev/null
	rm text
}
both one
pack
