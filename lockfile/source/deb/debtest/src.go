package debtest

import (
	"bytes"
	"cmp"
	"crypto/md5"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"quorate.dev/lockfile/digest"
)

// src is one source package of the text.
type src struct {
	label, pocket string
	fields        string              // of its paragraph, without a final newline
	parts         map[string][]member // by part: "orig", "orig-COMPONENT", "debian", "native"
	name, version string
	files         []srcFile // with the .dsc first
}

type srcFile struct {
	name string
	data []byte
}

// isSource reports whether a label is that of a source package.
func isSource(label string) bool {
	name, _, _ := strings.Cut(label, "@")
	return strings.HasSuffix(name, ".src")
}

func (s *src) take(name string, data []byte) error {
	if name == "source" {
		s.fields = strings.TrimSpace(string(data))
		return nil
	}
	part, rest, ok := strings.Cut(name, "/")
	if !ok || part != "orig" && part != "debian" && part != "native" && !strings.HasPrefix(part, "orig-") {
		return fmt.Errorf("file %q is in no part", name)
	}
	if part == "debian" {
		rest = name
	}
	mode := int64(0o644)
	if bytes.HasPrefix(data, []byte("#!")) {
		mode = 0o755
	}
	s.parts[part] = append(s.parts[part], member{name: rest, data: data, mode: mode})
	return nil
}

// finish fills in what a source package must have and builds its files, whose
// bytes do not depend on the archive's date.
func (s *src) finish(key *signingKey, wrongControl bool) error {
	label, _, _ := strings.Cut(s.label, "@")
	for _, f := range []struct {
		name, value string
		to          *string
	}{
		{"Package", strings.TrimSuffix(label, ".src"), &s.name}, {"Version", "1.0-1", &s.version},
		{"Format", "3.0 (quilt)", nil}, {"Maintainer", "Test <test@example.org>", nil},
	} {
		value, ok := field(s.fields, f.name)
		if !ok {
			s.fields = strings.TrimSpace(s.fields + "\n" + f.name + ": " + f.value)
			value = f.value
		}
		if f.to != nil {
			*f.to = value
		}
	}
	full := s.version[strings.Index(s.version, ":")+1:]
	upstream := full
	if i := strings.LastIndexByte(full, '-'); i >= 0 {
		upstream = full[:i]
	}
	for _, part := range sortedParts(s.parts) {
		data, err := tarGz(withFolders(s.parts[part]), born)
		if err != nil {
			return err
		}
		name := s.name + "_" + upstream + "." + part + ".tar.gz"
		switch part {
		case "debian":
			name = s.name + "_" + full + ".debian.tar.gz"
		case "native":
			name = s.name + "_" + full + ".tar.gz"
		}
		s.files = append(s.files, srcFile{name, data})
	}
	control, err := s.control(key, wrongControl)
	s.files = append([]srcFile{{s.name + "_" + full + ".dsc", control}}, s.files...)
	return err
}

func sortedParts(parts map[string][]member) []string {
	var names []string
	for name := range parts {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// control is the .dsc, signed as a maintainer would.
func (s *src) control(key *signingKey, wrong bool) ([]byte, error) {
	files := s.files
	if wrong {
		files = slices.Clone(files)
		files[0].data = append(slices.Clone(files[0].data), 0)
	}
	text := strings.Replace(s.fields, "Package: ", "Source: ", 1) + "\n" + sums(files)
	text += "Files:\n"
	for _, f := range files {
		text += fmt.Sprintf(" %x %d %s\n", md5.Sum(f.data), len(f.data), f.name)
	}
	return key.clearsign([]byte(text), born, false)
}

func sums(files []srcFile) string {
	text := "Checksums-Sha256:\n"
	for _, f := range files {
		text += fmt.Sprintf(" %s %d %s\n", digest.Of(f.data).Hex(), len(f.data), f.name)
	}
	return text
}

func (s *src) directory() string { return path.Join("pool/main", s.name[:1], s.name) }

// writeSource puts the files of a source package where the index says they are.
func (b *builder) writeSource(s *src) error {
	for _, f := range s.files {
		data := slices.Clone(f.data)
		if b.has(MissingPackage) {
			continue
		}
		if b.has(WrongPackage) {
			data[len(data)/2] ^= 1
		}
		if err := write(filepath.Join(b.root(s.pocket), filepath.FromSlash(s.directory()), f.name), data); err != nil {
			return err
		}
	}
	return nil
}

// sourcesIndex is the Sources index of a pocket.
func (b *builder) sourcesIndex(pocket string) []byte {
	var out bytes.Buffer
	if pocket == "" && b.has(BadSources) {
		out.WriteString("this is no index\n")
	}
	for _, s := range b.sources {
		if s.pocket == pocket {
			fmt.Fprintf(&out, "%s\nDirectory: %s\n%s\n", s.fields, s.directory(), sums(s.files))
		}
	}
	return out.Bytes()
}

// finishSources builds the source packages, in order of name.
func (b *builder) finishSources() error {
	for _, s := range b.sources {
		if err := s.finish(b.key, b.has(WrongControl)); err != nil {
			return fmt.Errorf("source package %q: %w", s.label, err)
		}
	}
	slices.SortStableFunc(b.sources, func(x, y *src) int { return cmp.Compare(x.name, y.name) })
	return nil
}
