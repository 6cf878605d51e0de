package lockfile

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"

	"quorate.dev/lockfile/definition"
	"quorate.dev/lockfile/digest"
	y "quorate.dev/lockfile/strictyaml"
)

// limits of a lock. A pin takes 300 bytes and 22 nodes, so this is room for
// 27,000; a desktop with all of TeX has 5,000, which are read in 0.1 s.
var limits = y.Limits{Bytes: 8 << 20, Depth: 10, Nodes: 1_000_000}

// VersionError says that the lock's format is newer than this Quorate.
type VersionError struct {
	File      string
	Have      int // of the file
	Supported int // FormatVersion
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("%s was written by a newer Quorate: it has lock format %d, this one reads up to %d", e.File, e.Have, e.Supported)
}

// Parse reads a whole quorate.lock; file is its name for messages. It accepts
// exactly what Format writes for a lock that Validate accepts. The error is a
// *VersionError, or an *strictyaml.Errors with places.
func Parse(file string, data []byte) (*Lock, error) {
	if err := refuseConflict(file, data); err != nil {
		return nil, err
	}
	if err := refuseTooMany(file, data); err != nil {
		return nil, err
	}
	doc, err := y.Open(file, data, limits)
	if err != nil {
		return nil, err
	}
	if err := checkFormat(file, doc); err != nil {
		return nil, err
	}
	l := y.Read(doc, root())
	if err := doc.Err(); err != nil {
		return nil, err
	}
	if line, column, same := firstDifference(data, Format(&l)); !same {
		doc.ErrorAt(line, column, "the lock was edited by hand; run: quorate lock")
		return nil, doc.Err()
	}
	for _, p := range l.problems() {
		doc.Errorf(doc.At(p.path...), "%s", p.message)
	}
	if err := doc.Err(); err != nil {
		return nil, err
	}
	return &l, nil
}

// refuseConflict names the damage that locks meet most: a merge left undone.
func refuseConflict(file string, data []byte) error {
	i := 0
	if !bytes.HasPrefix(data, []byte("<<<<<<< ")) {
		i = bytes.Index(data, []byte("\n<<<<<<< ")) + 1
		if i == 0 {
			return nil
		}
	}
	rest, _, _ := strings.Cut(string(data[i:min(len(data), i+200)]), "\n")
	return &y.Errors{{File: file, Line: 1 + bytes.Count(data[:i], []byte("\n")), Column: 1, Source: rest,
		Message: "a merge was left undone here; take either side, then run: quorate lock"}}
}

// refuseTooMany counts what can divide values before they are all put in
// memory, where each takes 200 bytes: a list of nothing but commas would
// otherwise take a gigabyte before its nodes are counted.
func refuseTooMany(file string, data []byte) error {
	dividers := bytes.Count(data, []byte(",")) + bytes.Count(data, []byte(":")) + bytes.Count(data, []byte("\n"))
	if dividers <= limits.Nodes || len(data) > limits.Bytes {
		return nil // Open says what is too large
	}
	return &y.Errors{{File: file, Line: 1, Column: 1, Message: fmt.Sprintf("the file has more than %d keys and values", limits.Nodes)}}
}

// checkFormat looks at the version before anything else is judged, since a
// newer format may have other fields.
func checkFormat(file string, doc *y.Document) error {
	if !doc.Has("format") {
		return nil // Read says that it is missing
	}
	n, err := strconv.Atoi(doc.At("format").Value)
	if err == nil && n > FormatVersion {
		return &VersionError{File: file, Have: n, Supported: FormatVersion}
	}
	return nil
}

// firstDifference returns where two texts part, in lines and characters.
func firstDifference(a, b []byte) (line, column int, same bool) {
	if bytes.Equal(a, b) {
		return 0, 0, true
	}
	i := 0
	for i < len(a) && i < len(b) && a[i] == b[i] {
		i++
	}
	line = 1 + bytes.Count(a[:i], []byte("\n"))
	start := bytes.LastIndexByte(a[:i], '\n') + 1
	return line, 1 + len([]rune(string(a[start:i]))), false
}

