package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"quorate.dev/lockfile"
)

// baseProject is an image that people would call bookworm-slim: its dpkg leaves
// manuals and documents out. addProject adds packages to it: ca-certificates has
// triggers, and dbus makes an account.
const (
	baseProject = `apiVersion: quorate/v1
name: slim
platforms: [linux/amd64]
epoch: 2026-11-01T00:00:00Z
inputs:
  debian: {suite: bookworm}
  local: {slim: {path: slim}}
image:
  packages: [apt]
  copy: [{from: slim, to: /etc/dpkg/dpkg.cfg.d}]
`
	addProject = `apiVersion: quorate/v1
name: app
platforms: [linux/amd64]
epoch: 2026-11-01T00:00:00Z
inputs:
  debian: {suite: bookworm}
  images: {base: {image: "oci:base"}}
image:
  base: base
  packages: [curl, ca-certificates, dbus, python3-minimal, bash]
`
	// overProject is built on the image that was just built of a base and packages. The
	// root of its step is another image with packages.
	overProject = `apiVersion: quorate/v1
name: over
platforms: [linux/amd64]
epoch: 2026-11-01T00:00:00Z
inputs:
  debian: {suite: bookworm}
  images: {base: {image: "oci:base"}, app: {image: "oci:app"}}
steps:
  - name: look
    root: base
    packages: [jq]
    run: |
      dpkg --audit
      apt-get check
      mkdir $OUT/srv
      dpkg-query --show --showformat '${db:Status-Status} ${Package}@${Version}\n' >$OUT/srv/packages
      jq --version
image:
  base: app
  packages: [curl, less]
  copy: [{from: look, to: /}]
`
	slimRules = "path-exclude=/usr/share/doc/*\npath-include=/usr/share/doc/*/copyright\npath-exclude=/usr/share/man/*\n"
)

// allowedOnBase are the only differences between our image and what apt-get
// install leaves of the same packages in the same base. As in allowed, each must
// be of use.
var allowedOnBase = []difference{
	{`theirs etc/(resolv\.conf|apt/(sources\.list|apt\.conf\.d/test))`, "put there by this test, for apt to reach its mirror"},
	{`theirs (etc/\.pwd\.lock|var/lib/dpkg/(lock|lock-frontend|triggers/Lock|status-old|statoverride-old))`, "locks of programs that ended, and backups"},
	{`theirs var/lib/dbus/machine-id`, "each machine's own, so left out of images"},
	{`theirs var/(lib/apt/(extended_states|lists/.*)|cache/apt/.*|log/.*)`, "apt's own notes and logs; no apt ran over our root"},
	{`theirs var/cache/ldconfig/aux-cache`, "inode numbers and times"},
	{`theirs var/cache/debconf/(config|templates)\.dat-old`, "backups"},
	{`(mode|owner) var/(lib/apt/lists|cache/apt/archives)/partial`, "apt gives them to _apt when it downloads"},
}

