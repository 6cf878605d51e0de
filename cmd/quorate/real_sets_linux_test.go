package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// testDistroless unpacks without running anything, for this machine's
// platform and for one that it cannot run.
func (w *world) testDistroless(t *testing.T) {
	e := w.define(t, "distroless", `
apiVersion: quorate/v1
name: distroless
platforms: [linux/amd64, linux/arm64]
epoch: 2026-11-01T00:00:00Z
inputs:
  debian: {suite: bookworm}
image:
  packages: [libc6, ca-certificates, tzdata]
  scripts: none
  essential: false
  without: [debconf, openssl]
  accounts: {users: [{name: app, uid: 65532}], run-as: app}
`)
	w.build(t, e.project)
	for platform, loader := range map[string]string{"linux/amd64": "usr/lib/x86_64-linux-gnu/libc.so.6", "linux/arm64": "usr/lib/aarch64-linux-gnu/libc.so.6"} {
		e.layout = filepath.Join(w.dir, "out", "distroless", strings.ReplaceAll(platform, "/", "-"))
		digest := w.build(t, e.project, "--platform", platform, "--output", "oci="+e.layout)
		got := decode[struct{ Digest, Architecture string }](t, must(t, tool(t, "skopeo"), "inspect",
			"--override-arch", strings.TrimPrefix(platform, "linux/"), "oci:"+e.layout))
		if got.Digest != digest || "linux/"+got.Architecture != platform {
			t.Errorf("%s: skopeo says %+v, quorate %s", platform, got, digest)
		}
		files := flattened(t, e.layout).files
		for _, want := range []string{loader, "usr/share/zoneinfo/Europe/Oslo", "var/lib/dpkg/status.d/libc6", "var/lib/dpkg/status.d/tzdata", "etc/passwd", "tmp"} {
			if _, ok := files[want]; !ok {
				t.Errorf("%s: /%s is missing", platform, want)
			}
		}
		for _, not := range []string{"var/lib/dpkg/status", "var/lib/dpkg/info/libc6.postinst", "usr/bin/openssl"} {
			if _, ok := files[not]; ok {
				t.Errorf("%s: /%s is there", platform, not)
			}
		}
	}
}

// sets are what people put into images and what scripts are known to do badly:
// identities, keys, stores, indexes and databases made at installation.
var sets = []struct {
	name, suite string
	packages    string
	withheld    []string // left out of the image, and said so
	has         []string
}{
	{name: "java", packages: "default-jre-headless, ca-certificates-java", has: []string{"etc/ssl/certs/java/cacerts"}},
	{name: "postgres", packages: "postgresql", withheld: []string{"etc/ssl/private/ssl-cert-snakeoil.key", "etc/ssl/certs/ssl-cert-snakeoil.pem"}, has: []string{"usr/lib/postgresql/15/bin/postgres"}},
	{name: "shell", packages: "openssh-server, python3, gcc, sudo, cron, rsyslog", withheld: []string{
		"etc/ssh/ssh_host_rsa_key", "etc/ssh/ssh_host_rsa_key.pub", "etc/ssh/ssh_host_ecdsa_key", "etc/ssh/ssh_host_ecdsa_key.pub",
		"etc/ssh/ssh_host_ed25519_key", "etc/ssh/ssh_host_ed25519_key.pub",
	}},
	{name: "system", packages: "systemd, dbus, man-db, locales, apache2, install-info", withheld: []string{"usr/share/info/dir"}, has: []string{"etc/machine-id", "var/cache/man/index.db"}},
	{name: "postfix", packages: "postfix", withheld: []string{"etc/aliases.db", "etc/ssl/private/ssl-cert-snakeoil.key"}, has: []string{"etc/aliases", "etc/postfix/main.cf"}},
	{name: "servers", packages: "mariadb-server, slapd, bind9, xrdp", withheld: []string{"var/lib/mysql/", "etc/ldap/slapd.d/", "etc/bind/rndc.key", "etc/xrdp/rsakeys.ini"}, has: []string{"var/lib/mysql", "etc/mysql/my.cnf"}},
	{name: "exim", packages: "exim4", has: []string{"etc/mailname"}},
	{name: "trixie", suite: "trixie", packages: "python3, openssh-server, systemd", withheld: []string{"etc/ssh/ssh_host_ed25519_key"}},
}

// testSets builds each set twice, the second time elsewhere. dpkg and the maintainer
// scripts keep one processor busy, so several sets are built at once.
func (w *world) testSets(t *testing.T) {
	for i, s := range sets {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			elsewhere := w.elsewhere(t, i)
			if s.suite == "" {
				s.suite = "bookworm"
			}
			e := w.define(t, s.name, fmt.Sprintf(`
apiVersion: quorate/v1
name: %s
platforms: [linux/amd64]
epoch: 2026-11-01T00:00:00Z
inputs:
  debian: {suite: %s}
image:
  packages: [%s]
  essential: true
`, s.name, s.suite, s.packages))
			w.finish(t, s.name, e)
			there := w.buildIn(t, e, elsewhere)
			defer removeAll(t, there.dir)
			if there.digest != e.digest {
				c := must(t, "sh", "-c", `diff=$1; shift; "$diff" --text - --max-report-size 4000 "$@" || :`, "sh", tool(t, "diffoscope"), e.archive, there.archive)
				t.Errorf("here %s, elsewhere %s\n%s", e.digest, there.digest, c)
			}
			checkSet(t, e, flattened(t, e.layout), there.stderr, s.withheld, s.has)
			if err := os.RemoveAll(filepath.Dir(e.layout)); err != nil {
				t.Error(err)
			}
		})
	}
}

// checkSet looks for what no image may hold.
func checkSet(t *testing.T, e *example, image *flat, said string, withheld, has []string) {
	t.Helper()
	for name, file := range image.files {
		if file.time > e.lock.Epoch.Unix() {
			t.Errorf("/%s is newer than the epoch", name)
		}
		if strings.HasPrefix(name, "dev/") || strings.HasPrefix(name, "run/") && file.kind == "pipe" {
			t.Errorf("/%s is no business of an image", name)
		}
	}
	if id := image.kept["etc/machine-id"]; len(id) > 0 {
		t.Errorf("/etc/machine-id holds %q", id)
	}
	for _, name := range withheld {
		if _, ok := image.files[name]; ok {
			t.Errorf("/%s is in the image", name)
		}
		if !strings.Contains(said, "/"+name) {
			t.Errorf("nothing was said of /%s", name)
		}
	}
	for _, name := range has {
		if _, ok := image.files[name]; !ok {
			t.Errorf("/%s is missing", name)
		}
	}
}
