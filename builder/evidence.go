package builder

import (
	"archive/tar"
	"archive/zip"
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/klauspost/compress/gzip"

	"quorate.dev/builder/sbom"
	"quorate.dev/builder/store"
	"quorate.dev/builder/tree"
	"quorate.dev/builder/unpack"
	"quorate.dev/lockfile"
	"quorate.dev/lockfile/digest"
)

// What a step was given and what of that is in the image are two things: a step
// compiles, links, installs and leaves out. Two of the files that it leaves tell
// for certain, and are believed when they are byte for byte what the lock says:
//
//   - A program that Go made names the modules that are linked into it, as
//     `go version -m` shows. A module that only go.sum names is in no program.
//   - npm and pip install a package with its package.json or METADATA as it is,
//     so that one in the image with the bytes of a pin's is that pin.
//
// Of other inputs nobody knows (sources of C, crates, a bundle of JavaScript), and
// the documents say so.
type evidence struct {
	programs  map[string]program         // that steps and copies left, by path in the image
	manifests map[digest.Digest][]string // keys of pins by the digest of their package.json or METADATA
	declared  map[string]sbom.Declared   // by key of a pin
	found     map[string][]string        // by key of a pin: where it is in the image
	linked    map[string][]string        // by key of a step or input: keys of what is linked into its programs
	linkedBy  map[string]bool            // keys of steps and inputs with a program that tells
	modules   []sbom.Part                // linked modules that no pin of the lock is
}

// program is an executable that Go made.
type program struct {
	from   string // key of the step or input
	digest digest.Digest
	info   *debug.BuildInfo
}

func newEvidence() evidence {
	return evidence{
		programs: map[string]program{}, manifests: map[digest.Digest][]string{}, declared: map[string]sbom.Declared{},
		found: map[string][]string{}, linked: map[string][]string{}, linkedBy: map[string]bool{},
	}
}

// program notes a file that is copied into the image, if Go made it.
func (v *inventory) program(at string, e tree.Entry, from string) error {
	delete(v.programs, at) // whatever was copied there before
	section, ok := e.Content.(tree.Section)
	if e.Kind != tree.File || e.Mode&0o111 == 0 || !ok {
		return nil
	}
	f, err := os.Open(section.File)
	if err != nil {
		return &tree.ContentError{Path: e.Path, Err: err, File: section.File}
	}
	defer f.Close()
	info, err := buildinfo.Read(io.NewSectionReader(f, section.Offset, section.Size))
	if err != nil {
		return nil // no program of Go's
	}
	whole, err := tree.Open(e) // which holds the bytes against their digest
	if err != nil {
		return err
	}
	defer whole.Close()
	if _, err := io.Copy(io.Discard, whole); err != nil {
		return err
	}
	v.programs[at] = program{from: from, digest: e.Digest, info: info}
	return nil
}

// pinKey is the key of the part that a pin is.
func pinKey(in lockfile.Input, p lockfile.Pin) string {
	return in.Kind + "/" + in.Name + "/" + p.Name + "@" + p.Version + "/" + p.Path
}

// weigh goes through the image's files and notes which pins they show.
func (v *inventory) weigh(ctx context.Context) error {
	for _, in := range v.job.Lock.Inputs {
		for _, p := range v.job.Lock.PinsOf(in.Name, v.platform.String()) {
			if err := v.describe(ctx, in, p); err != nil {
				return fmt.Errorf("%s %s: %w", p.Name, p.Version, err)
			}
		}
	}
	if len(v.programs) == 0 && len(v.manifests) == 0 {
		return nil
	}
	names := map[string]string{} // of npm packages, by key
	for _, in := range v.job.Lock.Inputs {
		if in.Kind == lockfile.KindNpm {
			for _, p := range v.job.Lock.PinsOf(in.Name, v.platform.String()) {
				names[pinKey(in, p)] = p.Name
			}
		}
	}
	for e, err := range v.regular() {
		if err != nil {
			return err
		}
		if p, ok := v.programs[e.Path]; ok && p.digest == e.Digest {
			v.link(e.Path, p)
		}
		dir, base := path.Split(e.Path)
		if base != "package.json" && base != "METADATA" {
			continue
		}
		dir = path.Clean(dir)
		for _, key := range v.manifests[e.Digest] {
			name, npm := names[key]
			if npm && strings.HasSuffix("/"+dir, "/node_modules/"+name) || !npm && strings.HasSuffix(dir, ".dist-info") {
				v.found[key] = append(v.found[key], "installed at /"+dir)
			}
		}
	}
	return nil
}

