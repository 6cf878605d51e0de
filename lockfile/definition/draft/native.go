package draft

import (
	"regexp"
	"strings"
)

// native is a project in C or C++: a copy of the sources is built and installed below $OUT.
func native(kind, packages, run string) *recipe {
	return &recipe{
		kind: kind,
		step: "    packages: [" + packages + "]   # and the -dev packages of what it links\n    inputs: [source]\n    run: |\n" +
			"      cp -r /inputs/source source\n      cd source\n" + run,
		image: "  packages: [libc6]   # and the libraries that it links\n" + onlyShipped,
		copy:  fromBuild,
	}
}

func meson(p project) (*recipe, error) {
	if !p.has("meson.build") {
		return nil, nil
	}
	return native("a project with Meson", "meson, gcc, g++, libc6-dev, pkg-config",
		"      meson setup --prefix=/usr --buildtype=release ../built\n      meson compile -C ../built\n      DESTDIR=$OUT meson install -C ../built\n"), nil
}

func cmake(p project) (*recipe, error) {
	if !p.has("CMakeLists.txt") {
		return nil, nil
	}
	return native("a project with CMake", "cmake, make, gcc, g++, libc6-dev, pkg-config",
		"      cmake -B ../built -DCMAKE_BUILD_TYPE=Release -DCMAKE_INSTALL_PREFIX=/usr -DCMAKE_BUILD_RPATH_USE_ORIGIN=ON\n"+
			"      cmake --build ../built\n      DESTDIR=$OUT cmake --install ../built --strip\n"), nil
}

func autotools(p project) (*recipe, error) {
	packages, first := "gcc, libc6-dev, make", ""
	switch {
	case p.has("configure.ac", "configure.in"):
		packages, first = "autoconf, automake, libtool, pkg-config, "+packages, "      autoreconf --install\n"
	case !p.has("configure"):
		return nil, nil
	}
	return native("a project with autotools", packages, first+
		"      ./configure --prefix=/usr\n      make\n      make install-strip DESTDIR=$OUT\n      find $OUT -name '*.la' -delete   # libtool's notes for linking\n"), nil
}

var installTarget = regexp.MustCompile(`(?m)^install\s*:`)

func makefile(p project) (*recipe, error) {
	for _, name := range []string{"GNUmakefile", "makefile", "Makefile"} { // make's own order
		if !p.has(name) {
			continue
		}
		install := "      make install DESTDIR=$OUT PREFIX=/usr prefix=/usr\n"
		var notes []string
		if !installTarget.MatchString(p.read(name)) {
			notes = []string{name + " has no target install; copy what it makes to $OUT in the step"}
			install = "      mkdir -p $OUT/usr/bin   # then copy there what make has made\n"
		}
		r := native("a project with a "+strings.TrimPrefix(name, "GNU"), "gcc, libc6-dev, make", "      make\n"+install)
		r.notes = notes
		return r, nil
	}
	return nil, nil
}

// files are what is left: they are shipped as they are.
func files(project) (*recipe, error) {
	return &recipe{
		kind: "files that are shipped as they are", image: "  packages: [ca-certificates]\n" + onlyShipped + "  without: [debconf, openssl]\n",
		copy: "{from: source, path: /, to: /srv}", notes: []string{"no build system was recognised; add steps if something has to be made"},
	}, nil
}
