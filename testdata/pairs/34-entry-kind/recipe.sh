# A file capability and an attribute of a user: one archive keeps them, the other one loses them.
. ../lib.sh
one() {
	keep='--xattrs --xattrs-include=user.* --xattrs-include=security.capability'; [ $side = a ] || keep=--no-xattrs
	mkdir -p root/usr/bin; echo ping >root/usr/bin/ping; echo doc >root/usr/doc; echo same >root/usr/same
	chmod 755 root/usr/bin/ping; setcap cap_net_raw+ep root/usr/bin/ping; setfattr -n user.origin -v upstream root/usr/doc
	tar --format=posix --pax-option=delete=atime,delete=ctime,exthdr.name=%d/PaxHeaders/%f $keep \
		--sort=name --mtime=@1767225600 --owner=0 --group=0 --numeric-owner -b1 -C root -cf $side.tar usr
	rm -rf root $side
}
both one