// link notes the modules that are linked into a program.
func (v *inventory) link(at string, p program) {
	v.linkedBy[p.from] = true
	goVersion, _, _ := strings.Cut(strings.TrimPrefix(p.info.GoVersion, "go"), " ") // " X:experiment" may follow
	all := append([]*debug.Module{{Path: "stdlib", Version: goVersion}}, p.info.Deps...)
	for _, m := range all {
		if m.Replace != nil {
			m = m.Replace
		}
		if m.Version == "" || m.Version == "(devel)" {
			continue // a folder of the same input
		}
		key := v.modulePin(m.Path, m.Version)
		if key == "" {
			key = v.module(m, p.from)
		}
		if where := "linked into /" + at; !slices.Contains(v.found[key], where) {
			v.found[key] = append(v.found[key], where)
		}
		if !slices.Contains(v.linked[p.from], key) {
			v.linked[p.from] = append(v.linked[p.from], key)
		}
	}
}

// modulePin is the key of a module's pin, "" when the lock has none.
func (v *inventory) modulePin(name, version string) string {
	for _, in := range v.job.Lock.Inputs {
		if in.Kind != lockfile.KindGo {
			continue
		}
		for _, p := range v.job.Lock.PinsOf(in.Name, v.platform.String()) {
			if p.Name == name && p.Version == version && !strings.HasSuffix(p.Path, ".mod") {
				return pinKey(in, p)
			}
		}
	}
	return ""
}

// module makes a part of a module that is no pin: Go's own library, or one that
// a tree brings in its folder vendor.
func (v *inventory) module(m *debug.Module, from string) string {
	key := "module/" + m.Path + "@" + m.Version
	if slices.ContainsFunc(v.modules, func(p sbom.Part) bool { return p.Key == key }) {
		return key
	}
	pin := lockfile.Pin{Name: m.Path, Version: m.Version}
	part := sbom.Part{
		Key: key, Kind: "module", Name: m.Path, Version: m.Version, URI: pinURI(pin, lockfile.InputRequest{Kind: lockfile.KindGo}),
		Licence: sbom.Licence{Comment: noGoLicence}, Shipped: true,
	}
	v.modules = append(v.modules, part)
	return key
}

// noGoLicence is why modules of Go have no licence here.
const noGoLicence = "Go modules declare no licence in a form that machines read"

// pinURI is a pin's URI as SBOMs have it. The specification of package URLs has
// names of Go modules in lower case ("types/golang"); reports, which were signed
// with the name's own case, keep that.
func pinURI(p lockfile.Pin, request lockfile.InputRequest) string {
	uri := p.URI(request)
	if request.Kind == lockfile.KindGo {
		name, version, _ := strings.Cut(uri, "@")
		uri = strings.ToLower(name) + "@" + version
	}
	return uri
}

// manifests are the files of packages that say what they are, by kind of input.
var manifests = map[string]struct {
	is   func(dir, base string) bool // in its archive
	read func([]byte) (sbom.Declared, error)
}{
	lockfile.KindNpm:   {func(dir, base string) bool { return base == "package.json" && inTopFolder(dir) }, sbom.NPM},
	lockfile.KindCargo: {func(dir, base string) bool { return base == "Cargo.toml" && inTopFolder(dir) }, sbom.Crate},
	lockfile.KindPython: {func(dir, base string) bool {
		return inTopFolder(dir) && (base == "METADATA" && strings.HasSuffix(dir, ".dist-info") || base == "PKG-INFO" && !strings.HasSuffix(dir, ".egg-info"))
	}, sbom.Python},
}

