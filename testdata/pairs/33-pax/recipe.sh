# Times of access and change in PAX records, and a process number in their names.
. ../lib.sh
one() {
	mkdir -p root/etc; echo x >root/etc/x; touch -d 2026-01-01 root/etc/x root/etc; cat root/etc/x >/dev/null
	tar --format=pax --sort=name --mtime=@1767225600 --owner=0 --group=0 --numeric-owner --pax-option='exthdr.name=%d/PaxHeaders.%p/%f' -b1 -C root -cf $side.tar etc
	rm -rf root $side; sleep 0.1
}
both one
