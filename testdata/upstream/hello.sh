# GNU hello: autotools, translations, info, and the manual page as PDF by groff.
debian=hello
expects="12-owner 13-umask 2-file-time 29-docs 3-build-path 6-file-order"
unpack() { tar -xf "$sources"/hello_*.orig.tar.gz --strip-components=1 --no-same-owner --no-same-permissions; }
build() {
	./configure --prefix=/usr CFLAGS="$CFLAGS"
	make $jobs
	make install DESTDIR="$root"
	mkdir -p "$root/usr/share/doc"; groff -man -Tpdf hello.1 >"$root/usr/share/doc/hello.pdf"
}
