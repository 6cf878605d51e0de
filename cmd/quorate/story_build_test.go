package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"quorate.dev/lockfile"
	"quorate.dev/lockfile/digest"
)

// The commands of stories about builds:
//
//	hostile-deb PACKAGE FAULT
//	    put a .deb with the fault in the place of a package's, in the archive
//	    and in quorate.lock, as if an archive had signed for it. FAULT is one of
//	    hostileDebs.
//	script-deb PACKAGE SCRIPT=FILE…
//	    put a .deb with these maintainer scripts and no file in the place of a
//	    package's, in the store and in quorate.lock
//	hostile-archive FILE FAULT
//	    write a tar.gz with the fault, of the same list
//	blob PACKAGE|FILE NAME
//	    set the variable NAME to the path of a locked input in the store
var buildCommands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"hostile-deb":     hostileDeb,
	"script-deb":      scriptDeb,
	"hostile-archive": hostileArchive,
	"blob":            blobPath,
}

// TestRealScript runs the stories that need Debian's own archive, and the store
// that they share so that each package is fetched once.
func TestRealScript(t *testing.T) {
	if os.Getenv("QUORATE_REAL") == "" {
		t.Skip("fetches real packages; run by `make real`")
	}
	t.Parallel() // with the suites of whole images
	shared := os.Getenv("QUORATE_TEST_STORE")
	if shared == "" {
		shared = t.TempDir()
	}
	all := storyMakers(t)
	maps.Copy(all, storyCommands)
	maps.Copy(all, buildCommands)
	maps.Copy(all, registryCommands)
	maps.Copy(all, serveCommands)
	testscript.Run(t, testscript.Params{
		Files: stories(t, true),
		Setup: func(env *testscript.Env) error {
			if err := setupStory(env); err != nil {
				return err
			}
			env.Setenv("QUORATE_STORE", shared)
			env.Setenv("QUORATE_APT_ROOT", "/")
			env.Setenv("QUORATE_SNAPSHOT", "")
			return nil
		},
		Cmds:                all,
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}

// stories lists the scripts that need the real archive, or those that do not.
func stories(t *testing.T, real bool) []string {
	files, err := filepath.Glob(filepath.Join(source, "testdata", "script", "*.txtar"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	return slices.DeleteFunc(files, func(f string) bool {
		return strings.HasPrefix(filepath.Base(f), "real_") != real
	})
}

// A good package's files, for faults to stand among.
func goodFolder(w *tar.Writer, names ...string) {
	for _, name := range names {
		_ = w.WriteHeader(&tar.Header{Name: "./" + name + "/", Typeflag: tar.TypeDir, Mode: 0o755, Format: tar.FormatGNU})
	}
}

func goodFile(w *tar.Writer, name, text string) {
	_ = w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(text)), Format: tar.FormatGNU})
	_, _ = io.WriteString(w, text)
}

// hostileDebs are the ways in which a data.tar may try to leave its place, or to fill it.
var hostileDebs = map[string]func(w *tar.Writer){
	"dotdot": func(w *tar.Writer) {
		goodFolder(w, "usr")
		goodFile(w, "./usr/../../escaped", "out")
	},
	"absolute": func(w *tar.Writer) { goodFile(w, "/etc/escaped", "out") },
	"symlink": func(w *tar.Writer) {
		goodFolder(w, "usr")
		_ = w.WriteHeader(&tar.Header{Name: "./usr/lib", Typeflag: tar.TypeSymlink, Linkname: "/tmp", Mode: 0o777, Format: tar.FormatGNU})
		goodFile(w, "./usr/lib/escaped", "out")
	},
	"hardlink": func(w *tar.Writer) {
		goodFolder(w, "usr")
		_ = w.WriteHeader(&tar.Header{Name: "./usr/passwd", Typeflag: tar.TypeLink, Linkname: "/etc/passwd", Mode: 0o644, Format: tar.FormatGNU})
	},
	"device": func(w *tar.Writer) {
		goodFolder(w, "dev")
		_ = w.WriteHeader(&tar.Header{Name: "./dev/sda", Typeflag: tar.TypeBlock, Devmajor: 8, Mode: 0o666, Format: tar.FormatGNU})
	},
	"twice": func(w *tar.Writer) {
		goodFolder(w, "usr")
		goodFile(w, "./usr/file", "one")
		goodFile(w, "./usr/file", "two")
	},
	"bomb": func(w *tar.Writer) {
		const size = 300 << 20 // past the floor of package archive, below which no ratio is a bomb
		_ = w.WriteHeader(&tar.Header{Name: "./zeros", Typeflag: tar.TypeReg, Mode: 0o644, Size: size, Format: tar.FormatGNU})
		_, _ = io.CopyN(w, zeros{}, size)
	},
	"cut": func(w *tar.Writer) {
		_ = w.WriteHeader(&tar.Header{Name: "./short", Typeflag: tar.TypeReg, Mode: 0o644, Size: 5000, Format: tar.FormatGNU})
		_, _ = io.WriteString(w, "not 5000 bytes")
	},
	"name": func(w *tar.Writer) { goodFile(w, "./a\nb\x1b[31m", "control characters") },
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func hostileTar(ts *testscript.TestScript, fault string) []byte {
	fill, ok := hostileDebs[fault]
	if !ok {
		ts.Fatalf("there is no fault %q, only %q", fault, slices.Sorted(maps.Keys(hostileDebs)))
	}
	return gzipped(func(w *tar.Writer) { goodFolder(w, "."); fill(w) })
}

func gzipped(fill func(*tar.Writer)) []byte {
	var out bytes.Buffer
	z, _ := gzip.NewWriterLevel(&out, gzip.BestCompression)
	w := tar.NewWriter(z)
	fill(w)
	_ = w.Close() // the fault "cut" is not whole, on purpose
	_ = z.Close()
	return out.Bytes()
}

func hostileArchive(ts *testscript.TestScript, neg bool, args []string) {
	path := storyFile(ts, neg, args, 2, 2, "hostile-archive FILE FAULT")
	ts.Check(os.MkdirAll(filepath.Dir(path), 0o755))
	ts.Check(os.WriteFile(path, hostileTar(ts, args[1]), 0o644))
}

func hostileDeb(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: hostile-deb PACKAGE FAULT")
	}
	lock, path := storyLock(ts)
	pin := lockedPackage(ts, lock, args[0])
	deb := makeDeb(gzipped(func(w *tar.Writer) { goodFile(w, "./control", controlOf(pin)) }), hostileTar(ts, args[1]))
	pin.Size, pin.SHA256 = int64(len(deb)), digest.Of(deb)
	ts.Check(os.WriteFile(filepath.Join(ts.MkAbs(".archive"), "debian", filepath.FromSlash(pin.Path)), deb, 0o644))
	ts.Check(os.WriteFile(path, lockfile.Format(lock), 0o644))
}

func lockedPackage(ts *testscript.TestScript, lock *lockfile.Lock, name string) *lockfile.Package {
	for i := range lock.Platforms {
		for j := range lock.Platforms[i].Packages {
			if p := &lock.Platforms[i].Packages[j]; p.Name == name {
				return p
			}
		}
	}
	ts.Fatalf("the lock has no package %q", name)
	return nil
}

// controlOf is what a package must say to be the one that the lock names.
func controlOf(p *lockfile.Package) string {
	return fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: %s\nMaintainer: Test <test@example.org>\nDescription: made for a story\n", p.Name, p.Version, p.Arch)
}

func makeDeb(control, data []byte) []byte {
	var out bytes.Buffer
	out.WriteString("!<arch>\n")
	for _, m := range []struct {
		name string
		data []byte
	}{{"debian-binary", []byte("2.0\n")}, {"control.tar.gz", control}, {"data.tar.gz", data}} {
		fmt.Fprintf(&out, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", m.name, 0, 0, 0, "100644", len(m.data))
		out.Write(m.data)
		if len(m.data)%2 == 1 {
			out.WriteByte('\n')
		}
	}
	return out.Bytes()
}

func storyLock(ts *testscript.TestScript) (*lockfile.Lock, string) {
	path := ts.MkAbs(lockfile.FileName)
	data, err := os.ReadFile(path)
	ts.Check(err)
	lock, err := lockfile.Parse(path, data)
	ts.Check(err)
	return lock, path
}

func blobPath(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: blob PACKAGE|FILE NAME")
	}
	lock, _ := storyLock(ts)
	found := digest.Digest{}
	for _, f := range lock.Files {
		if f.Name == args[0] {
			found = f.SHA256
		}
	}
	for _, p := range lock.Platforms {
		for _, pkg := range p.Packages {
			if pkg.Name == args[0] {
				found = pkg.SHA256
			}
		}
	}
	if found.IsZero() {
		ts.Fatalf("the lock has no input %q", args[0])
	}
	ts.Setenv(args[1], filepath.Join(ts.Getenv("QUORATE_STORE"), "blobs", "sha256", found.Hex()))
}

// scriptDeb puts a package of maintainer scripts alone in the place of a locked
// one, in quorate.lock and straight into the store.
func scriptDeb(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: script-deb PACKAGE SCRIPT=FILE…")
	}
	lock, path := storyLock(ts)
	pin := lockedPackage(ts, lock, args[0])
	deb := makeDeb(gzipped(func(w *tar.Writer) {
		goodFile(w, "./control", controlOf(pin))
		for _, arg := range args[1:] {
			name, file, _ := strings.Cut(arg, "=")
			script, err := os.ReadFile(ts.MkAbs(file))
			ts.Check(err)
			_ = w.WriteHeader(&tar.Header{Name: "./" + name, Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(script)), Format: tar.FormatGNU})
			_, _ = w.Write(script)
		}
	}), gzipped(func(w *tar.Writer) { goodFolder(w, ".") }))
	pin.Size, pin.SHA256 = int64(len(deb)), digest.Of(deb)
	blob := filepath.Join(ts.Getenv("QUORATE_STORE"), "blobs", "sha256", pin.SHA256.Hex())
	ts.Check(os.WriteFile(blob, deb, 0o644))
	ts.Check(os.WriteFile(path, lockfile.Format(lock), 0o644))
}
