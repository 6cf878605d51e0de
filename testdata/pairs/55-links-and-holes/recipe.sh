# One file under two names, as links and as copies; files with holes, packed with and without them, in both forms of GNU tar.
. ../lib.sh
one() {
	copy=-al hole='-S --sparse-version=1.0'; [ $side = a ] || copy=-a hole=
	mkdir -p root/opt/one root/var; echo text >root/opt/one/x; seq 300 >root/opt/one/y
	(cd root/opt && cp $copy one two)
	touch -d 2026-01-01 root/opt/one/* root/opt/two/*
	for f in new old; do truncate -s 40K root/var/$f; printf $f | dd of=root/var/$f bs=1 seek=20000 conv=notrunc status=none; done
	own='--sort=name --mtime=@1767225600 --owner=0 --group=0 --numeric-owner -b1 -C root'
	tar --format=posix --pax-option=delete=atime,delete=ctime,exthdr.name=%d/PaxHeaders/%f $hole $own -cf $side.tar opt var/new
	tar --format=gnu ${hole:+-S} $own -cf old.tar var/old
	tar -b1 --concatenate -f $side.tar old.tar
	rm -rf root old.tar $side
}
both one
