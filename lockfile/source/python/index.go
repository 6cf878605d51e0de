package python

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"html"
	"io"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"

	"quorate.dev/lockfile/digest"
	"quorate.dev/lockfile/fetch"
	"quorate.dev/lockfile/source/httpfile"
	"quorate.dev/lockfile/source/jsonpart"
)

// maxPage is four times the largest page of the public index that we know of.
const maxPage = 64 << 20

// list returns the files that a requirement's hashes mean, of the first index
// that has the project.
func (s *Source) list(ctx context.Context, r requirement, o fetch.Options) ([]file, error) {
	var failed []error
	for _, index := range s.indexes {
		files, err := page(ctx, index, r.Name, o, func() *listing { return &listing{hashes: r.Hashes} })
		if err == nil {
			return files.files, nil
		}
		failed = append(failed, err)
	}
	return nil, errors.Join(failed...)
}

// listing takes the files that hashes mean. Each has one name, so that there are
// no more than hashes, whatever a page holds.
type listing struct {
	hashes []digest.Digest
	files  []file
}

func (l *listing) take(f file) error {
	if !slices.Contains(l.hashes, f.SHA256) {
		return nil
	}
	if !fileName(f.Name) {
		return fmt.Errorf("the index has a file %s under the name %.100q, which is none", f.SHA256, f.Name)
	}
	for _, other := range l.files {
		switch {
		case other.SHA256 != f.SHA256:
		case other.Name == f.Name:
			return nil
		default:
			return fmt.Errorf("the index has the file %s under two names, %q and %.100q", f.SHA256, other.Name, f.Name)
		}
	}
	l.files = append(l.files, file{Name: f.Name, SHA256: f.SHA256})
	return nil
}

// fileName reports whether a name can be a file's, and a word of a message.
func fileName(s string) bool {
	return s != "" && s != "." && s != ".." && len(s) <= 255 && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f || strings.ContainsRune(`/\?#`, r) })
}

// find returns the URL of a file.
func find(ctx context.Context, index, name, base string) (string, error) {
	f, err := page(ctx, index, name, fetch.Options{Tries: 1}, func() *named { return &named{name: base} }) // whoever opens the file tries again
	if err != nil {
		return "", err
	}
	if f.url == "" {
		return "", &missingError{fmt.Sprintf("the index has no file %q of %s", base, name)}
	}
	return httpfile.Told(index, f.url)
}

// named takes the file of one name.
type named struct{ name, url string }

func (n *named) take(f file) error {
	if n.url == "" && f.Name == n.name {
		n.url = f.URL
	}
	return nil
}

type missingError struct{ text string }

func (e *missingError) Error() string { return e.text }

// Permanent says that asking again is useless.
func (e *missingError) Permanent() bool { return true }

// taker takes what a page lists, one file after the other.
type taker interface{ take(file) error }

// page reads what an index says of a project, into what begin returns. It is not
// kept whole: made-up files would take gigabytes.
func page[T taker](ctx context.Context, index, name string, o fetch.Options, begin func() T) (T, error) {
	var none T
	at := strings.TrimSuffix(index, "/") + "/" + name + "/"
	if strings.HasPrefix(at, "file:") { // a mirror in a folder, as bandersnatch writes it
		at += "index.html"
	}
	src, err := httpfile.New(at)
	if err != nil {
		return none, err
	}
	base, err := url.Parse(at)
	if err != nil {
		return none, err
	}
	t, err := fetch.Parse(ctx, src, maxPage, o, func(r io.Reader) (T, error) {
		t := begin()
		return t, parsePage(r, base, t.take)
	})
	if err != nil {
		return none, fmt.Errorf("%s: %w", src, err)
	}
	return t, nil
}

// maxLink bounds one link of a page, or one word of it.
const maxLink = 64 << 10

var anchor = regexp.MustCompile(`(?is)<a\s[^>]*?href\s*=\s*(?:"([^"]*)"|'([^']*)')[^>]*>`)

// parsePage reads a page of a simple index: JSON (PEP 691) or HTML (PEP 503).
// Files without a sha256 are left out, since nothing could be held against them.
func parsePage(r io.Reader, base *url.URL, take func(file) error) error {
	page := bufio.NewReaderSize(r, maxLink)
	for {
		c, err := page.ReadByte()
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		case c == ' ' || c == '\n' || c == '\t' || c == '\r':
			continue
		}
		if err := page.UnreadByte(); err != nil {
			return err
		}
		if c == '{' {
			return parseJSON(page, base, take)
		}
		return parseHTML(page, base, take)
	}
}

// parseHTML looks at what comes up to each ">", where a link ends.
func parseHTML(page *bufio.Reader, base *url.URL, take func(file) error) error {
	for {
		piece, err := page.ReadSlice('>')
		if m := anchor.FindSubmatch(piece); m != nil {
			u, err := base.Parse(html.UnescapeString(string(m[1]) + string(m[2])))
			if err != nil {
				continue
			}
			sum, ok := strings.CutPrefix(u.Fragment, "sha256=")
			u.Fragment, u.RawFragment = "", ""
			if d, err := digest.ParseHex(sum); ok && err == nil {
				if err := take(file{Name: path.Base(u.Path), SHA256: d, URL: u.String()}); err != nil {
					return err
				}
			}
		}
		switch err {
		case nil, bufio.ErrBufferFull: // text without a link
		case io.EOF:
			return nil
		default:
			return err
		}
	}
}

// maxEntry bounds one file of a page in JSON, which has some 500 bytes.
const maxEntry = 1 << 20

func parseJSON(page io.Reader, base *url.URL, take func(file) error) error {
	r := jsonpart.New(page, maxEntry)
	var refused error
	err := r.Object(func(name string) error {
		if name != "files" {
			return r.Skip()
		}
		return r.Array(func() error {
			var f struct {
				Filename string            `json:"filename"`
				URL      string            `json:"url"`
				Hashes   map[string]string `json:"hashes"`
			}
			if err := r.Decode(&f); err != nil {
				return err
			}
			d, err := digest.ParseHex(f.Hashes["sha256"])
			u, urlErr := base.Parse(f.URL)
			if err != nil || urlErr != nil {
				return nil
			}
			refused = take(file{Name: f.Filename, SHA256: d, URL: u.String()})
			return refused
		})
	})
	if err != nil && refused == nil {
		return fmt.Errorf("it is not JSON as PEP 691 has it: %w", err)
	}
	return err
}
