package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"quorate.dev/lockfile/source/deb"
)

// allowed are the only differences between examples/base and what mmdebstrap
// makes of the same packages; each pattern matches whole lines of [compare] and
// must be of use. "theirs" and "ours" mean that only they or we have the path.
var allowed = []difference{
	{`theirs dev/(console|full|null|ptmx|pts|random|shm|tty|urandom|zero|fd|std(in|out|err))`, "container runtimes bring /dev; a device node in an image needs privileges to unpack"},
	{`theirs etc/(hostname|resolv\.conf)`, "the building host's own, which differ from host to host"},
	{`theirs etc/fstab`, "mmdebstrap writes \"UNCONFIGURED FSTAB\"; containers have no use for it"},
	{`theirs etc/apt/sources\.list`, "names mmdebstrap's mirror; where later packages come from is the user's to say"},
	{`theirs (etc/\.pwd\.lock|var/lib/dpkg/(lock|lock-frontend|triggers/Lock)|var/(lib/apt/lists|cache/apt/archives)/lock)`, "locks of programs that ended; made anew at need"},
	{`theirs var/(lib/dpkg/(diversions|status)|cache/debconf/(config|templates)\.dat)-old`, "backups of states between two packages"},
	{`(mode|owner) var/(lib/apt/lists|cache/apt/archives)/partial`, "the package ships them root:root 0755; apt gives them to _apt when it downloads, which happens here only there"},
	{`theirs var/lib/apt/extended_states`, "apt's list of what it chose by itself; no apt ran in our root"},
	{`theirs var/lib/dpkg/arch`, "written by mmdebstrap's dpkg --add-architecture; without it dpkg's own architecture counts, which is the same"},
	{`ours var/lib/dpkg/(available|statoverride)`, "empty, as dpkg leaves them on an installed system; mmdebstrap's dpkg was never asked to write them"},
}

// testMmdebstrap compares the base example with the root that mmdebstrap makes
// of the same packages with the same epoch: paths, types, modes, owners,
// contents, links.
func (w *world) testMmdebstrap(t *testing.T) {
	their := w.mmdebstrap(t)
	e := w.example(t, "base")
	our := flattened(t, e.layout)
	if a, b := installedVersions(our), installedVersions(their); !slices.Equal(a, b) {
		t.Logf("LOCKED AFRESH: the archive has moved on since base was locked")
		again := &example{project: filepath.Join(w.dir, "examples", "base-afresh")}
		if err := os.CopyFS(again.project, os.DirFS(e.project)); err != nil {
			t.Fatal(err)
		}
		w.lock(t, again.project)
		w.finish(t, "base-afresh", again)
		if our = flattened(t, again.layout); !slices.Equal(installedVersions(our), b) {
			t.Fatalf("not the same packages: ours %v, theirs %v", installedVersions(our), b)
		}
	}
	explained(t, compare(our, their), allowed)
	t.Logf("%d paths of ours, %d of mmdebstrap's", len(our.files), len(their.files))
}

// difference is one between two roots that is meant, and why.
type difference struct{ pattern, because string }

// explained fails for what no pattern allows, and for patterns that nothing needs.
func explained(t *testing.T, found []string, allowed []difference) {
	t.Helper()
	used := make([]bool, len(allowed))
	for _, one := range found {
		i := slices.IndexFunc(allowed, func(a difference) bool {
			return regexp.MustCompile(`^(` + a.pattern + `)$`).MatchString(one)
		})
		if i < 0 {
			t.Errorf("unexplained: %s", one)
			continue
		}
		used[i] = true
	}
	for i, a := range allowed {
		if !used[i] {
			t.Errorf("no difference is like %q any more: remove it", a.pattern)
		}
	}
}

// aptSources are the lines of a sources.list for bookworm, from this machine's mirrors.
func aptSources(t *testing.T) []string {
	t.Helper()
	mirrors, err := deb.AptMirrors("/", "bookworm")
	if err != nil || len(mirrors) == 0 {
		t.Fatalf("this machine's apt configuration names no mirror: %v", err)
	}
	at := mirrors[0]
	return []string{"deb " + at.Main + " bookworm main", "deb " + at.Main + " bookworm-updates main", "deb " + at.Security + " bookworm-security main"}
}

// mmdebstrap makes a minbase root from this machine's mirrors. Its hook merges
// /usr before anything is unpacked, and a pin keeps apt from taking usrmerge
// for "usrmerge | usr-is-merged", which would bring all of perl.
func (w *world) mmdebstrap(t *testing.T) *flat {
	t.Helper()
	out := filepath.Join(w.dir, "mmdebstrap.tar")
	args := []string{
		"--variant=minbase", "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
		`--setup-hook=printf 'Package: usrmerge\nPin: release *\nPin-Priority: -1\n' >"$1/etc/apt/preferences.d/usrmerge"`,
		`--customize-hook=rm "$1/etc/apt/preferences.d/usrmerge"`,
		"bookworm", out,
	}
	args = append(args, aptSources(t)...)
	cmd := exec.Command(tool(t, "mmdebstrap"), args...)
	cmd.Env = append(os.Environ(), fmt.Sprintf("SOURCE_DATE_EPOCH=%d", w.example(t, "base").lock.Epoch.Unix()))
	if c := run(t, cmd); c.code != 0 {
		t.Fatalf("mmdebstrap: exit code %d\n%s", c.code, c.stderr)
	}
	f, err := os.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	root := newFlat()
	root.lay(t, f)
	root.relink(t)
	return root
}

