package draft

import (
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
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

// begin adds which program the image begins with: what the Dockerfile begins if it is installed, or the first that is.
func (p project) begin(r *recipe, installed []string) *recipe {
	h := p.hints()
	if i := slices.IndexFunc(installed, func(file string) bool { return path.Base(file) == h.program() }); i >= 0 {
		installed = installed[i:]
	}
	if len(installed) > 0 {
		r.config = "    entrypoint: [" + installed[0] + "]\n"
	} else {
		r.notes = append(r.notes, "which program it installs was not found; if the image is to begin one, say so: image.config.entrypoint: [/usr/bin/…]")
	}
	if p.has(".gitmodules") {
		r.notes = append(r.notes, "it has submodules of git; fetch them first: git submodule update --init --recursive")
	}
	h.apply(r)
	return r
}

// targets are the words of the first group of a pattern in a file, as programs in a folder.
func (p project) targets(file, pattern, folder string) (all []string) {
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(p.read(file), -1) {
		for _, w := range strings.Fields(m[1]) {
			if plainWord.MatchString(w) {
				all = append(all, folder+w)
			}
		}
	}
	return all
}

func meson(p project) (*recipe, error) {
	if !p.has("meson.build") {
		return nil, nil
	}
	return p.begin(native("a project with Meson", "meson, gcc, g++, libc6-dev, pkg-config",
		"      meson setup --prefix=/usr --buildtype=release ../built\n      meson compile -C ../built\n      DESTDIR=$OUT meson install -C ../built\n"), p.targets("meson.build", `(?s)\bexecutable\(\s*'([^']+)'[^)]*install\s*:\s*true`, "/usr/bin/")), nil
}

func cmake(p project) (*recipe, error) {
	if !p.has("CMakeLists.txt") {
		return nil, nil
	}
	return p.begin(native("a project with CMake", "cmake, make, gcc, g++, libc6-dev, pkg-config",
		"      cmake -B ../built -DCMAKE_BUILD_TYPE=Release -DCMAKE_INSTALL_PREFIX=/usr -DCMAKE_BUILD_RPATH_USE_ORIGIN=ON\n"+
			"      cmake --build ../built\n      DESTDIR=$OUT cmake --install ../built --strip\n"), p.cmakePrograms()), nil
}

// cmakePrograms are what is both made and installed by the top CMakeLists.txt.
func (p project) cmakePrograms() []string {
	installed := p.targets("CMakeLists.txt", `(?is)\binstall\s*\(\s*TARGETS\s+([^)]*)`, "/usr/bin/")
	return slices.DeleteFunc(p.targets("CMakeLists.txt", `(?i)\badd_executable\s*\(\s*([^\s)]+)`, "/usr/bin/"), func(made string) bool {
		return !slices.Contains(installed, made)
	})
}

var m4Include = regexp.MustCompile(`(?m)^[^#\n]*\bm4_s?include\(\[?([\w./-]+)\]?\)`)

func autotools(p project) (*recipe, error) {
	packages, first := "gcc, libc6-dev, make", ""
	switch {
	case p.has("configure.ac", "configure.in"):
		packages, first = "autoconf, automake, libtool, pkg-config, "+packages, "      autoreconf --install\n"
	case !p.has("configure"):
		return nil, nil
	}
	// Sorted as fs.Glob has them, so that src/ counts before tools/.
	var programs []string
	subs, _ := fs.Glob(p.dir, "*/Makefile.am")
	for _, file := range append([]string{"Makefile.am"}, subs...) {
		if strings.HasPrefix(file, "test") {
			continue
		}
		programs = append(programs, p.targets(file, `(?m)^bin_PROGRAMS\s*\+?=(.*)$`, "/usr/bin/")...)
		programs = append(programs, p.targets(file, `(?m)^sbin_PROGRAMS\s*\+?=(.*)$`, "/usr/sbin/")...)
	}
	r := native("a project with autotools", packages, first+
		"      ./configure --prefix=/usr\n      make\n      make install-strip DESTDIR=$OUT\n      find $OUT -name '*.la' -delete   # libtool's notes for linking\n")
	for _, m := range m4Include.FindAllStringSubmatch(p.read("configure.ac"), -1) {
		if !p.has(m[1]) {
			r.notes = append(r.notes, fmt.Sprintf("configure.ac includes %s, which is not there: something makes it in a checkout, mostly of git's tags; write it in the step, before autoreconf", m[1]))
		}
	}
	return p.begin(r, programs), nil
}

// A rule of a makefile may have several targets. What is phony is no file.
var (
	installTarget = regexp.MustCompile(`(?m)^([^\s:=#][^:=#\n]*\s)?install(\s[^:=#\n]*)?:([^=]|$)`)
	phonyTargets  = regexp.MustCompile(`(?m)^\.PHONY\s*:([^\n]*)$`)
)

func makefile(p project) (*recipe, error) {
	for _, name := range []string{"GNUmakefile", "makefile", "Makefile"} { // make's own order
		if !p.has(name) {
			continue
		}
		text := p.read(name)
		install := "      make install DESTDIR=$OUT PREFIX=/usr prefix=/usr\n"
		var programs, notes []string
		if !installTarget.MatchString(text) {
			programs = p.made(name, text)
			install = "      mkdir -p $OUT/usr/bin   # then copy there what make has made\n"
			if len(programs) > 0 {
				install = "      install -D -s -t $OUT/usr/bin"
				for _, file := range programs {
					install += " " + path.Base(file)
				}
				install += "   # what the target all makes\n"
			}
			notes = []string{name + " has no target install; copy what it makes to $OUT in the step"}
		} else if programs = p.made(name, text); len(programs) != 1 && !slices.Contains(programs, "/usr/bin/"+p.hints().program()) {
			programs = nil // a library, say, or tests beside the program
		}
		r := native("a project with a "+strings.TrimPrefix(name, "GNU"), "gcc, libc6-dev, make", "      make\n"+install)
		r.notes = notes
		return p.begin(r, programs), nil
	}
	return nil, nil
}

var variable = regexp.MustCompile(`\$[({](\w+)[)}]`)

// made are the programs of a makefile's target all, or of its first: words that a C file or a variable names.
func (p project) made(name, text string) []string {
	targets := regexp.MustCompile(`(?m)^all\s*:([^=\n][^\n]*)$`).FindStringSubmatch(text)
	if targets == nil {
		return nil
	}
	line := variable.ReplaceAllStringFunc(targets[1], func(v string) string {
		value := regexp.MustCompile(`(?m)^` + variable.FindStringSubmatch(v)[1] + `\s*[:?]?=(.*)$`).FindStringSubmatch(text)
		if value == nil {
			return "$" // no plain word
		}
		return value[1]
	})
	phony := map[string]bool{}
	for _, m := range phonyTargets.FindAllStringSubmatch(text, -1) {
		for _, w := range strings.Fields(m[1]) {
			phony[w] = true
		}
	}
	var programs []string
	for _, w := range strings.Fields(line) {
		if plainWord.MatchString(w) && !strings.Contains(w, ".") && !phony[w] && regexp.MustCompile(`(?m)^(`+regexp.QuoteMeta(w)+`|\$[({]\w+[)}])\s*:`).MatchString(text) {
			programs = append(programs, "/usr/bin/"+w)
		}
	}
	return programs
}

// files are what is left: they are shipped as they are.
func files(p project) (*recipe, error) {
	r := &recipe{
		kind: "files that are shipped as they are", image: "  packages: [ca-certificates]\n" + onlyShipped + "  without: [debconf, openssl]\n",
		copy: "{from: source, path: /, to: /srv}", notes: []string{"no build system was recognised; add steps if something has to be made"},
	}
	entries, _ := fs.ReadDir(p.dir, ".")
	switch h := p.hints(); {
	case len(entries) == 0:
		r.kind, r.notes = "an empty folder", []string{"there is nothing to ship yet; draft again when there is a project, or write down by hand what the image is made of"}
	case h.docker:
		r.notes = []string{"there is a Dockerfile, and no build system beside it that was recognised. What its RUN lines do becomes steps, what they install packages, its FROM the suite of Debian or an image under inputs.images"}
		h.apply(r)
	case p.has("index.html"):
		r.kind, r.copy = "a site of files", "{from: source, path: /, to: /srv/www}"
		r.image = "  packages: [busybox-static]\n" + onlyShipped + service
		r.config = "    entrypoint: [/bin/busybox, httpd, -f, -p, \"8080\", -h, /srv/www]\n    ports: [8080/tcp]\n"
		r.notes = nil
	}
	return r, nil
}
