# tinycdb: a static and a shared library. ar notes who made the members and when, as it does by default (U) unless
# binutils was configured not to, as Debian's is.
debian=tinycdb
cheap=yes
expects="12-owner 13-umask 14-ar-header 2-file-time 3-build-path 6-file-order"
unpack() { tar -xf "$sources"/tinycdb_*.tar.gz --strip-components=1 --no-same-owner --no-same-permissions; }
build() {
	make $jobs CFLAGS="$CFLAGS" ARFLAGS=$(mended 14-ar-header && echo rvD || echo rvU)
	make install install-sharedlib prefix=/usr DESTDIR="$root"
}