// root is the table of everything a lock may say.
var root = sync.OnceValue(func() y.Shape[Lock] {
	return y.Object(
		y.Required("format", "", y.Integer(1, FormatVersion), func(l *Lock, v int64) { l.Format = int(v) }),
		y.Required("assembler", "", y.Integer(0, math.MaxInt32), func(l *Lock, v int64) { l.Assembler = int(v) }),
		y.Required("epoch", "", moment(), func(l *Lock, v time.Time) { l.Epoch = v }),
		y.Required("requests", "", requests(), func(l *Lock, v Requests) { l.Requests = v }),
		y.Optional("resolver", "", resolver(), func(l *Lock, v Resolver) { l.Resolver = v }),
		y.Optional("archives", "", y.List(archive()), func(l *Lock, v []Archive) { l.Archives = v }),
		y.Optional("files", "", y.List(file()), func(l *Lock, v []File) { l.Files = v }),
		y.Optional("inputs", "", y.List(input()), func(l *Lock, v []Input) { l.Inputs = v }),
		y.Optional("pins", "", y.List(inputPin()), func(l *Lock, v []Pin) { l.Pins = v }),
		y.Required("platforms", "", platforms(), func(l *Lock, v []Platform) { l.Platforms = v }),
	)
})

func requests() y.Shape[Requests] {
	words := y.List(y.Text())
	debian := y.Object(
		y.Required("suite", "", y.Text(), func(r *Requests, v string) { r.Suite = v }),
		y.Optional("components", "", words, func(r *Requests, v []string) { r.Components = v }),
		y.Optional("pockets", "", words, func(r *Requests, v []string) { r.Pockets = v }),
	)
	set := y.Object(
		y.Required("name", "", y.Text(), func(s *SetRequest, v string) { s.Name = v }),
		y.Optional("packages", "", words, func(s *SetRequest, v []string) { s.Packages = v }),
		y.Optional("scripts", "", y.Text(), func(s *SetRequest, v string) { s.Scripts = v }),
		y.Optional("essential", "", y.Boolean(), func(s *SetRequest, v bool) { s.Essential = v }),
		y.Optional("without", "", words, func(s *SetRequest, v []string) { s.Without = v }),
		y.Optional("base", "", y.Text(), func(s *SetRequest, v string) { s.Base = v }),
	)
	file := y.Object(
		y.Required("name", "", y.Text(), func(f *FileRequest, v string) { f.Name = v }),
		y.Required("url", "", y.Text(), func(f *FileRequest, v string) { f.URL = v }),
		y.Optional("unpack", "", y.Boolean(), func(f *FileRequest, v bool) { f.Unpack = v }),
	)
	input := y.Object(
		y.Required("name", "", y.Text(), func(r *InputRequest, v string) { r.Name = v }),
		y.Required("kind", "", y.Text(), func(r *InputRequest, v string) { r.Kind = v }),
		y.Optional("ask", "", facts(), func(r *InputRequest, v Facts) { r.Ask = v }),
	)
	return y.Object(
		y.Optional("inputs", "", y.List(input), func(r *Requests, v []InputRequest) { r.Inputs = v }),
		y.Optional("debian", "", debian, func(r *Requests, v Requests) { r.Suite, r.Components, r.Pockets = v.Suite, v.Components, v.Pockets }),
		y.Optional("sets", "", y.List(set), func(r *Requests, v []SetRequest) { r.Sets = v }),
		y.Optional("files", "", y.List(file), func(r *Requests, v []FileRequest) { r.Files = v }),
	)
}

func resolver() y.Shape[Resolver] {
	return y.Object(
		y.Required("name", "", y.Text(), func(r *Resolver, v string) { r.Name = v }),
		y.Required("version", "", y.Text(), func(r *Resolver, v string) { r.Version = v }),
	)
}

func archive() y.Shape[Archive] {
	return y.Object(
		y.Required("name", "", y.Text(), func(a *Archive, v string) { a.Name = v }),
		y.Required("suite", "", y.Text(), func(a *Archive, v string) { a.Suite = v }),
		y.Required("date", "", moment(), func(a *Archive, v time.Time) { a.Date = v }),
		y.Required("in-release", "", sha256(), func(a *Archive, v digest.Digest) { a.InRelease = v }),
		y.Required("signed-by", "", y.List(y.Text()), func(a *Archive, v []string) { a.SignedBy = v }),
	)
}

func file() y.Shape[File] {
	return y.Object(
		y.Required("name", "", y.Text(), func(f *File, v string) { f.Name = v }),
		y.Required("url", "", y.Text(), func(f *File, v string) { f.URL = v }),
		y.Required("size", "", y.Integer(0, math.MaxInt64), func(f *File, v int64) { f.Size = v }),
		y.Required("sha256", "", sha256(), func(f *File, v digest.Digest) { f.SHA256 = v }),
	)
}

func facts() y.Shape[Facts] {
	return y.Rearrange(y.Dict("fact", y.Text(), y.Text()), func(entries []y.Entry[string]) Facts {
		f := make(Facts, len(entries))
		for _, e := range entries {
			f[e.Key] = e.Value
		}
		return f
	})
}

