package debtest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/md5"
	"fmt"
	"os"
	"path"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
)

// pkg is one package of the text.
type pkg struct {
	label, pocket       string
	control             string // without a final newline
	name, version, arch string
	members             []member // of control.tar, besides control
	files               []member // of data.tar
	deb                 []byte
	path                string // in the archive
}

// member is a file, or with a target, a symbolic link.
type member struct {
	name   string // without a leading slash
	data   []byte
	mode   int64
	target string
}

func parsePackages(ar *txtar.Archive, date time.Time) ([]*pkg, []*src, error) {
	var list []*pkg
	var sources []*src
	byLabel, srcByLabel := map[string]*pkg{}, map[string]*src{}
	for _, f := range ar.Files {
		label, rest, ok := strings.Cut(f.Name, "/")
		if !ok {
			return nil, nil, fmt.Errorf("file %q belongs to no package", f.Name)
		}
		if isSource(label) {
			s := srcByLabel[label]
			if s == nil {
				s = &src{label: label, parts: map[string][]member{}}
				_, s.pocket, _ = strings.Cut(label, "@")
				srcByLabel[label] = s
				sources = append(sources, s)
			}
			if err := s.take(rest, f.Data); err != nil {
				return nil, nil, fmt.Errorf("source package %q: %w", label, err)
			}
			continue
		}
		p := byLabel[label]
		if p == nil {
			p = &pkg{label: label}
			_, p.pocket, _ = strings.Cut(label, "@")
			byLabel[label] = p
			list = append(list, p)
		}
		p.take(rest, f.Data)
	}
	for _, p := range list {
		if err := p.finish(date); err != nil {
			return nil, nil, fmt.Errorf("package %q: %w", p.label, err)
		}
	}
	sort.SliceStable(list, func(i, j int) bool { return list[i].name < list[j].name })
	return list, sources, nil
}

func (p *pkg) take(name string, data []byte) {
	kind, rest, _ := strings.Cut(name, "/")
	switch {
	case name == "control":
		p.control = strings.TrimSpace(string(data))
	case kind == "data":
		mode := int64(0o644)
		if bytes.HasPrefix(data, []byte("#!")) || strings.HasSuffix(path.Dir(rest), "bin") {
			mode = 0o755
		}
		p.files = append(p.files, member{name: rest, data: data, mode: mode})
	case kind == "link":
		p.files = append(p.files, member{name: rest, target: strings.TrimSpace(string(data))})
	default:
		mode := int64(0o644)
		if bytes.HasPrefix(data, []byte("#!")) {
			mode = 0o755
		}
		p.members = append(p.members, member{name: name, data: data, mode: mode})
	}
}

// finish fills in what a control file must have and builds the .deb.
func (p *pkg) finish(date time.Time) error {
	for _, f := range []struct {
		name, value string
		to          *string
	}{
		{"Package", strings.Split(p.label, "@")[0], &p.name},
		{"Version", "1.0", &p.version},
		{"Architecture", "all", &p.arch},
		{"Maintainer", "Test <test@example.org>", nil},
		{"Description", "a package of a test", nil},
	} {
		value, ok := field(p.control, f.name)
		if !ok {
			value = f.value
			p.control = strings.TrimSpace(p.control + "\n" + f.name + ": " + value)
		}
		if f.to != nil {
			*f.to = value
		}
	}
	noEpoch := p.version[strings.Index(p.version, ":")+1:]
	p.path = path.Join("pool/main", p.name[:1], p.name, p.name+"_"+noEpoch+"_"+p.arch+".deb")
	var err error
	p.deb, err = p.build(date)
	return err
}

func field(control, name string) (string, bool) {
	for line := range strings.Lines(control) {
		if v, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(v), true
		}
	}
	return "", false
}

func (p *pkg) build(date time.Time) ([]byte, error) {
	var sums strings.Builder
	for _, f := range p.files {
		if f.target == "" {
			fmt.Fprintf(&sums, "%x  %s\n", md5.Sum(f.data), f.name)
		}
	}
	control := slices.Concat([]member{{name: "control", data: []byte(p.control + "\n"), mode: 0o644}}, p.members,
		[]member{{name: "md5sums", data: []byte(sums.String()), mode: 0o644}})
	controlTar, err := tarGz(control, date)
	if err != nil {
		return nil, err
	}
	dataTar, err := tarGz(withFolders(p.files), date)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	out.WriteString("!<arch>\n")
	for _, m := range []struct {
		name string
		data []byte
	}{{"debian-binary", []byte("2.0\n")}, {"control.tar.gz", controlTar}, {"data.tar.gz", dataTar}} {
		fmt.Fprintf(&out, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", m.name, date.Unix(), 0, 0, "100644", len(m.data))
		out.Write(m.data)
		if len(m.data)%2 == 1 {
			out.WriteByte('\n')
		}
	}
	return out.Bytes(), nil
}

// withFolders adds the folders that lead to the files, as packages ship them.
func withFolders(files []member) []member {
	seen := map[string]bool{}
	out := []member{{name: "", mode: 0o755}}
	sorted := slices.Clone(files)
	sort.SliceStable(sorted, func(i, j int) bool { return sorted[i].name < sorted[j].name })
	for _, f := range sorted {
		parts := strings.Split(f.name, "/")
		for i := 1; i < len(parts); i++ {
			dir := strings.Join(parts[:i], "/") + "/"
			if !seen[dir] {
				seen[dir] = true
				out = append(out, member{name: dir, mode: 0o755})
			}
		}
		out = append(out, f)
	}
	return out
}

func tarGz(members []member, date time.Time) ([]byte, error) {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	w := tar.NewWriter(z)
	for _, m := range members {
		h := &tar.Header{Name: "./" + m.name, Mode: m.mode, Size: int64(len(m.data)), Typeflag: tar.TypeReg,
			ModTime: date, Uname: "root", Gname: "root", Format: tar.FormatGNU}
		switch {
		case m.target != "":
			h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, m.target, 0o777
		case strings.HasSuffix(h.Name, "/"):
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(m.data); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// addApt adds a package apt when the text has none, because nothing can be
// chosen without; it holds the program that Options name.
func (b *builder) addApt() error {
	if slices.ContainsFunc(b.packages, func(p *pkg) bool { return p.name == "apt" }) {
		return nil
	}
	p := &pkg{label: "apt", control: "Package: apt\nVersion: 2.6.1\nArchitecture: " + Native()}
	if b.AptGet != "" {
		program, err := os.ReadFile(b.AptGet)
		if err != nil {
			return err
		}
		p.take("data/usr/bin/apt-get", program)
	}
	if err := p.finish(b.Date); err != nil {
		return err
	}
	b.packages = append(b.packages, p)
	return nil
}
