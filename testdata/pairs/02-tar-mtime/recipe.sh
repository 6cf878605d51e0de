# The times of files, as tar keeps them.
. ../lib.sh
one() {
	mkdir -p root/etc
	echo same >root/etc/conf; echo more >root/etc/more
	touch -d "$time" root/etc/conf root/etc/more root/etc
	tar --format=ustar --sort=name --owner=0 --group=0 --numeric-owner -b1 -C root -cf $side.tar etc
	rm -rf root $side
}
both one
