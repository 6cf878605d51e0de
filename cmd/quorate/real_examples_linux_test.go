package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// testExamples has the examples of whole projects built by two workers each,
// who have to agree, and starts what they built: it has to answer.
func (w *world) testExamples(t *testing.T) {
	e := startEngine(t)
	for _, one := range []struct {
		name string
		try  func(t *testing.T, e *engine)
	}{
		{"web", w.tryWeb},
		{"service", func(t *testing.T, e *engine) {
			e.answers(t, "/hello/reader", "Hello, reader\n", "service", func(port int) []string {
				return []string{"--entrypoint", "/usr/bin/python3", "service", "-m", "waitress", fmt.Sprintf("--listen=127.0.0.1:%d", port), "greet:app"}
			})
		}},
		{"node", func(t *testing.T, e *engine) {
			e.answers(t, "/hello/reader", "Hello, reader\n", "node", func(port int) []string {
				return []string{"--env", fmt.Sprintf("PORT=%d", port), "node"}
			})
		}},
		{"library", func(t *testing.T, e *engine) {
			e.says(t, "Good day, reader\n", "library", "--greeting", "Good day", "reader")
		}},
		{"zones", func(t *testing.T, e *engine) {
			e.says(t, "Tokyo\n", "zones", "ls", "/usr/share/zoneinfo/Asia/Tokyo", "-1")
		}},
		{"quorate", func(t *testing.T, e *engine) { e.says(t, "\n", "quorate", "version") }},
	} {
		t.Run(one.name, func(t *testing.T) {
			w.rebuildAndLoad(t, e, one.name)
			one.try(t, e)
		})
	}
}

// rebuildAndLoad has an example rebuilt from its committed lock, or from a fresh
// one where those bytes cannot be had any more, and loads the image.
func (w *world) rebuildAndLoad(t *testing.T, e *engine, name string) {
	t.Helper()
	project := filepath.Join(w.dir, "rebuilt", name)
	if err := os.CopyFS(project, os.DirFS(repositoryDir(t, filepath.Join("examples", name)))); err != nil {
		t.Fatal(err)
	}
	if name == "quorate" {
		stageSource(t, filepath.Join(project, "source"))
	}
	archive := project + ".tar"
	args := []string{"rebuild", project, "--rebuilders", "2", "--platform", "linux/amd64", "--results", project + "-results", "--output", "docker-archive=" + archive}
	c := w.runQuorate(t, args...)
	if c.code == 2 && strings.Contains(c.stderr+c.stdout, "no source gave its bytes") {
		t.Logf("LOCKED AFRESH: the bytes of the committed lock of %s cannot be had any more:\n%s", name, c.stderr)
		w.lock(t, project)
		c = w.runQuorate(t, args...)
	}
	if c.code != 0 || !strings.Contains(c.stdout, "AGREED: 2 of 2 rebuilders") {
		t.Fatalf("quorate rebuild %s: exit code %d\n%s%s", name, c.code, c.stdout, c.stderr)
	}
	e.run(t, "load", "--input", archive)
}

// stageSource writes the checkout as `make image` does: what git knows, as it is now.
func stageSource(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	must(t, "sh", "-c", `cd "$1" && git ls-files -z --cached --others --exclude-standard | xargs -0 ls -d 2>/dev/null | tar -cf - --no-recursion -T - | tar -xf - -C "$2"`, "sh", repositoryDir(t, "."), dir)
}

// says runs an image, hardened and without network, and expects what it prints.
func (e *engine) says(t *testing.T, want string, args ...string) {
	t.Helper()
	if got := e.run(t, append(append(append([]string{}, hardened...), "--network", "none"), args...)...); !strings.HasSuffix(got, want) {
		t.Errorf("%s says %q, expected %q", args[0], got, want)
	}
}

// answers starts a service on a free port of this machine, since the engine has no network of its own, and asks it.
func (e *engine) answers(t *testing.T, path, want, image string, args func(port int) []string) {
	t.Helper()
	port := freePort(t)
	command := append([]string{}, hardened...)
	command = append(command, "--detach", "--network", "host", "--tmpfs", "/tmp")
	id := strings.TrimSpace(e.run(t, append(command, args(port)...)...))
	defer e.run(t, "stop", "--time", "1", id)
	if got := get(t, fmt.Sprintf("http://127.0.0.1:%d%s", port, path)); got != want {
		t.Errorf("%s answers %q, expected %q", image, got, want)
	}
	if user := e.run(t, "image", "inspect", "--format", "{{.Config.User}}", image); user != "65532:65532\n" {
		t.Errorf("%s runs as %q", image, user)
	}
}

// tryWeb asks the service, and holds its program against what the go command makes
// of the same source with the same toolchain, on this machine.
func (w *world) tryWeb(t *testing.T, e *engine) {
	e.answers(t, "/hello/reader", "Hello, reader\n", "web", func(port int) []string {
		return []string{"--env", fmt.Sprintf("LISTEN=127.0.0.1:%d", port), "web"}
	})
	id := strings.TrimSpace(e.run(t, "create", "web"))
	defer e.run(t, "rm", id)
	theirs, ours := filepath.Join(w.dir, "web.image"), filepath.Join(w.dir, "web.go")
	e.run(t, "cp", id+":/usr/bin/web", theirs)
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -buildid=", "-o", ours, ".")
	build.Dir = filepath.Join(w.dir, "rebuilt", "web", "app")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOAMD64=v1", "GOTOOLCHAIN=go1.26.0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	must(t, "cmp", theirs, ours)
}

// testInit drafts a definition for a project that has none, and builds it.
func (w *world) testInit(t *testing.T) {
	project := filepath.Join(w.dir, "drafted")
	if err := os.CopyFS(project, os.DirFS(repositoryDir(t, "testdata/autotools"))); err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"init", "lock", "build"} {
		if c := w.runQuorate(t, verb, project); c.code != 0 {
			t.Fatalf("quorate %s: exit code %d\n%s", verb, c.code, c.stderr)
		}
	}
}
