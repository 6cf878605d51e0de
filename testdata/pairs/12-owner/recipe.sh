# Who built is who owns: tar, cpio.
. ../lib.sh
one() {
	uid=1000 name=anna; [ $side = a ] || uid=1001 name=bent
	mkdir -p root/opt; echo x >root/opt/x; touch -d 2026-01-01 root/opt/x root/opt
	tar --format=ustar --sort=name --mtime=@1767225600 --owner=$name:$uid --group=users:100 -b1 -C root -cf $side.tar opt
	rm -rf root $side
}
both one
printf 'a user anna\na uid 1000\nb user bent\nb uid 1001\n' >facts