// inTopFolder reports whether dir is one of the folders at an archive's top.
func inTopFolder(dir string) bool { return dir != "." && !strings.Contains(dir, "/") }

// describe reads what a pin says of itself.
func (v *inventory) describe(ctx context.Context, in lockfile.Input, p lockfile.Pin) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	key := pinKey(in, p)
	if in.Kind == lockfile.KindGo {
		v.declared[key] = sbom.Declared{Licence: sbom.Licence{Comment: noGoLicence}}
		return nil
	}
	kind, ok := manifests[in.Kind]
	if !ok {
		return nil
	}
	manifest, err := v.manifest(p, kind.is)
	var damaged *store.DamagedError
	var missing *MissingError
	if errors.As(err, &damaged) || errors.As(err, &missing) {
		return err
	}
	var said sbom.Declared
	if err == nil {
		said, err = kind.read(manifest)
	}
	if err != nil { // an installer that minds fails in its step
		said = sbom.Declared{Licence: sbom.Licence{Comment: "what the package says of itself cannot be read"}}
	}
	v.declared[key] = said
	if manifest != nil && in.Kind != lockfile.KindCargo {
		d := digest.Of(manifest)
		v.manifests[d] = append(v.manifests[d], key)
	}
	return nil
}

// manifest finds the file of a pin's archive that says what the package is.
func (v *inventory) manifest(p lockfile.Pin, is func(dir, base string) bool) ([]byte, error) {
	if strings.HasSuffix(p.Path, ".whl") || strings.HasSuffix(p.Path, ".zip") {
		if err := v.checkBlob(p.Name+" "+p.Version, p.SHA256); err != nil {
			return nil, err
		}
		file, ok := v.Store.Path(p.SHA256)
		if !ok {
			return nil, &MissingError{Name: p.Name + " " + p.Version, Digest: p.SHA256}
		}
		return zipManifest(file, is)
	}
	blob, err := v.openBlob(p.Name+" "+p.Version, p.SHA256)
	if err != nil {
		return nil, err
	}
	defer blob.Close()
	found, err := tarManifest(blob, is)
	if _, end := io.Copy(io.Discard, blob); end != nil { // its digest is checked at the end
		return nil, end
	}
	return found, err
}

func tarManifest(r io.Reader, is func(dir, base string) bool) ([]byte, error) {
	plain, err := gzip.NewReader(r)
	if err != nil {
		return nil, fmt.Errorf("cannot read its archive: %w", err)
	}
	for archive := tar.NewReader(io.LimitReader(plain, unpack.MaxBytes)); ; {
		h, err := archive.Next()
		if err == io.EOF {
			return nil, errNoManifest
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read its archive: %w", err)
		}
		dir, base := path.Split(path.Clean(h.Name))
		if h.Typeflag == tar.TypeReg && is(path.Clean(dir), base) {
			return readManifest(archive)
		}
	}
}

func zipManifest(file string, is func(dir, base string) bool) ([]byte, error) {
	archive, err := zip.OpenReader(file)
	if err != nil {
		return nil, fmt.Errorf("cannot read its archive: %w", err)
	}
	defer archive.Close()
	for _, f := range archive.File {
		dir, base := path.Split(path.Clean(f.Name))
		if !is(path.Clean(dir), base) {
			continue
		}
		r, err := f.Open()
		if err != nil {
			return nil, fmt.Errorf("cannot read its archive: %w", err)
		}
		defer r.Close()
		return readManifest(r)
	}
	return nil, errNoManifest
}

var errNoManifest = errors.New("its archive has no file that says what it is")

func readManifest(r io.Reader) ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(r, sbom.MaxManifest+1))
	if err == nil && len(raw) > sbom.MaxManifest {
		err = fmt.Errorf("the file that says what it is has more than %d bytes", sbom.MaxManifest)
	}
	return raw, err
}
