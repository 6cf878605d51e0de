# File systems made now, each with a name of its own.
. ../lib.sh
one() {
	mkdir root; echo hello >root/hello; touch -d 2026-01-01 root/hello root
	at "$time" mksquashfs root $side/root.squashfs -quiet -no-progress -all-root -no-exports >/dev/null
	at "$time" mke2fs -q -t ext2 -b 1024 -N 16 -m 0 $side/disk.img 64k
	rm -rf root
}
both one
pack
