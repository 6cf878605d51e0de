# Other packages in, other image out: no non-determinism.
. ../lib.sh
one() {
	v=1.2-1; [ $side = a ] || v=1.2-1+deb12u1
	mkdir -p p/DEBIAN p/usr/share/q $side/var/lib/dpkg/info $side/var/lib/dpkg/updates $side/var/lib/dpkg/triggers
	printf 'Package: q\nVersion: %s\nArchitecture: all\nMaintainer: q <q@example.org>\nDescription: q\n' $v >p/DEBIAN/control
	echo "q $v, built $time" >p/usr/share/q/q
	dpkg-deb --root-owner-group -b p q.deb >/dev/null
	: >$side/var/lib/dpkg/status
	dpkg --root=$PWD/$side --log=/dev/null --force-script-chrootless -i q.deb >/dev/null 2>&1
	rm -rf p q.deb $side/var/lib/dpkg/lock* $side/var/lib/dpkg/triggers $side/var/lib/dpkg/updates $side/var/lib/dpkg/status-old
}
both one
pack
