# Deletions as OCI layers have them, and as the upper folder of an overlay does.
. ../lib.sh
one() {
	mkdir -p root/etc root/opt/new root/srv; echo new >root/opt/new/x; echo same >root/srv/same
	if [ $side = a ]; then
		touch root/etc/.wh.motd root/opt/new/.wh..wh..opq root/srv/.wh.old
		chmod 0 root/etc/.wh.motd root/opt/new/.wh..wh..opq root/srv/.wh.old
	else
		mknod -m 0 root/etc/motd c 0 0; mknod -m 0 root/srv/old c 0 0
		setfattr -n trusted.overlay.opaque -v y root/opt/new
	fi
	tar --format=posix --pax-option=delete=atime,delete=ctime,exthdr.name=%d/PaxHeaders/%f --xattrs --xattrs-include='trusted.overlay.*' \
		--sort=name --mtime=@1767225600 --owner=0 --group=0 --numeric-owner -b1 -C root -cf $side.tar etc opt srv
	rm -rf root $side
}
both one
