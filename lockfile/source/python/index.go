package python

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"net/url"
	"path"
	"regexp"
	"strings"

	"quorate.dev/lockfile/digest"
	"quorate.dev/lockfile/fetch"
	"quorate.dev/lockfile/source/httpfile"
)

// maxPage is four times the largest page of the public index that we know of.
const maxPage = 64 << 20

// list returns the files of a project, of the first index that has the project.
func (s *Source) list(ctx context.Context, name string, o fetch.Options) ([]file, error) {
	var failed []error
	for _, index := range s.indexes {
		files, err := page(ctx, index, name, o)
		if err == nil {
			return files, nil
		}
		failed = append(failed, err)
	}
	return nil, errors.Join(failed...)
}

// find returns the URL of a file.
func find(ctx context.Context, index, name, base string) (string, error) {
	files, err := page(ctx, index, name, fetch.Options{Tries: 1}) // whoever opens the file tries again
	if err != nil {
		return "", err
	}
	for _, f := range files {
		if f.Name == base {
			return f.URL, nil
		}
	}
	return "", &missingError{fmt.Sprintf("the index has no file %q of %s", base, name)}
}

type missingError struct{ text string }

func (e *missingError) Error() string { return e.text }

// Permanent says that asking again is useless.
func (e *missingError) Permanent() bool { return true }

// page reads what an index says of a project.
func page(ctx context.Context, index, name string, o fetch.Options) ([]file, error) {
	at := strings.TrimSuffix(index, "/") + "/" + name + "/"
	if strings.HasPrefix(at, "file:") { // a mirror in a folder, as bandersnatch writes it
		at += "index.html"
	}
	text, err := httpfile.Read(ctx, at, maxPage, o)
	if err != nil {
		return nil, err
	}
	base, err := url.Parse(at)
	if err != nil {
		return nil, err
	}
	return parsePage(text, base)
}

var anchor = regexp.MustCompile(`(?is)<a\s[^>]*?href\s*=\s*(?:"([^"]*)"|'([^']*)')[^>]*>`)

// parsePage reads a page of a simple index: JSON (PEP 691) or HTML (PEP 503).
// Files without a sha256 are left out, since nothing could be held against them.
func parsePage(text []byte, base *url.URL) ([]file, error) {
	if bytes.HasPrefix(bytes.TrimSpace(text), []byte("{")) {
		return parseJSON(text, base)
	}
	var files []file
	for _, m := range anchor.FindAllSubmatch(text, -1) {
		href := html.UnescapeString(string(m[1]) + string(m[2]))
		u, err := base.Parse(href)
		if err != nil {
			continue
		}
		sum, ok := strings.CutPrefix(u.Fragment, "sha256=")
		u.Fragment, u.RawFragment = "", ""
		if d, err := digest.ParseHex(sum); ok && err == nil {
			files = append(files, file{Name: path.Base(u.Path), SHA256: d, URL: u.String()})
		}
	}
	return files, nil
}

func parseJSON(text []byte, base *url.URL) ([]file, error) {
	var doc struct {
		Files []struct {
			Filename string            `json:"filename"`
			URL      string            `json:"url"`
			Hashes   map[string]string `json:"hashes"`
		} `json:"files"`
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		return nil, fmt.Errorf("%s is not JSON as PEP 691 has it: %w", base.Redacted(), err)
	}
	var files []file
	for _, f := range doc.Files {
		d, err := digest.ParseHex(f.Hashes["sha256"])
		u, urlErr := base.Parse(f.URL)
		if err == nil && urlErr == nil {
			files = append(files, file{Name: f.Filename, SHA256: d, URL: u.String()})
		}
	}
	return files, nil
}
