package deb

import (
	"bufio"
	"bytes"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"quorate.dev/lockfile/digest"
)

// release is what we use of a Release file (the text of InRelease).
type release struct {
	Suite, Codename string
	Date            time.Time
	ValidUntil      time.Time // zero when it says none
	Architectures   []string
	Components      []string // last element of each: security says "updates/main"
	ByHash          bool
	Manual          bool // NotAutomatic: apt takes nothing from it unasked
	Files           map[string]fileRef
}

type fileRef struct {
	Size   int64
	SHA256 digest.Digest
}

// parseRelease reads a Release file whose signature holds. Errors: *IndexError without URL.
func parseRelease(text []byte) (*release, error) {
	r := &release{Files: map[string]fileRef{}}
	seen := map[string]bool{}
	section := ""
	s := bufio.NewScanner(bytes.NewReader(text))
	s.Buffer(nil, maxLine)
	n := 0
	fail := func(err error) (*release, error) { return nil, &IndexError{Line: n, Err: err} }
	for s.Scan() {
		n++
		line := s.Text()
		if strings.TrimSpace(line) == "" {
			return fail(fmt.Errorf("an empty line: a Release file is one paragraph"))
		}
		if line[0] == ' ' || line[0] == '\t' {
			if section != "SHA256" {
				continue
			}
			if err := r.file(line); err != nil {
				return fail(err)
			}
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || name == "" {
			return fail(fmt.Errorf("line is neither a field nor a continuation: %q", clip([]byte(line))))
		}
		if seen[name] {
			return fail(fmt.Errorf("field %s stands twice", name))
		}
		seen[name] = true
		section = name
		if err := r.field(name, strings.TrimSpace(value)); err != nil {
			return fail(err)
		}
	}
	n = 0
	if err := s.Err(); err != nil {
		return fail(err)
	}
	switch {
	case r.Date.IsZero():
		return fail(fmt.Errorf("no Date"))
	case len(r.Files) == 0:
		return fail(fmt.Errorf("no SHA256 digests"))
	}
	return r, nil
}

func (r *release) field(name, value string) (err error) {
	switch name {
	case "Suite":
		r.Suite = value
	case "Codename":
		r.Codename = value
	case "Date":
		r.Date, err = releaseTime(name, value)
	case "Valid-Until":
		r.ValidUntil, err = releaseTime(name, value)
	case "Architectures":
		r.Architectures = strings.Fields(value)
	case "Components":
		for _, c := range strings.Fields(value) {
			r.Components = append(r.Components, path.Base(c))
		}
	case "Acquire-By-Hash":
		r.ByHash = value == "yes"
	case "NotAutomatic":
		r.Manual = value == "yes"
	}
	return err
}

// releaseTime reads the one form that Debian's archive writes, RFC 1123 with
// the zone spelled UTC or GMT.
func releaseTime(name, value string) (time.Time, error) {
	for _, layout := range []string{"Mon, _2 Jan 2006 15:04:05 UTC", "Mon, _2 Jan 2006 15:04:05 GMT", "Mon, _2 Jan 2006 15:04:05 +0000"} {
		if t, err := time.Parse(layout, value); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("field %s is %q, not a time like %q", name, clip([]byte(value)), "Sat, 11 Jul 2026 10:16:37 UTC")
}

func (r *release) file(line string) error {
	f := strings.Fields(line)
	if len(f) != 3 {
		return fmt.Errorf("digest line has %d words, expected digest, size and path", len(f))
	}
	d, err := digest.ParseHex(f[0])
	if err != nil {
		return err
	}
	size, err := strconv.ParseInt(f[1], 10, 64)
	if err != nil || size < 0 {
		return fmt.Errorf("size %q is not one", f[1])
	}
	if old, ok := r.Files[f[2]]; ok && old != (fileRef{size, d}) {
		return fmt.Errorf("file %q stands twice, with different digests", f[2])
	}
	r.Files[f[2]] = fileRef{size, d}
	return nil
}

// check holds a Release against what was asked for and against the clock.
func (r *release) check(url, suite string, now time.Time) error {
	if r.Codename != suite && r.Suite != suite {
		return &IndexError{URL: url, Err: fmt.Errorf("it is of suite %q, codename %q, expected %q", r.Suite, r.Codename, suite)}
	}
	if r.Date.After(now.Add(maxAhead)) {
		return &ExpiredError{URL: url, Date: r.Date, Now: now}
	}
	if !r.ValidUntil.IsZero() && now.After(r.ValidUntil) {
		return &ExpiredError{URL: url, Date: r.Date, ValidUntil: r.ValidUntil, Now: now}
	}
	return nil
}

func (r *release) has(component, arch string) bool {
	return slices.Contains(r.Components, component) && slices.Contains(r.Architectures, arch)
}
