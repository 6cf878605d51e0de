# CMake's RPATH: as long as the build folder's name, emptied at install, and in the build-id for ever.
. ../lib.sh
one() {
	mkdir -p "$path"
	cat >"$path/main.c" <<-'C'
	int zlibVersion(void);
	int main(void) { return zlibVersion(); }
	C
	echo 'int zlibVersion(void) { return 0; }' >"$path/z.c"
	cat >"$path/CMakeLists.txt" <<-'M'
	cmake_minimum_required(VERSION 3.16)
	project(p C)
	add_library(z SHARED z.c)
	add_executable(app main.c)
	target_link_libraries(app z)
	target_link_options(app PRIVATE -nostartfiles -Wl,-emain -Wl,--build-id -Wl,-z,noseparate-code)
	install(TARGETS app DESTINATION .)
	M
	(cd "$path" && cmake -S . -B . -DCMAKE_INSTALL_PREFIX="$PWD/out" && make && make install) >/dev/null
	strip "$path/out/app"
	cp "$path/out/app" $side/app
	rm -rf "$path"
}
both one
pack
