# cmark: CMake, a library and a program that is linked to it.
debian=cmark
expects="12-owner 13-umask 2-file-time 3-build-path 4-rpath 6-file-order"
unpack() { tar -xf "$sources"/cmark_*.orig.tar.gz --strip-components=1 --no-same-owner --no-same-permissions; }
build() {
	cmake -B build -DCMAKE_INSTALL_PREFIX=/usr -DCMAKE_BUILD_TYPE=None -DCMAKE_C_FLAGS="$CFLAGS" -DCMARK_STATIC=OFF -DCMARK_TESTS=OFF \
		$(mended 4-rpath && echo -DCMAKE_BUILD_RPATH_USE_ORIGIN=ON)
	cmake --build build $jobs
	DESTDIR="$root" cmake --install build
}
