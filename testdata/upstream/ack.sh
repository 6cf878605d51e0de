# ack: Perl, with a manual page made from its documentation. MakeMaker notes when and where a module was installed; with
# DESTDIR the place is the same wherever the build is, but for .packlist, which Debian leaves out, too.
debian=ack
cheap=yes
expects="1-build-time 12-owner 13-umask 2-file-time 29-docs 3-build-path 6-file-order"
unpack() { tar -xf "$sources"/ack_*.orig.tar.gz --strip-components=1 --no-same-owner --no-same-permissions; }
build() {
	local to="$root" destdir=
	mended 3-build-path && to= destdir="$root"
	perl Makefile.PL PREFIX="$to/usr"
	make
	make install DESTDIR="$destdir"
	! mended 3-build-path || find "$root" -name .packlist -delete
}