func input() y.Shape[Input] {
	return y.Object(
		y.Required("name", "", y.Text(), func(in *Input, v string) { in.Name = v }),
		y.Required("kind", "", y.Text(), func(in *Input, v string) { in.Kind = v }),
		y.Optional("facts", "", facts(), func(in *Input, v Facts) { in.Facts = v }),
		y.Optional("reads", "", facts(), func(in *Input, v Facts) { in.Reads = v }),
	)
}

func inputPin() y.Shape[Pin] {
	return y.Object(
		y.Required("input", "", y.Text(), func(p *Pin, v string) { p.Input = v }),
		y.Required("name", "", y.Text(), func(p *Pin, v string) { p.Name = v }),
		y.Optional("version", "", y.Text(), func(p *Pin, v string) { p.Version = v }),
		y.Optional("platform", "", y.Text(), func(p *Pin, v string) { p.Platform = v }),
		y.Required("size", "", y.Integer(0, math.MaxInt64), func(p *Pin, v int64) { p.Size = v }),
		y.Required("sha256", "", sha256(), func(p *Pin, v digest.Digest) { p.SHA256 = v }),
		y.Optional("integrity", "", y.Text(), func(p *Pin, v string) { p.Integrity = v }),
		y.Required("path", "", y.Text(), func(p *Pin, v string) { p.Path = v }),
		y.Optional("url", "", y.Text(), func(p *Pin, v string) { p.URL = v }),
		y.Optional("signatures", "", y.Text(), func(p *Pin, v string) { p.Signatures = v }),
		y.Optional("by", "", y.Text(), func(p *Pin, v string) { p.By = v }),
	)
}

func platforms() y.Shape[[]Platform] {
	waiver := y.Object(
		y.Required("package", "", y.Text(), func(w *Waiver, v string) { w.Package = v }),
		y.Required("needs", "", y.Text(), func(w *Waiver, v string) { w.Needs = v }),
	)
	held := y.Object(
		y.Required("set", "", y.Text(), func(h *Held, v string) { h.Set = v }),
		y.Required("package", "", y.Text(), func(h *Held, v string) { h.Package = v }),
		y.Required("version", "", y.Text(), func(h *Held, v string) { h.Version = v }),
	)
	platform := y.Object(
		y.Optional("packages", "", y.List(pin()), func(p *Platform, v []Package) { p.Packages = v }),
		y.Optional("waived", "", y.List(waiver), func(p *Platform, v []Waiver) { p.Waived = v }),
		y.Optional("held", "", y.List(held), func(p *Platform, v []Held) { p.Held = v }),
	)
	name := y.Matching("", func(s string) error {
		_, err := definition.ParsePlatform(s)
		return err
	})
	return y.Rearrange(y.Dict("platform", name, platform), func(entries []y.Entry[Platform]) []Platform {
		var all []Platform
		for _, e := range entries {
			e.Value.Platform, _ = definition.ParsePlatform(e.Key)
			all = append(all, e.Value)
		}
		return all
	})
}

func pin() y.Shape[Package] {
	members := y.Rearrange(y.Dict("set", y.Text(), y.Text()), func(entries []y.Entry[string]) []Member {
		in := make([]Member, len(entries))
		for i, e := range entries {
			in[i] = Member{Set: e.Key, By: e.Value}
		}
		return in
	})
	return y.Object(
		y.Required("name", "", y.Text(), func(p *Package, v string) { p.Name = v }),
		y.Required("version", "", y.Text(), func(p *Package, v string) { p.Version = v }),
		y.Required("arch", "", y.Text(), func(p *Package, v string) { p.Arch = v }),
		y.Required("size", "", y.Integer(0, math.MaxInt64), func(p *Package, v int64) { p.Size = v }),
		y.Required("sha256", "", sha256(), func(p *Package, v digest.Digest) { p.SHA256 = v }),
		y.Required("path", "", y.Text(), func(p *Package, v string) { p.Path = v }),
		y.Required("from", "", y.Text(), func(p *Package, v string) { p.Archive = v }),
		y.Required("in", "", members, func(p *Package, v []Member) { p.In = v }),
	)
}

func sha256() y.Shape[digest.Digest] { return y.Convert(y.Text(), digest.ParseHex) }

func moment() y.Shape[time.Time] {
	return y.Convert(y.Text(), func(s string) (time.Time, error) {
		t, err := time.Parse(time.RFC3339, s)
		if err != nil {
			return time.Time{}, y.Refuse("%q is not a time like 2026-11-01T00:00:00Z", s)
		}
		return t.UTC(), nil
	})
}
