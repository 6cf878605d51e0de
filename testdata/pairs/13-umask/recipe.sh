# Modes as the umask leaves them.
. ../lib.sh
one() {
	mask=022; [ $side = a ] || mask=002
	(umask $mask; mkdir -p root/opt/lib; echo x >root/opt/x; echo y >root/opt/lib/y; echo z >root/opt/lib/z.sh; chmod +x root/opt/lib/z.sh)
	tar --format=ustar --sort=name --mtime=@1767225600 --owner=0 --group=0 --numeric-owner -b1 -C root -cf $side.tar opt
	rm -rf root $side
}
both one
