// Package gomod shows Go modules as a module proxy in a folder, which the go
// command reads with GOPROXY=file:///inputs/NAME (go help goproxy). For each pin
// it has what a proxy would answer:
//
//	example.org/m/@v/list           versions
//	example.org/m/@v/v1.2.0.info    {"Version":"v1.2.0"}; no time, which a proxy takes from a repository
//	example.org/m/@v/v1.2.0.mod     the pin's, or the one in its zip
//	example.org/m/@v/v1.2.0.zip     the pin
//
// A toolchain (module golang.org/toolchain) is shown unpacked besides, at
// goroot/, so that a step needs no other Go: /inputs/NAME/goroot/bin/go.
package gomod

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"

	"quorate.dev/builder/unpack"
	"quorate.dev/builder/unpack/archive"
	"quorate.dev/lockfile"
)

const (
	toolchainModule = "golang.org/toolchain"
	goroot          = "goroot"

	// maxMod bounds a go.mod, as golang.org/x/mod/zip does (MaxGoMod).
	maxMod = 16 << 20
)

// Unpack is an unpack.Kind.
func Unpack(_ lockfile.Input, blobs []unpack.Blob, files *unpack.Files) error {
	mods := map[string]bool{} // paths of go.mod files that are pins
	versions := map[string][]string{}
	for _, b := range blobs {
		if strings.HasSuffix(b.Pin.Path, ".mod") {
			mods[b.Pin.Path] = true
		}
	}
	for _, b := range blobs {
		if err := checkPath(b.Pin); err != nil {
			return err
		}
		if err := files.AddBlob(b.Pin.Path, b); err != nil {
			return err
		}
		base, isZip := strings.CutSuffix(b.Pin.Path, ".zip")
		if !isZip {
			base = strings.TrimSuffix(b.Pin.Path, ".mod")
		}
		if isZip && !mods[base+".mod"] {
			mod, err := goMod(b)
			if err != nil {
				return err
			}
			if err := files.Add(base+".mod", 0o644, bytes.NewReader(mod)); err != nil {
				return err
			}
		}
		if isZip && b.Pin.Name == toolchainModule {
			if err := toolchain(b, files); err != nil {
				return err
			}
		}
		dir := path.Dir(base)
		if !slices.Contains(versions[dir], b.Pin.Version) {
			versions[dir] = append(versions[dir], b.Pin.Version)
			if err := files.Add(base+".info", 0o644, strings.NewReader(info(b.Pin.Version))); err != nil {
				return err
			}
		}
	}
	for _, dir := range slices.Sorted(maps.Keys(versions)) {
		list := versions[dir]
		semver.Sort(list)
		if err := files.Add(dir+"/list", 0o644, strings.NewReader(strings.Join(list, "\n")+"\n")); err != nil {
			return err
		}
	}
	return nil
}

// checkPath holds a pin's path against its name: a lock that was put together
// by hand must not show one module as another.
func checkPath(p lockfile.Pin) error {
	name, err := module.EscapePath(p.Name)
	if err != nil {
		return err
	}
	version, err := module.EscapeVersion(p.Version)
	if err != nil {
		return err
	}
	if want := name + "/@v/" + version; p.Path != want+".zip" && p.Path != want+".mod" {
		return fmt.Errorf("module %s %s has path %q", p.Name, p.Version, p.Path)
	}
	return nil
}

func info(version string) string {
	text, err := json.Marshal(struct{ Version string }{version})
	if err != nil {
		return "{}" // a string always can be written
	}
	return string(text)
}

// goMod is the go.mod in a module's zip, or the one that proxies make up for a
// module without.
func goMod(b unpack.Blob) ([]byte, error) {
	name := b.Pin.Name + "@" + b.Pin.Version + "/go.mod"
	z, err := archive.OpenZip(b, b.Pin.Size)
	if err != nil {
		return nil, fmt.Errorf("module %s %s: %w", b.Pin.Name, b.Pin.Version, err)
	}
	for _, f := range z.File {
		if f.Name != name {
			continue
		}
		r, err := f.Open()
		if err != nil {
			return nil, err
		}
		defer r.Close()
		text, err := io.ReadAll(io.LimitReader(r, maxMod+1))
		if err == nil && len(text) > maxMod {
			err = fmt.Errorf("go.mod of %s %s has more than %d bytes", b.Pin.Name, b.Pin.Version, maxMod)
		}
		return text, err
	}
	return []byte("module " + modfile.AutoQuote(b.Pin.Name) + "\n"), nil
}

// toolchain unpacks Go. Module zips keep no modes, so those that the go command
// gives a toolchain's programs are given here (cmd/go/internal/toolchain).
func toolchain(b unpack.Blob, files *unpack.Files) error {
	prefix := b.Pin.Name + "@" + b.Pin.Version + "/"
	z, err := archive.OpenZip(b, b.Pin.Size)
	if err != nil {
		return fmt.Errorf("toolchain %s: %w", b.Pin.Version, err)
	}
	for _, f := range z.File {
		name, ok := strings.CutPrefix(f.Name, prefix)
		if !ok || strings.HasSuffix(name, "/") {
			continue
		}
		mode := uint32(0o644)
		if strings.HasPrefix(name, "bin/") || strings.HasPrefix(name, "pkg/tool/") {
			mode = 0o755
		}
		r, err := f.Open()
		if err != nil {
			return err
		}
		err = files.Add(path.Join(goroot, name), mode, r)
		if close := r.Close(); err == nil {
			err = close
		}
		if err != nil {
			return err
		}
	}
	return nil
}
