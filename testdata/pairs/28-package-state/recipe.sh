# What package managers leave behind.
. ../lib.sh
one() {
	mkdir -p p/DEBIAN p/usr/share/q $side/var/lib/dpkg $side/var/log $side/etc $side/usr/lib $side/var/cache/ldconfig
	printf 'Package: q\nVersion: 1\nArchitecture: all\nMaintainer: q <q@example.org>\nDescription: q\n' >p/DEBIAN/control
	echo q >p/usr/share/q/q; touch -d 2026-01-01 p/usr/share/q/q
	dpkg-deb --root-owner-group -b p q.deb >/dev/null
	: >$side/var/lib/dpkg/status; mkdir -p $side/var/lib/dpkg/info $side/var/lib/dpkg/updates $side/var/lib/dpkg/triggers
	at "$time" dpkg --root=$PWD/$side --log=$PWD/$side/var/log/dpkg.log --force-script-chrootless -i q.deb >/dev/null 2>&1
	rm -f $side/var/lib/dpkg/lock* $side/var/lib/dpkg/triggers/Lock
	printf 'root:x:0:0::/:/bin/sh\n' >$side/etc/passwd; printf 'root:*:20000:0:99999:7:::\n' >$side/etc/shadow; printf 'root:x:0:\n' >$side/etc/group
	at "$time" useradd --prefix $PWD/$side -M app >/dev/null 2>&1
	rm -f $side/etc/*-
	cp /lib/x86_64-linux-gnu/libm.so.6 /lib/x86_64-linux-gnu/libz.so.1 $side/usr/lib/; ln -s usr/lib $side/lib; echo /usr/lib >$side/etc/ld.so.conf
	ldconfig -r $side
	rm -rf p q.deb $side/usr/lib $side/lib
}
both one
pack
