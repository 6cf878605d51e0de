# Files within images of file systems: a date in a text, times of files, and an image packed at another level.
. ../lib.sh
one() {
	mkdir -p root/etc
	for how in gzip xz zstd lz4; do
		echo "built $(at "$time" date -u -Iseconds)" >root/etc/built; seq 3000 >root/etc/numbers; ln -sf numbers root/etc/link; ln -f root/etc/numbers root/etc/again
		touch -d 2026-01-01 root/etc/* root/etc root
		mksquashfs root $side/built-$how.squashfs -quiet -no-progress -all-root -no-exports -mkfs-time 1767225600 -comp $how >/dev/null
	done
	echo "built" >root/etc/built; touch -d 2026-01-01 root/etc/* root/etc root; touch -d "$time" root/etc/built
	mksquashfs root $side/times.squashfs -quiet -no-progress -all-root -no-exports -mkfs-time 1767225600 >/dev/null
	touch -d 2026-01-01 root/etc/built
	level=9; [ $side = a ] || level=1
	mksquashfs root $side/level.squashfs -quiet -no-progress -all-root -no-exports -mkfs-time 1767225600 -Xcompression-level $level >/dev/null
	rm -rf root
}
both one
pack
