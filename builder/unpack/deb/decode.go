package deb

import (
	"bufio"
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"sort"
	"strconv"
	"strings"

	"quorate.dev/builder/tree"
	"quorate.dev/builder/unpack/archive"
)

// Options say what Decode expects; the zero value expects nothing in particular.
type Options struct {
	Name    string // package that the lock says this is; also named in errors
	Version string
	Arch    string
	Limits  archive.Limits // for data.tar
}

// Error says which part of which package was refused.
type Error struct {
	Package string // as expected or as the control file says; "" when neither is known
	Member  string // ar member: "data.tar.xz"; "" for the ar archive itself
	Err     error
}

func (e *Error) Error() string {
	s := "package"
	if e.Package != "" {
		s += fmt.Sprintf(" %q", e.Package)
	}
	if e.Member != "" {
		s += ": " + e.Member
	}
	return s + ": " + e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

// Limits of what precedes the files.
const (
	// controlMax bounds the uncompressed control.tar, which is held in memory;
	// the largest in Debian (texlive's md5sums) has about 6 MB.
	controlMax = 64 << 20
	// controlEntries: Debian's packages have at most some dozens.
	controlEntries = 4096
	// paragraphMax bounds the control file itself; Debian's longest have some 30 kB.
	paragraphMax = 1 << 20
)

// Decode reads a whole .deb from r, writes its uncompressed data.tar to data
// and returns what it holds. Errors are of type *Error but for those of r and
// data, which it wraps. On error, what was written to data is to be thrown away.
func Decode(r io.Reader, data io.Writer, o Options) (*Package, error) {
	d := &decoder{ar: bufio.NewReaderSize(r, 64<<10), data: data, options: o, pkg: &Package{}}
	if err := d.run(); err != nil {
		name := o.Name
		if name == "" {
			name = d.pkg.Name()
		}
		return nil, &Error{Package: name, Member: d.member, Err: err}
	}
	return d.pkg, nil
}

type decoder struct {
	ar      *bufio.Reader
	data    io.Writer
	options Options
	pkg     *Package
	member  string // being read
}

// run reads the members in the one order that deb(5) allows.
func (d *decoder) run() error {
	magic := make([]byte, 8)
	if _, err := io.ReadFull(d.ar, magic); err != nil || string(magic) != "!<arch>\n" {
		if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
			return err
		}
		return errors.New("is not an ar archive, so not a .deb")
	}
	for _, part := range []struct {
		name string
		read func(c archive.Compression, r io.Reader, size int64) error
	}{{"debian-binary", d.format}, {"control.tar", d.control}, {"data.tar", d.files}} {
		name, size, err := d.next()
		if err != nil {
			if err == io.EOF {
				return fmt.Errorf("ends where member %q was expected", part.name)
			}
			return err
		}
		suffix, ok := strings.CutPrefix(name, part.name)
		c, known := compressions[suffix]
		if !ok || !known || part.name == "debian-binary" && suffix != "" {
			return fmt.Errorf("member %q found where %q was expected", name, part.name)
		}
		d.member = name
		if err := d.read(size, func(r io.Reader) error { return part.read(c, r, size) }); err != nil {
			return err
		}
		d.member = ""
	}
	return d.end()
}

// compressions by the suffix of a member's name, as dpkg-deb knows them.
var compressions = map[string]archive.Compression{
	"": archive.None, ".gz": archive.Gzip, ".xz": archive.XZ, ".zst": archive.Zstd, ".bz2": archive.Bzip2,
}

// next reads the header of an ar member; io.EOF when there is none.
func (d *decoder) next() (name string, size int64, err error) {
	h := make([]byte, 60)
	if n, err := io.ReadFull(d.ar, h); err != nil {
		if err == io.ErrUnexpectedEOF {
			err = fmt.Errorf("is truncated: %d of 60 bytes of a member's header", n)
		}
		return "", 0, err
	}
	if h[58] != '`' || h[59] != '\n' {
		return "", 0, errors.New("has a damaged member header")
	}
	// GNU ar ends names by a slash, dpkg-deb does not.
	name = strings.TrimSuffix(strings.TrimRight(string(h[:16]), " "), "/")
	digits, err := strconv.ParseUint(strings.TrimRight(string(h[48:58]), " "), 10, 63) // which takes no sign, as dpkg does not
	if err != nil {
		return "", 0, fmt.Errorf("member %q has the invalid size %q", name, h[48:58])
	}
	return name, int64(digits), nil
}

