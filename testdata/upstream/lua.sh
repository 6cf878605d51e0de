# Lua: a plain makefile, a static library.
debian=lua5.4
expects="12-owner 13-umask 2-file-time 3-build-path 6-file-order"
unpack() { tar -xf "$sources"/lua5.4_*.orig.tar.gz --strip-components=1 --no-same-owner --no-same-permissions; }
build() {
	make $jobs linux MYCFLAGS="$CFLAGS"
	make install INSTALL_TOP="$root/usr"
}
