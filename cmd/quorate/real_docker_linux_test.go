package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"quorate.dev/rebuild/host/docker/dockertest"
)

// engine is a Docker Engine of the suite's own, beside any that the machine has.
type engine struct {
	docker string
	socket string
}

// startEngine starts an engine, which ends with the test and leaves nothing.
func startEngine(t *testing.T) *engine {
	t.Helper()
	return &engine{docker: tool(t, "docker"), socket: dockertest.Start(t).Socket}
}

// run runs docker against this engine.
func (e *engine) run(t *testing.T, args ...string) string {
	t.Helper()
	return must(t, e.docker, append([]string{"--host", e.socket}, args...)...)
}

// testDocker loads every example into an Engine and runs it there.
func (w *world) testDocker(t *testing.T) {
	e := startEngine(t)
	for _, name := range everyExample {
		if got, want := e.run(t, "load", "--input", w.example(t, name).docker), "Loaded image: "+name+":latest\n"; got != want {
			t.Errorf("docker load said %q, expected %q", got, want)
		}
	}
	t.Run("greeter", func(t *testing.T) { testGreeterContainer(t, e) })
	t.Run("nginx", func(t *testing.T) { testNginxContainer(t, e) })
	t.Run("base", func(t *testing.T) { w.testBaseContainer(t, e) })
}

// hardened is how a careful host runs a container.
var hardened = []string{"run", "--rm", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"}

func testGreeterContainer(t *testing.T, e *engine) {
	out := e.run(t, append(hardened, "--network", "none", "greeter", "reader", "Asia/Tokyo")...)
	if !strings.HasSuffix(out, ", reader!\n") {
		t.Errorf("greeter said %q", out)
	}
	if user := e.run(t, "image", "inspect", "--format", "{{.Config.User}}", "greeter"); user != "65532:65532\n" {
		t.Errorf("greeter runs as %q", user)
	}
}

// testNginxContainer asks the service for its page. It shares the host's
// network, since the engine has none of its own; port 8080 may be taken there,
// so the configuration is the image's with another port.
func testNginxContainer(t *testing.T, e *engine) {
	port := freePort(t)
	ours, err := os.ReadFile(repositoryDir(t, "examples/nginx/conf/nginx.conf"))
	if err != nil {
		t.Fatal(err)
	}
	conf := strings.Replace(string(ours), "listen 8080;", fmt.Sprintf("listen 127.0.0.1:%d;", port), 1)
	if !strings.Contains(conf, fmt.Sprint(port)) {
		t.Fatalf("the example's configuration does not listen on 8080:\n%s", conf)
	}
	mine := filepath.Join(enterable(t), "nginx.conf")
	if err := os.WriteFile(mine, []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	id := strings.TrimSpace(e.run(t, append(hardened, "--detach", "--network", "host", "--tmpfs", "/tmp",
		"--volume", mine+":/etc/nginx/nginx.conf:ro", "nginx")...))
	defer e.run(t, "stop", id)
	body := get(t, fmt.Sprintf("http://127.0.0.1:%d/", port))
	want, err := os.ReadFile(repositoryDir(t, "examples/nginx/conf/index.html"))
	if err != nil {
		t.Fatal(err)
	}
	if body != string(want) {
		t.Errorf("nginx served %q, expected %q", body, want)
	}
	top := e.run(t, "top", id, "-o", "pid,uid,args")
	if len(regexp.MustCompile(`(?m)^ *[0-9]+ +65532 `).FindAllString(top, -1)) != strings.Count(top, "\n")-1 {
		t.Errorf("nginx does not run as 65532 alone:\n%s", top)
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// get asks until the server is up.
func get(t *testing.T, url string) string {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		r, err := http.Get(url)
		if err != nil {
			if time.Now().After(deadline) {
				t.Fatal(err)
			}
			continue
		}
		defer r.Body.Close()
		body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
		if err != nil || r.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s %v\n%s", url, r.Status, err, body)
		}
		return string(body)
	}
}

// testBaseContainer looks at the root from inside, with its own programs.
func (w *world) testBaseContainer(t *testing.T, e *engine) {
	inside := func(script string) string {
		t.Helper()
		return e.run(t, "run", "--rm", "--network", "none", "base", "sh", "-euc", script+" 2>&1")
	}
	for _, silent := range []string{"dpkg --verify", "dpkg --audit", "pwck -qr", "grpck -qr", "debconf-show nothing"} {
		if out := inside(silent); out != "" {
			t.Errorf("%s says:\n%s", silent, out)
		}
	}
	var installed []string
	for line := range strings.Lines(inside(`dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n'`)) {
		name, ok := strings.CutPrefix(strings.TrimSpace(line), "ii  ")
		if !ok {
			t.Errorf("dpkg lists %q", line)
		}
		installed = append(installed, name)
	}
	if got, want := strings.Join(installed, " "), strings.Join(w.example(t, "base").imagePackages(), " "); got != want {
		t.Errorf("dpkg lists\n%s\nthe lock says\n%s", got, want)
	}
	for script, want := range map[string]string{
		"apt-get check":                  "Reading package lists",
		"apt-get --simulate install apt": "apt is already the newest version",
		"dpkg --print-architecture":      "amd64\n",
		"getent passwd _apt":             "_apt:x:42:65534::/nonexistent:/usr/sbin/nologin\n",
		"getent shadow root":             "root:*:",
		"date +%Z":                       "UTC\n",
		"ldconfig -p | head -n 1":        "libs found in cache",
		"perl -e 'print 6*7'":            "42",
		"apt-get --simulate install $PWD/usr/share/none.deb || echo refused": "refused\n",
	} {
		if out := inside(script); !strings.Contains(out, want) {
			t.Errorf("%s says %q, expected %q", script, out, want)
		}
	}
	w.testInstallInside(t, e)
}

// testInstallInside installs a package from a file into the base image, as a
// user would who builds upon it; its dependencies are there already.
func (w *world) testInstallInside(t *testing.T, e *engine) {
	dir := enterable(t)
	for _, p := range w.example(t, "greeter").lock.Platforms[0].Packages {
		if p.Name != "make" {
			continue
		}
		must(t, "cp", filepath.Join(w.store, "blobs", "sha256", p.SHA256.Hex()), filepath.Join(dir, "make.deb"))
	}
	out := e.run(t, "run", "--rm", "--network", "none", "--volume", dir+":/debs:ro", "base", "sh", "-euc",
		"apt-get --simulate install /debs/make.deb; apt-get --yes install /debs/make.deb; make --version; dpkg --audit; dpkg --verify make")
	for _, want := range []string{"Inst make (", "Setting up make", "GNU Make"} {
		if !strings.Contains(out, want) {
			t.Errorf("installing make inside base: no %q in\n%s", want, out)
		}
	}
}
