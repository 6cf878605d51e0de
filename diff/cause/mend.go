package cause

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// mender writes mends: what a maintainer of this build would do. Where the
// definition is known it writes the step's own line anew, and an Edit with it.
type mender struct {
	origin  func(file string) (*step, string)
	context *Context
}

func (k *Cause) say(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	if !slices.Contains(k.Mend.Lines, line) {
		k.Mend.Lines = append(k.Mend.Lines, line)
	}
}

func (k *Cause) edit(e Edit) {
	if !slices.Contains(k.Mend.Edits, e) {
		k.Mend.Edits = append(k.Mend.Edits, e)
	}
}

// sources calls visit with the step of each of the cause's files and the line that
// names it, "" where none does.
func (m *mender) sources(k *Cause, visit func(s *step, line, file string)) {
	for _, f := range k.Files {
		if s, rest := m.origin(f); s != nil {
			visit(s, s.line(rest), rest)
		}
	}
}

// rewrite puts change to the lines that made the files, or, where no line names
// them, to all lines of their steps that it applies to.
func (m *mender) rewrite(k *Cause, change func(string) string) {
	m.sources(k, func(s *step, line, file string) {
		lines := []string{line}
		if line == "" || change(line) == line {
			lines = nil
			if s.run != nil {
				for _, l := range strings.Split(s.run.Value, "\n") {
					lines = append(lines, strings.TrimSpace(l))
				}
			}
		}
		for _, l := range lines {
			if to := change(l); l != "" && to != l && !strings.HasPrefix(l, "#") {
				k.say("steps.%s.run: %s", s.name, to)
				k.edit(Edit{Step: s.name, From: l, To: to})
			}
		}
	})
}

// env sets a variable in the steps of the files.
func (m *mender) env(k *Cause, name, to string) {
	found := false
	m.sources(k, func(s *step, _, _ string) {
		found = true
		k.say("steps.%s.env.%s: %q", s.name, name, to)
		k.edit(Edit{Step: s.name, Env: name, To: to})
	})
	if !found {
		k.say("env.%s: %q", name, to)
	}
}

// first puts a command before all others of the steps.
func (m *mender) first(k *Cause, command string) {
	m.sources(k, func(s *step, _, _ string) {
		k.say("steps.%s.run: %s  # as its first line", s.name, command)
		k.edit(Edit{Step: s.name, To: command, First: true})
	})
}

var redirect = regexp.MustCompile(`>\s*("?[^\s"|&;]+"?)\s*$`)

// drop takes out the lines that do nothing but write the files.
func (m *mender) drop(k *Cause) {
	m.sources(k, func(s *step, line, file string) {
		to := redirect.FindStringSubmatch(line)
		if to == nil || path.Base(strings.Trim(to[1], `"`)) != path.Base(file) || strings.Contains(line, ";") || strings.Contains(line, "&&") {
			return
		}
		k.say("steps.%s.run: take out: %s", s.name, line)
		k.edit(Edit{Step: s.name, From: line, Gone: true})
	})
}

// command makes a function that puts flags behind a command's name, once.
func command(name, flags string) func(string) string {
	pattern := regexp.MustCompile(`(^|[\s;&|(])` + name + `(\s|$)`)
	return func(line string) string {
		if strings.Contains(line, strings.Fields(flags)[0]) {
			return line
		}
		return pattern.ReplaceAllString(line, "${1}"+name+" "+flags+"${2}")
	}
}

var (
	dateNow = regexp.MustCompile(`(^|[\s;&|(` + "`" + `])date(\s|$|\)|` + "`" + `)`)
	dateSet = regexp.MustCompile(`\bdate\b[^|;&]*\s(?:-d|--date|-r|--reference)`)
	findCat = regexp.MustCompile(`^(.*\bfind\s[^|>]*?)\s+-exec\s+cat\s+'?\{\}'?\s*(?:\+|\\;)(\s*>.*)$`)
	findTo  = regexp.MustCompile(`^(.*\bfind\s[^|>]*[^|>\s])(\s*>.*)$`)
)

// fixedDate makes date(1) say the build's epoch; it does not read SOURCE_DATE_EPOCH itself.
func fixedDate(line string) string {
	if dateSet.MatchString(line) {
		return line
	}
	return dateNow.ReplaceAllString(line, `${1}date -u -d "@$$SOURCE_DATE_EPOCH"${2}`)
}