// testBase holds packages that are added to an image against what apt-get
// install does in a root of that image.
func (w *world) testBase(t *testing.T) {
	base, app := filepath.Join(w.dir, "slim"), filepath.Join(w.dir, "on-slim")
	for name, text := range map[string]string{
		filepath.Join(base, "quorate.yaml"): baseProject, filepath.Join(base, "slim", "docker"): slimRules, filepath.Join(app, "quorate.yaml"): addProject,
	} {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	w.lock(t, base)
	w.succeeds(t, "build", base, "--output", "oci="+filepath.Join(app, "base"))
	w.lock(t, app)
	out, bom := filepath.Join(w.dir, "on-slim-image"), filepath.Join(w.dir, "on-slim.cdx.json")
	digest := w.build(t, app, "--output", "oci="+out, "--sbom", "cyclonedx="+bom)
	if a, b := layerFiles(t, filepath.Join(app, "base")), layerFiles(t, out); len(b) <= len(a) || !sameNames(a, b[:len(a)]) {
		t.Errorf("the image's layers are not first those of the base:\n%v\n%v", a, b)
	}
	our := flattened(t, out)
	root := w.aptInstalled(t, filepath.Join(app, "base"), "curl", "ca-certificates", "dbus", "python3-minimal")
	their := scanned(t, root)
	if a, b := installedVersions(our), installedVersions(their); !slices.Equal(a, b) {
		t.Fatalf("not the same packages: ours %v, theirs %v", a, b)
	}
	explained(t, compare(our, their), allowedOnBase)
	t.Logf("%d paths of ours, %d of apt's", len(our.files), len(their.files))

	// dpkg finds its own database in order; what it misses is what it was told to leave out.
	e := &example{project: app, lock: readLock(t, app), digest: digest, layout: out}
	ours := w.inOrder(t, e)
	inOurs, inTheirs := run(t, exec.Command("chroot", ours, "dpkg", "--verify")), run(t, exec.Command("chroot", root, "dpkg", "--verify"))
	if inOurs.stdout != inTheirs.stdout {
		t.Errorf("dpkg --verify says in our root\n%sand in apt's\n%s", inOurs.stdout, inTheirs.stdout)
	}

	// The bill of materials lists what dpkg does: what the base says of itself, and what the lock added.
	below := filepath.Join(w.dir, "slim-root")
	w.unpacked(t, filepath.Join(app, "base"), below)
	fromBase := shippedParts(t, bom, "part/image/base/deb/")
	sameParts(t, fromBase, queried(t, below))
	both := append(shippedParts(t, bom, "part/deb/"), fromBase...)
	slices.Sort(both)
	sameParts(t, both, queried(t, ours))

	t.Run("elsewhere", func(t *testing.T) { w.testBaseElsewhere(t, e) })
	t.Run("single", func(t *testing.T) { w.testBaseSingle(t, e, our) })
	t.Run("none", func(t *testing.T) { w.testBaseNone(t, e) })
	t.Run("over", func(t *testing.T) { w.testBaseOver(t, e, below, ours) })
}

// testBaseElsewhere has two rebuilders of an ordinary user build the same, and
// then root, from nothing but what they published.
func (w *world) testBaseElsewhere(t *testing.T, e *example) {
	other := w.elsewhere(t, 0)
	other.mapping = "range"
	b := w.settleIn(t, e, other)
	published := filepath.Join(b.dir, "published")
	c := w.runIn(t, b, other, "rebuild", "--offline", "--rebuilders", "2", "--results", filepath.Join(b.dir, "results"), "--push", "oci:"+published+":v1")
	if c.code != 0 || !strings.Contains(c.stdout, "AGREED: 2 of 2 rebuilders") {
		t.Fatalf("quorate rebuild: exit code %d\n%s%s", c.code, c.stdout, c.stderr)
	}
	if got := strings.TrimSpace(must(t, tool(t, "skopeo"), "inspect", "--format", "{{.Digest}}", "oci:"+published+":v1")); got != e.digest {
		t.Errorf("rebuilders of another user agree on %s, expected %s", got, e.digest)
	}
	c = w.runQuorate(t, "reproduce", "oci:"+published+":v1", "--offline", "--policy", filepath.Join(b.dir, "results", "policy.yaml"))
	if c.code != 0 || !strings.HasSuffix(strings.TrimSpace(c.stdout), "@"+e.digest) {
		t.Errorf("quorate reproduce: exit code %d\n%s%s", c.code, c.stdout, c.stderr)
	}
}

// testBaseSingle makes one layer of all. dbus gives a file to a group of its own,
// which a single id cannot: that is refused.
func (w *world) testBaseSingle(t *testing.T, e *example, layered *flat) {
	single := w.variant(t, e, "single", "  base: base\n", "  base: base\n  layers: single\n")
	if layers := layerFiles(t, single.layout); len(layers) != 1 {
		t.Errorf("%d layers, expected one", len(layers))
	}
	for _, difference := range compare(flattened(t, single.layout), layered) {
		t.Errorf("in one layer, not in several: %s", difference)
	}
	w.inOrder(t, single)
	got := w.tryIn(t, single, withOneID(t))
	if got.code != 2 || !strings.Contains(got.stderr, "owner") {
		t.Errorf("with a single id: exit code %d\n%s%s", got.code, got.stdout, got.stderr)
	}
}

// testBaseNone only unpacks, which needs no more than a single id.
func (w *world) testBaseNone(t *testing.T, e *example) {
	none := w.variant(t, e, "none", "  base: base\n", "  base: base\n  scripts: none\n")
	w.inOrder(t, none)
	if got := w.buildIn(t, none, withOneID(t)); got.digest != none.digest {
		t.Errorf("%s with a single id, expected %s", got.digest, none.digest)
	}
}

// testBaseOver adds packages to two images: one of them is a step's root, the other
// itself has packages over a base. below and ours are roots of the two.
func (w *world) testBaseOver(t *testing.T, e *example, below, ours string) {
	over := w.variant(t, e, "over", addProject, overProject, "app="+e.layout)
	over.lock = readLock(t, over.project)
	root := w.inOrder(t, over)
	sameParts(t, queried(t, root), added(queried(t, ours), over.lock, "image"))
	inStep, err := os.ReadFile(filepath.Join(root, "srv", "packages"))
	if err != nil {
		t.Fatal(err)
	}
	sameParts(t, installedOf(string(inStep)), added(queried(t, below), over.lock, "step/look"))

	// What depends on what in the base is what apt reads of its database.
	bom := over.layout + ".cdx.json"
	w.succeeds(t, "sbom", over.project, "--format", "cyclonedx", "--output", bom)
	sameParts(t, shippedParts(t, bom, "part/image/app/deb/"), queried(t, ours))
	want := aptDepends(t, ours)
	if diff := cmp.Diff(want, dependencies(t, bom, "part/image/app/deb/")); diff != "" || len(want) < 200 {
		t.Errorf("of %d dependencies apt says (-), the SBOM says (+):\n%s", len(want), diff)
	}
}

// added are packages, and what a set of a lock adds to them.
func added(packages []string, lock *lockfile.Lock, set string) []string {
	n := len(packages)
	for _, p := range lock.Platforms[0].Packages {
		if _, in := p.InSet(set); in {
			packages = append(packages, p.Name+"@"+p.Version)
		}
	}
	if len(packages) == n {
		return nil // and there is nothing to compare
	}
	slices.Sort(packages)
	return packages
}

// dependencies are the lines "NAME NAME" of packages of a base that depend on others.
func dependencies(t *testing.T, bom, prefix string) []string {
	t.Helper()
	name := func(ref string) string {
		name, _, _ := strings.Cut(strings.TrimPrefix(ref, prefix), ":")
		return name
	}
	var out []string
	for _, d := range *readBOM(t, bom).Dependencies {
		if !strings.HasPrefix(d.Ref, prefix) {
			continue
		}
		for _, on := range *d.Dependencies {
			out = append(out, name(d.Ref)+" "+name(on))
		}
	}
	slices.Sort(out)
	return out
}

// aptDepends is the same as apt says it of what is installed in a root. It prints
//
//	bash
//	  PreDepends: libc6
//	 |Depends: debconf
//	  Depends: <debconf-2.0>
//	    cdebconf
//
// where | is in front of what has another alternative behind it, <NAME> is not
// installed, and below it is who provides it.
func aptDepends(t *testing.T, root string) []string {
	t.Helper()
	script := `apt-cache depends --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances $(dpkg-query --show --showformat '${Package} ')`
	var out []string
	var name, met string       // whom it is about; the first alternative that is there
	more, open := false, false // alternatives follow; whoever provides this one counts
	end := func() {
		if met != "" && met != name {
			out = append(out, name+" "+met)
		}
		met = ""
	}
	for line := range strings.Lines(must(t, "chroot", root, "sh", "-c", script)) {
		line = strings.TrimRight(line, "\n")
		_, on, relation := strings.Cut(line, ": ")
		switch {
		case line[0] != ' ':
			end()
			name, more = line, false
		case relation:
			if !more {
				end()
			}
			more, open = line[1] == '|', met == "" && on[0] == '<'
			if met == "" && !open {
				met = on
			}
		case open && met == "":
			met = strings.TrimSpace(line)
		}
	}
	end()
	slices.Sort(out)
	return slices.Compact(out)
}

// variant is a project with other words in its definition, locked and built.
// Layouts are copied to it as NAME=DIR.
func (w *world) variant(t *testing.T, e *example, name, old, text string, layouts ...string) *example {
	t.Helper()
	v := &example{project: e.project + "-" + name, layout: e.project + "-" + name + "-image"}
	if err := os.CopyFS(v.project, os.DirFS(e.project)); err != nil {
		t.Fatal(err)
	}
	for _, l := range layouts {
		name, dir, _ := strings.Cut(l, "=")
		if err := os.CopyFS(filepath.Join(v.project, name), os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
	}
	definition := filepath.Join(v.project, "quorate.yaml")
	was, err := os.ReadFile(definition)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(was), old); n != 1 {
		t.Fatalf("%q occurs %d times, expected once", old, n)
	}
	if err := os.WriteFile(definition, []byte(strings.Replace(string(was), old, text, 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	w.lock(t, v.project)
	v.digest = w.build(t, v.project, "--output", "oci="+v.layout)
	return v
}

// inOrder has dpkg and apt look at their own database in an image's root.
func (w *world) inOrder(t *testing.T, e *example) (root string) {
	t.Helper()
	root = e.layout + "-root"
	w.unpacked(t, e.layout, root)
	if c := run(t, exec.Command("chroot", root, "dpkg", "--audit")); c.code != 0 || c.stdout != "" {
		t.Errorf("dpkg --audit: exit code %d\n%s%s", c.code, c.stdout, c.stderr)
	}
	must(t, "chroot", root, "apt-get", "check")
	return root
}

// queried is what dpkg-query says is installed in a root.
func queried(t *testing.T, root string) []string {
	t.Helper()
	return installedOf(must(t, "chroot", root, "dpkg-query", "--show", "--showformat", `${db:Status-Status} ${Package}@${Version}\n`))
}

// installedOf are the installed packages of a list that dpkg-query printed.
func installedOf(list string) []string {
	var out []string
	for line := range strings.Lines(list) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "installed "); ok {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

func sameNames(a, b []string) bool {
	return slices.EqualFunc(a, b, func(x, y string) bool { return filepath.Base(x) == filepath.Base(y) })
}

func (w *world) succeeds(t *testing.T, args ...string) {
	t.Helper()
	if c := w.runQuorate(t, args...); c.code != 0 {
		t.Fatalf("quorate %s: exit code %d\n%s", strings.Join(args, " "), c.code, c.stderr)
	}
}

// unpacked makes a folder of an image's files, by a tool that we did not write.
func (w *world) unpacked(t *testing.T, layout, root string) {
	t.Helper()
	bundle := root + "-bundle"
	must(t, tool(t, "umoci"), "unpack", "--image", layout+":"+w.tagOf(t, layout), bundle)
	if err := os.Rename(filepath.Join(bundle, "rootfs"), root); err != nil {
		t.Fatal(err)
	}
}

// tagOf is the name that a layout gives its image.
func (w *world) tagOf(t *testing.T, layout string) string {
	t.Helper()
	type descriptor struct{ Annotations map[string]string }
	index := decode[struct{ Manifests []descriptor }](t, must(t, "cat", filepath.Join(layout, "index.json")))
	return index.Manifests[0].Annotations["org.opencontainers.image.ref.name"]
}

// aptInstalled is a root of the image in which apt-get install ran.
func (w *world) aptInstalled(t *testing.T, layout string, packages ...string) string {
	t.Helper()
	root := filepath.Join(w.dir, "apt-root")
	w.unpacked(t, layout, root)
	for name, text := range map[string]string{
		"etc/apt/sources.list": strings.Join(aptSources(t), "\n") + "\n",
		// What is held against each other is dpkg's work, not how fast a disk is.
		"etc/apt/apt.conf.d/test": "Acquire::Check-Valid-Until \"false\";\nDPkg::Options { \"--force-unsafe-io\"; };\nAPT::Sandbox::User \"root\";\n",
	} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	resolv, err := os.ReadFile("/etc/resolv.conf")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "etc/resolv.conf"), resolv, 0o644); err != nil {
		t.Fatal(err)
	}
	script := "apt-get update -q && apt-get install -q -y --no-install-recommends " + strings.Join(packages, " ")
	// /dev and /proc are seen by nobody else, and gone with the process. No
	// service starts, as in an image that is built.
	cmd := exec.Command("unshare", "--mount", "sh", "-ec", fmt.Sprintf(
		`mount --bind /dev %[1]s/dev; mount -t proc proc %[1]s/proc; printf '#!/bin/sh\nexit 101\n' >/tmp/policy-$$; chmod 755 /tmp/policy-$$; touch %[1]s/usr/sbin/policy-rc.d; mount --bind /tmp/policy-$$ %[1]s/usr/sbin/policy-rc.d; `+
			`code=0; chroot %[1]s sh -ec '%[2]s' || code=$?; umount %[1]s/usr/sbin/policy-rc.d; rm %[1]s/usr/sbin/policy-rc.d /tmp/policy-$$; exit $code`, root, script))
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8", "SOURCE_DATE_EPOCH=1793491200", "PERL_HASH_SEED=0", "PYTHONHASHSEED=0"}
	if c := run(t, cmd); c.code != 0 {
		t.Fatalf("apt-get install: exit code %d\n%s%s", c.code, c.stdout, c.stderr)
	}
	return root
}

// scanned lists a folder as a layer would hold it.
func scanned(t *testing.T, root string) *flat {
	t.Helper()
	packed := root + ".tar"
	must(t, "tar", "--numeric-owner", "--exclude=./dev/*", "-C", root, "-cf", packed, ".")
	f, err := os.Open(packed)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all := newFlat()
	all.lay(t, f)
	all.relink(t)
	return all
}