// flat is a root as a list of what is in it.
type flat struct {
	files map[string]flatFile
	kept  map[string][]byte // contents that tests look into
	links map[string]string // hard links, until relink
}

type flatFile struct {
	kind     string
	mode     int64
	uid, gid int
	link     string
	content  [sha256.Size]byte
	time     int64
}

// keptPaths are read whole; they are small.
var keptPaths = regexp.MustCompile(`^(var/lib/dpkg/status|etc/(passwd|group|machine-id))$`)

// flattened is what the layers of the only image in an OCI layout give, one over the other.
func flattened(t *testing.T, dir string) *flat {
	t.Helper()
	f := newFlat()
	for _, name := range layerFiles(t, dir) {
		r, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		gz, err := gzip.NewReader(r)
		if err != nil {
			t.Fatal(err)
		}
		f.lay(t, gz)
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	f.relink(t)
	return f
}

// layerFiles are the blobs of the only image in an OCI layout, lowest first.
func layerFiles(t *testing.T, dir string) []string {
	t.Helper()
	type descriptor struct{ Digest string }
	blob := func(d descriptor) string {
		return filepath.Join(dir, "blobs", strings.ReplaceAll(d.Digest, ":", "/"))
	}
	index := decode[struct{ Manifests []descriptor }](t, must(t, "cat", filepath.Join(dir, "index.json")))
	manifest := decode[struct{ Layers []descriptor }](t, must(t, "cat", blob(index.Manifests[0])))
	var files []string
	for _, l := range manifest.Layers {
		files = append(files, blob(l))
	}
	return files
}

func newFlat() *flat {
	return &flat{files: map[string]flatFile{}, kept: map[string][]byte{}, links: map[string]string{}}
}

// lay reads one layer over what is there. Whiteouts are the OCI layer
// specification's: .wh.NAME hides NAME, .wh..wh..opq all below its folder.
func (f *flat) lay(t *testing.T, r io.Reader) {
	t.Helper()
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
		dir, base := path.Split(name)
		switch hidden, whiteout := strings.CutPrefix(base, ".wh."); {
		case base == ".wh..wh..opq":
			f.remove(dir)
		case whiteout:
			f.remove(dir + hidden)
			f.remove(dir + hidden + "/")
		case h.Typeflag == tar.TypeLink:
			f.links[name] = strings.TrimPrefix(path.Clean("/"+h.Linkname), "/")
			delete(f.files, name)
		case name != "":
			delete(f.links, name)
			f.add(t, name, h, tr)
		}
	}
}

// remove forgets a path, or all below a folder when it ends in a slash.
func (f *flat) remove(name string) {
	gone := func(p string) bool { return p == name || strings.HasSuffix(name, "/") && strings.HasPrefix(p, name) }
	maps.DeleteFunc(f.files, func(p string, _ flatFile) bool { return gone(p) })
	maps.DeleteFunc(f.links, func(p, _ string) bool { return gone(p) })
}

func (f *flat) add(t *testing.T, name string, h *tar.Header, r io.Reader) {
	t.Helper()
	var content bytes.Buffer
	sum := sha256.New()
	var into io.Writer = sum
	if keptPaths.MatchString(name) {
		into = io.MultiWriter(sum, &content)
	}
	if _, err := io.Copy(into, r); err != nil {
		t.Fatal(err)
	}
	file := flatFile{kind: kinds[h.Typeflag], mode: h.Mode & 0o7777, uid: h.Uid, gid: h.Gid, link: h.Linkname, time: h.ModTime.Unix()}
	sum.Sum(file.content[:0])
	f.files[name] = file
	if keptPaths.MatchString(name) {
		f.kept[name] = content.Bytes()
	}
}

// relink makes hard links the files they name: which of the names comes first
// is a tar writer's choice.
func (f *flat) relink(t *testing.T) {
	t.Helper()
	for name, to := range f.links {
		for f.links[to] != "" {
			to = f.links[to]
		}
		file, ok := f.files[to]
		if !ok {
			t.Fatalf("hard link %q names %q, which is not there", name, to)
		}
		f.files[name] = file
	}
}

var kinds = map[byte]string{
	tar.TypeReg: "file", tar.TypeDir: "folder", tar.TypeSymlink: "link", tar.TypeChar: "device", tar.TypeBlock: "device", tar.TypeFifo: "pipe",
}

// installedVersions lists "name version" of every package that dpkg's status has.
func installedVersions(f *flat) []string {
	var out []string
	var name string
	for line := range strings.Lines(string(f.kept["var/lib/dpkg/status"])) {
		if v, ok := strings.CutPrefix(line, "Package: "); ok {
			name = strings.TrimSpace(v)
		}
		if v, ok := strings.CutPrefix(line, "Version: "); ok {
			out = append(out, name+" "+strings.TrimSpace(v))
		}
	}
	slices.Sort(out)
	return out
}

// compare says in one line each what differs.
func compare(our, their *flat) []string {
	var out []string
	for name, o := range our.files {
		t, ok := their.files[name]
		switch {
		case !ok:
			out = append(out, "ours "+name)
		case o.kind != t.kind:
			out = append(out, "kind "+name)
		default:
			for what, differs := range map[string]bool{
				"mode": o.mode != t.mode, "owner": o.uid != t.uid || o.gid != t.gid,
				"target": o.kind == "link" && o.link != t.link, "content": o.content != t.content,
			} {
				if differs {
					out = append(out, what+" "+name)
				}
			}
		}
	}
	for name := range their.files {
		if _, ok := our.files[name]; !ok {
			out = append(out, "theirs "+name)
		}
	}
	slices.Sort(out)
	return out
}