// read hands size bytes to f, all of which f must take.
func (d *decoder) read(size int64, f func(io.Reader) error) error {
	r := &io.LimitedReader{R: d.ar, N: size}
	err := f(r)
	// Whatever f made of a member that is cut short, this is what to say of it.
	if _, end := d.ar.Peek(1); r.N > 0 && end == io.EOF {
		return fmt.Errorf("is truncated: %d of %d bytes are missing", r.N, size)
	}
	if err != nil {
		return err
	}
	if r.N > 0 {
		return fmt.Errorf("has %d bytes after its end", r.N)
	}
	if size%2 == 0 {
		return nil
	}
	if b, err := d.ar.ReadByte(); err == nil && b != '\n' && b != 0 {
		return errors.New("is not followed by padding")
	}
	return nil
}

// end accepts members that begin with "_", which deb(5) keeps for others, and nothing else.
func (d *decoder) end() error {
	for {
		name, size, err := d.next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("after data.tar: %w", err)
		}
		if !strings.HasPrefix(name, "_") {
			return fmt.Errorf("has an unexpected member %q after data.tar", name)
		}
		if err := d.read(size, func(r io.Reader) error { _, err := io.Copy(io.Discard, r); return err }); err != nil {
			return fmt.Errorf("member %q %w", name, err)
		}
	}
}