func sortedFind(line string) string {
	if strings.Contains(line, "sort") {
		return line
	}
	if m := findCat.FindStringSubmatch(line); m != nil { // contents, whose lines must stay
		return m[1] + " -print0 | LC_ALL=C sort -z | xargs -0 cat" + m[2]
	}
	return findTo.ReplaceAllString(line, "$1 | LC_ALL=C sort$2")
}

var lsUnsorted = regexp.MustCompile(`(^|[\s;&|(])ls((?:\s+-[A-Za-z0-9]+)*?)\s+-([A-Za-z0-9]*)[Uf]([A-Za-z0-9]*)`)

// sortedLs takes from ls what tells it not to sort.
func sortedLs(line string) string {
	return lsUnsorted.ReplaceAllStringFunc(line, func(s string) string {
		m := lsUnsorted.FindStringSubmatch(s)
		flags := m[2]
		if m[3]+m[4] != "" {
			flags += " -" + m[3] + m[4]
		}
		return m[1] + "LC_ALL=C ls" + flags
	})
}

func mendInputs(_ *mender, k *Cause) {
	k.say("quorate lock          # pin every input, then build all sides from that lock")
	k.say("quorate lock --diff   # what changed between two locks")
}

func mendToolchain(_ *mender, k *Cause) {
	k.say("quorate lock    # one toolchain for all: the same packages, from the lock")
	k.say("compare the compiler flags of both builds (CFLAGS, -O, --release)")
}

func mendTimezone(m *mender, k *Cause) {
	m.env(k, "TZ", "UTC")
}

func mendBuildTime(m *mender, k *Cause) {
	m.rewrite(k, fixedDate)
	k.say("take the time from SOURCE_DATE_EPOCH: date -u -d \"@$SOURCE_DATE_EPOCH\"; gcc's __DATE__ does by itself; or leave it out")
}

func mendFileTime(_ *mender, k *Cause) {
	k.say("clamp times when the layer is written: tar --mtime=@$SOURCE_DATE_EPOCH --clamp-mtime; buildkit: rewrite-timestamp=true; quorate build does")
}

func mendBuildPath(m *mender, k *Cause) {
	m.sources(k, func(s *step, _, _ string) {
		k.say("steps.%s.env.CFLAGS: -ffile-prefix-map=$PWD=.", s.name)
	})
	if slices.ContainsFunc(k.Evidence, func(e Evidence) bool { return strings.HasPrefix(e.Where, "line ") }) {
		k.say("in text: leave the folder out ($PWD, a prefix within it instead of DESTDIR), or the file when it is only a note of the installation (.packlist)")
	}
	k.say("env.CFLAGS: -ffile-prefix-map=$PWD=.   # gcc, clang; Go: -trimpath; Rust: --remap-path-prefix; or build in one constant folder")
}

func mendRpath(_ *mender, k *Cause) {
	k.say("cmake -DCMAKE_BUILD_RPATH_USE_ORIGIN=ON   # the RPATH is $ORIGIN/…, of one length in every folder")
}

func mendBuildID(_ *mender, k *Cause) {
	k.say("env.LDFLAGS: -Wl,--build-id=sha1   # a digest of the contents, not uuid; when it is one already, mend what differed before strip")
}

func mendLinkOrder(_ *mender, k *Cause) {
	k.say("sort the list of objects: $(sort $(wildcard *.o)) in make; sorted(glob(…)); and link in one job")
}

func mendSqlite(_ *mender, k *Cause) {
	k.say("sqlite3 app.db \"VACUUM INTO 'clean.db'\"   # after inserting in sorted order; ship clean.db")
}

func mendHashOrder(m *mender, k *Cause) {
	m.env(k, "PYTHONHASHSEED", "0")
	m.env(k, "PERL_HASH_SEED", "0")
	k.say("better: write keys sorted (json.dumps(…, sort_keys=True); sorted(set); sort keys %%h)")
}

func mendFileOrder(m *mender, k *Cause) {
	m.rewrite(k, sortedFind)
	m.rewrite(k, command("tar", "--sort=name"))
	m.rewrite(k, sortedLs)
	facts := func(fact string) bool {
		return slices.ContainsFunc(k.Evidence, func(e Evidence) bool { return strings.HasPrefix(e.Fact, fact) })
	}
	if facts(factSections) {
		k.say("LC_ALL=C ls -R   # it sorts, unless -U or -f tell it not to; TeX: make ls-R anew in the last step, from sorted names")
	}
	if facts(factJoined) {
		k.say("join sorted files: find conf.d -type f -print0 | LC_ALL=C sort -z | xargs -0 cat")
	}
	k.say("sort the names: find … | LC_ALL=C sort; tar --sort=name; $(sort $(wildcard …)); sorted(os.listdir(…))")
}

