package main

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"quorate.dev/rebuild/host/docker/dockertest"
)

// TestRealForeignDocker asks a Docker Engine's worker for a step of a platform
// that is not its own. Its container holds quorate and nothing else, so no
// emulator is found, and the refusal names the step, the platform and what is missing.
func TestRealForeignDocker(t *testing.T) {
	w := theWorld(t)
	h := w.on(t)
	h.engines = []*dockertest.Engine{dockertest.Start(t)}
	foreign := "arm64"
	if runtime.GOARCH == foreign {
		foreign = "amd64"
	}
	define := func(name, rest string) {
		t.Helper()
		if err := os.MkdirAll(h.path(name+"/files/bin"), 0o755); err != nil {
			t.Fatal(err)
		}
		h.write(t, filepath.Join(name, "quorate.yaml"), "apiVersion: quorate/v1\nname: "+name+"\nplatforms: [linux/"+foreign+"]\nepoch: 2026-11-01T00:00:00Z\n"+rest)
	}
	define("box", "inputs: {local: {files: {path: files}}}\nimage: {copy: [{from: files, to: /}]}\n")
	h.write(t, "box/files/bin/sh", "of another machine\n")
	define("onbox", "inputs: {images: {box: {image: \"oci:box\"}}}\nsteps: [{name: machine, root: box, run: \"uname -m >$OUT/machine\"}]\nimage: {copy: [{from: machine, to: /}]}\n")
	h.run(t, "lock", h.path("box"))
	h.run(t, "build", h.path("box"), "--output", "oci="+h.path("onbox/box"))
	h.run(t, "lock", h.path("onbox"))
	entry := h.run(t, "rebuilders", "init", "ams", "--docker", h.engines[0].Socket, "--output", h.dir).stdout
	h.write(t, "rebuilders.yaml", "rebuilders:\n"+entry+"policy: {threshold: 1}\n")
	before := h.there(t)
	c := run(t, h.command(t.Context(), "rebuild", h.path("onbox"), "--rebuilders-file", h.path("rebuilders.yaml"), "--results", h.path("results")))
	want := `cannot build linux/` + foreign + ` on this machine (linux/` + runtime.GOARCH + `): step "machine" would have to run there, and nothing here runs programs for ` + foreign + `: there is no qemu-`
	if c.code != exitUnknown || !strings.Contains(c.stdout, want) {
		t.Errorf("exit code %d, want 2 and the reason\n%s%s", c.code, c.stdout, c.stderr)
	}
	if got := h.there(t); !strings.Contains(got, before) {
		t.Errorf("before there was\n%s\nand afterwards\n%s", before, got)
	}
}
