# Info-ZIP's zip: says in its version when it was compiled, by __DATE__.
debian=zip
expects="1-build-time 12-owner 13-umask 2-file-time 3-build-path 6-file-order 8-gzip-header"
unpack() { tar -xf "$sources"/zip_*.orig.tar.gz --strip-components=1 --no-same-owner --no-same-permissions; }
build() {
	make -f unix/Makefile $jobs zips CC="gcc" CFLAGS="-I. -DUNIX -DNO_BZIP2_SUPPORT $CFLAGS" LFLAGS2= || make -f unix/Makefile generic CFLAGS="-I. -DUNIX $CFLAGS" LFLAGS2=
	make -f unix/Makefile install prefix="$root/usr"
	gzip -9 $(mended 8-gzip-header && echo " -n") "$root"/usr/man/man1/*.1
}