func mendGzip(m *mender, k *Cause) {
	m.rewrite(k, command("gzip", "-n"))
	k.say("gzip -n   # SOURCE_DATE_EPOCH alone does not reach gzip; Python: gzip.GzipFile(…, mtime=0)")
}

func mendCompression(m *mender, k *Cause) {
	m.rewrite(k, func(l string) string { return strings.Replace(l, "xz -T0", "xz -T1", 1) })
	k.say("pin the compressor, its version and its level: gzip -n -9; xz -6 -T1; no pigz; or store uncompressed")
}

func mendZip(m *mender, k *Cause) {
	m.rewrite(k, command("zip", "-X"))
	k.say("find . -exec touch -hd @$SOURCE_DATE_EPOCH {} + ; TZ=UTC zip -X   # jar: --date; Maven: project.build.outputTimestamp; Gradle: preserveFileTimestamps=false, reproducibleFileOrder=true; wheels read SOURCE_DATE_EPOCH")
}

func mendJar(_ *mender, k *Cause) {
	k.say("Maven: <project.build.outputTimestamp>${git.commit.time}</…>; bnd: -noextraheaders: true; Properties.store: java -Djava.properties.date=…; drop Built-By and Build-Jdk from the manifest")
}

func mendOwner(m *mender, k *Cause) {
	m.rewrite(k, command("tar", "--owner=0 --group=0 --numeric-owner"))
	k.say("tar --owner=0 --group=0 --numeric-owner; ar D; cpio --owner=0:0; COPY --chown=0:0")
}

func mendUmask(m *mender, k *Cause) {
	m.first(k, "umask 022")
	k.say("umask 022 before anything is written, or set modes: install -m 0644; chmod -R u=rwX,go=rX")
}

func mendAr(m *mender, k *Cause) {
	m.rewrite(k, func(l string) string {
		return regexp.MustCompile(`(^|[\s;&|])ar ([a-zA-CE-Z]*)U?(\s)`).ReplaceAllStringFunc(l, func(s string) string {
			if strings.Contains(s, "D") {
				return s
			}
			return strings.TrimRight(strings.Replace(s, "U", "", 1), " ") + "D "
		})
	})
	k.say("ar crD, ranlib -D   # ARFLAGS=crD in make")
}

func mendLocale(m *mender, k *Cause) {
	m.env(k, "LC_ALL", "C.UTF-8")
	k.say("sort by bytes whoever builds: LC_ALL=C sort")
}

func mendHostFacts(m *mender, k *Cause) {
	m.drop(k)
	k.say("leave out who built and where: no hostname, whoami, $HOME in outputs; quorate's sandbox has one name, user and home for all")
}

func mendKernel(m *mender, k *Cause) {
	m.drop(k)
	k.say("do not record uname: it is the builder's kernel, not the user's")
}

func mendCPUs(m *mender, k *Cause) {
	m.drop(k)
	k.say("do not record the number of CPUs; where it shapes the output, set it: make -j4, xz -T1, -C codegen-units=1")
}

func mendCPUFeatures(m *mender, k *Cause) {
	m.rewrite(k, func(l string) string { return strings.ReplaceAll(l, "-march=native", "-march=x86-64-v2") })
	k.say("env.CFLAGS: -march=x86-64-v2   # a fixed baseline, never native; BLAS: OPENBLAS_CORETYPE or DYNAMIC_ARCH=1")
}

func mendRandom(m *mender, k *Cause) {
	m.drop(k)
	k.say("make it from the contents (gcc -frandom-seed=$<, uuid5), or delete it at the end and make it at first start (machine-id, host keys)")
}

func mendLog(m *mender, k *Cause) {
	for _, f := range k.Files {
		if st, rest := m.origin(f); st != nil && plainFile.MatchString(rest) {
			remove := "rm -f $OUT" + rest
			k.say("steps.%s.run: %s  # as its last line", st.name, remove)
			k.edit(Edit{Step: st.name, To: remove, Last: true})
		}
	}
	k.say("a log is no part of what is built: delete it at the end of the step, write it outside $OUT, or leave it out of image.copy")
}

// plainFile is a path that a shell takes for itself.
var plainFile = regexp.MustCompile(`^/[A-Za-z0-9_./@+,=:-]+$`)