func (d *decoder) format(_ archive.Compression, r io.Reader, size int64) error {
	if size > 64 {
		return fmt.Errorf("has %d bytes, expected a version number", size)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	line, _, _ := strings.Cut(string(b), "\n")
	if !strings.HasPrefix(line, "2.") {
		return fmt.Errorf("says format %q, expected 2.0", line)
	}
	return nil
}

// control reads control.tar into memory.
func (d *decoder) control(c archive.Compression, r io.Reader, size int64) error {
	plain, err := archive.NewReader(c, r)
	if err != nil {
		return err
	}
	defer plain.Close()
	var text bytes.Buffer
	entries, _, err := archive.ReadTar(plain, &text, archive.Rules{
		Limits:         archive.Limits{Bytes: controlMax, Entries: controlEntries},
		CompressedSize: size, Canonical: controlName,
	})
	if err != nil {
		return err
	}
	var control []byte
	for _, e := range entries {
		if e.Kind != tree.File {
			return &archive.MemberError{Member: e.Name, Reason: "is not a regular file"}
		}
		b := text.Bytes()[e.Offset : e.Offset+e.Size]
		if e.Path != "control" {
			d.pkg.ControlFiles = append(d.pkg.ControlFiles, ControlFile{Name: e.Path, Mode: e.Mode, Data: bytes.Clone(b)})
			continue
		}
		control, d.pkg.ModTime = b, e.ModTime
	}
	sort.Slice(d.pkg.ControlFiles, func(i, j int) bool { return d.pkg.ControlFiles[i].Name < d.pkg.ControlFiles[j].Name })
	return d.paragraph(control)
}

// controlName accepts plain names of files whose info/PKG.NAME dpkg could
// write: "list" is dpkg's own.
func controlName(name string) (string, error) {
	p, err := archive.CleanName(name)
	if err != nil {
		return "", err
	}
	if strings.Contains(p, "/") {
		return "", errors.New("lies in a folder")
	}
	for i := range len(p) {
		if !isAlnum(p[i]) && !(p[i] >= 'A' && p[i] <= 'Z') && !strings.ContainsRune("-_.+", rune(p[i])) {
			return "", errors.New("has a name that is no control file's")
		}
	}
	if p == "list" || len(p) > 64 {
		return "", errors.New("has a name that is no control file's")
	}
	return p, nil
}

func (d *decoder) paragraph(text []byte) error {
	if text == nil {
		return errors.New(`has no "control" file`)
	}
	if len(text) > paragraphMax {
		return fmt.Errorf("control: %d bytes; at most %d are accepted", len(text), paragraphMax)
	}
	p, err := parseControl(text)
	if err != nil {
		return fmt.Errorf("control: %w", err)
	}
	d.pkg.Control = p
	for _, c := range []struct{ field, want string }{
		{"Package", d.options.Name}, {"Version", d.options.Version}, {"Architecture", d.options.Arch},
	} {
		if got := p.Get(c.field); c.want != "" && got != c.want {
			return fmt.Errorf("control: field %q is %q, expected %q", c.field, got, c.want)
		}
	}
	return nil
}

// files reads data.tar.
func (d *decoder) files(c archive.Compression, r io.Reader, size int64) error {
	plain, err := archive.NewReader(c, r)
	if err != nil {
		return err
	}
	defer plain.Close()
	paths, order, err := d.conffiles()
	if err != nil {
		return err
	}
	sums := map[string]string{}
	entries, total, err := archive.ReadTar(plain, d.data, archive.Rules{
		Limits: d.options.Limits, CompressedSize: size, Canonical: Canonical, KeepAliases: true,
		Also: func(path string) hash.Hash {
			if _, ok := paths[path]; ok {
				return md5.New()
			}
			return nil
		},
		Summed: func(path string, h hash.Hash) { sums[path] = hex.EncodeToString(h.Sum(nil)) },
	})
	if err != nil {
		return err
	}
	d.pkg.DataSize = total
	d.pkg.Entries = make([]Entry, len(entries))
	for i, e := range entries {
		if err := checkMergeLink(e.Entry); err != nil {
			return &archive.MemberError{Member: e.Name, Reason: err.Error()}
		}
		d.pkg.Entries[i] = Entry{Entry: e.Entry, Shipped: shipped(e.Name), Offset: e.Offset}
	}
	for _, path := range order {
		canonical, _ := Canonical("." + path)
		if sum, ok := sums[canonical]; ok {
			d.pkg.Conffiles = append(d.pkg.Conffiles, Conffile{path, sum})
		}
	}
	return nil
}

func shipped(name string) string {
	return strings.TrimSuffix(strings.TrimPrefix(name, "./"), "/")
}

// conffiles reads the control file of that name: canonical paths, and the
// absolute ones in order. Lines with a flag ("remove-on-upgrade /etc/x",
// deb-conffiles(5)) name files that are not shipped.
func (d *decoder) conffiles() (paths map[string]bool, order []string, err error) {
	f := d.pkg.ControlFile("conffiles")
	if f == nil {
		return nil, nil, nil
	}
	paths = map[string]bool{}
	for line := range strings.Lines(string(f.Data)) {
		line = strings.TrimRight(line, " \t\r\n")
		if line == "" || strings.HasPrefix(line, "remove-on-upgrade ") {
			continue
		}
		p, err := Canonical("." + line)
		if err != nil || line[0] != '/' || p == "" || strings.ContainsAny(line, "\n") {
			return nil, nil, fmt.Errorf("conffiles: %q is not a path", line)
		}
		if !paths[p] {
			order = append(order, line)
		}
		paths[p] = true
	}
	return paths, order, nil
}

// merged are the directories that are links into /usr on every Debian since
// bookworm (usrmerge's convert-usrmerge).
var merged = map[string]bool{
	"bin": true, "sbin": true, "lib": true, "lib32": true, "lib64": true, "libo32": true, "libx32": true,
}

// Canonical turns the name of a member of data.tar into its path in a
// merged-/usr root; the root itself is "". The member "bin" stays where it is
// when it is a link (base-files of trixie ships them), and "./bin/" becomes
// "usr/bin". Names that are not written the way dpkg-deb writes them ("./a/b",
// directories with a slash behind) are refused: there is no honest way to get them.
func Canonical(name string) (string, error) {
	p, err := archive.CleanName(name)
	if err != nil {
		return "", err
	}
	if p == "" {
		return "", nil
	}
	plain := strings.TrimSuffix(strings.TrimPrefix(name, "./"), "/")
	if plain != p {
		return "", fmt.Errorf("has a name that is not canonical, expected %q", "./"+p)
	}
	if strings.ContainsAny(p, "\n") {
		return "", errors.New("has a line end in its name, which dpkg's lists cannot hold")
	}
	top, _, below := strings.Cut(p, "/")
	if merged[top] && (below || strings.HasSuffix(name, "/")) {
		return "usr/" + p, nil
	}
	return p, nil
}

// checkMergeLink holds what a package ships at /bin itself against what every root has there.
func checkMergeLink(e tree.Entry) error {
	if !merged[e.Path] {
		return nil
	}
	if e.Kind != tree.Symlink || strings.TrimPrefix(e.Link, "/") != "usr/"+e.Path {
		return fmt.Errorf("stands where the link to %q must be", "usr/"+e.Path)
	}
	return nil
}