func mendPID(m *mender, k *Cause) {
	m.drop(k)
	k.say("leave process numbers out of outputs: no $$, no names with them; use a fixed name")
}

func mendAddress(_ *mender, k *Cause) {
	k.say("print no addresses (%%p, id(), default toString) and clear structures before writing them: = {0}, calloc; to be sure: setarch -R")
}

func mendPyc(m *mender, k *Cause) {
	m.rewrite(k, command("compileall", "--invalidation-mode unchecked-hash"))
	k.say("python3 -m compileall --invalidation-mode unchecked-hash   # or ship no .pyc: PYTHONDONTWRITEBYTECODE=1")
}

func mendPycRefs(_ *mender, k *Cause) {
	k.say("compile in a process of its own, before anything is imported: python3 -m compileall -s; Python ≥ 3.11; or ship no .pyc")
}

func mendPackageState(_ *mender, k *Cause) {
	k.say("rm -rf /var/log/{apt,dpkg.log,alternatives.log} /var/cache/{ldconfig,debconf,apt} /var/lib/dpkg/*-old; chage -d 0 USER   # quorate build leaves none of them")
}

func mendDocs(_ *mender, k *Cause) {
	k.say("SOURCE_DATE_EPOCH with FORCE_SOURCE_DATE=1 (TeX); \\pdftrailerid{}; javadoc -notimestamp; help2man and Sphinx read SOURCE_DATE_EPOCH; or leave documents out")
}

func mendGettext(_ *mender, k *Cause) {
	k.say("gettext ≥ 0.21 leaves POT-Creation-Date out; else msgattrib, or sed '/POT-Creation-Date/d' before msgfmt")
}

func mendPicture(_ *mender, k *Cause) {
	k.say("convert -strip, or -define png:exclude-chunk=time,date; ImageMagick ≥ 7 reads SOURCE_DATE_EPOCH")
}

func mendFileSystem(_ *mender, k *Cause) {
	k.say("mksquashfs -all-time $SOURCE_DATE_EPOCH -mkfs-time $SOURCE_DATE_EPOCH; mke2fs -U clear -E hash_seed=00000000-0000-0000-0000-000000000000 with E2FSPROGS_FAKE_TIME=$SOURCE_DATE_EPOCH; xorriso reads SOURCE_DATE_EPOCH")
}

func mendPax(m *mender, k *Cause) {
	m.rewrite(k, command("tar", "--pax-option=delete=atime,delete=ctime,exthdr.name=%d/PaxHeaders/%f"))
	k.say("tar --pax-option=delete=atime,delete=ctime,exthdr.name=%%d/PaxHeaders/%%f   # or --format=ustar where names are short")
}

func mendEntryKind(m *mender, k *Cause) {
	says := func(word string) bool {
		return slices.ContainsFunc(k.Evidence, func(e Evidence) bool { return strings.Contains(e.Where+" "+e.Fact, word) })
	}
	if says("xattr") {
		m.rewrite(k, command("tar", "--xattrs --xattrs-include='*'"))
		k.say("keep attributes wherever files are copied or packed: tar --xattrs --xattrs-include='*'; cp --preserve=xattr; rsync -X; or setcap after the last copy")
	}
	if says("hard link") {
		k.say("copy with links or without them on all hosts: cp -a, rsync -H, tar keep them; cp -r and COPY from several layers do not")
	}
	if says("holes") || says("sparse") {
		k.say("tar without -S (--sparse): which holes a file has is of the file system, not of the file")
	}
	if says("whiteout") || says("opaque") {
		k.say("write deletions in the form of OCI layers (.wh.NAME, .wh..wh..opq): never pack the upper folder of an overlay as it is")
	}
	k.say("write layers with one program from one kind of file system: quorate build, or one version of one builder")
}

func mendGoRust(m *mender, k *Cause) {
	m.rewrite(k, command("go build", "-trimpath -buildvcs=false -ldflags=-buildid="))
	k.say("go build -trimpath -buildvcs=false -ldflags=-buildid=   # Rust: --remap-path-prefix=$PWD=. and -C metadata")
}

func mendImageDocuments(_ *mender, k *Cause) {
	k.say("created = SOURCE_DATE_EPOCH in config and history: buildkit reads it, umoci --created, buildah --timestamp; no run ids in ENV, LABEL or annotations")
}

func mendRace(_ *mender, k *Cause) {
	k.say("make -j1 to confirm; then name the missing dependency in the makefile")
}
