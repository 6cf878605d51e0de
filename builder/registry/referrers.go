package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"quorate.dev/builder/image"
	"quorate.dev/lockfile/digest"
)

func inMemory(mediaType string, b []byte) *content {
	return &content{mediaType: mediaType, digest: digest.Of(b), size: int64(len(b)), open: func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(b)), nil
	}}
}

// Referrers lists what says of itself that it refers to a manifest, sorted by
// digest, each once. Who may push may add to the list or take from it: nothing
// in it is believed. Descriptors that cannot be read are left out.
func (c *Client) Referrers(ctx context.Context, ref Reference, d digest.Digest) ([]Descriptor, error) {
	all, err := c.referrers(ctx, ref, d)
	if err != nil {
		return nil, fault("list what refers to", ref.At(d), err)
	}
	slices.SortFunc(all, func(a, b Descriptor) int { return bytes.Compare(a.Digest[:], b.Digest[:]) })
	return slices.CompactFunc(all, func(a, b Descriptor) bool { return a.Digest == b.Digest }), nil
}

func (c *Client) referrers(ctx context.Context, ref Reference, d digest.Digest) ([]Descriptor, error) {
	var all []Descriptor
	path := "referrers/" + d.String()
	for page := 0; path != ""; page++ {
		if page == pagesMax {
			return nil, &limitError{fmt.Sprintf("the list has more than %d pages", pagesMax)}
		}
		b, next, err := c.referrersPage(ctx, ref, path)
		if err != nil {
			return nil, err
		}
		if b == nil && page == 0 {
			return c.fallbackReferrers(ctx, ref, d)
		}
		if all, err = appendIndex(all, b); err != nil {
			return nil, err
		}
		path = next
	}
	return all, nil
}

// referrersPage returns one page and the path of the next; nil when the
// registry has no Referrers API. Codes other than 404 are what some registries
// answer to paths that they do not know.
func (c *Client) referrersPage(ctx context.Context, ref Reference, path string) (b []byte, next string, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	resp, err := c.get(ctx, ref, path, []string{image.IndexMediaType},
		http.StatusOK, http.StatusNotFound, http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusNotAcceptable, http.StatusNotImplemented)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	if mediaType, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); resp.StatusCode != http.StatusOK || mediaType != image.IndexMediaType {
		return nil, "", nil
	}
	next, err = nextPage(ref, resp)
	if err != nil {
		return nil, "", err
	}
	b, err = readLimited(resp.Body, manifestMax, "list of referrers")
	return b, next, err
}

// nextPage reads the Link header (RFC 8288) of a page: the next one must lie
// at the same place, so that a registry cannot send us and our credentials elsewhere.
func nextPage(ref Reference, resp *http.Response) (string, error) {
	for link := range strings.SplitSeq(resp.Header.Get("Link"), ",") {
		target, parameters, _ := strings.Cut(strings.TrimSpace(link), ">")
		target, ok := strings.CutPrefix(target, "<")
		if !ok || !strings.Contains(strings.ReplaceAll(parameters, `"`, ""), "rel=next") {
			continue
		}
		u, err := url.Parse(target)
		if err != nil {
			return "", fmt.Errorf("the list's next page %.64q cannot be read", target)
		}
		u = resp.Request.URL.ResolveReference(u)
		path, ok := strings.CutPrefix(u.Path, "/v2/"+ref.repo.RepositoryStr()+"/")
		if !ok || u.Host != resp.Request.URL.Host || !strings.HasPrefix(path, "referrers/") {
			return "", fmt.Errorf("the list's next page %.64q is elsewhere", target)
		}
		if u.RawQuery != "" {
			path += "?" + u.RawQuery
		}
		return path, nil
	}
	return "", nil
}

// appendIndex adds the entries of an index to a list.
func appendIndex(all []Descriptor, b []byte) ([]Descriptor, error) {
	index, err := v1.ParseIndexManifest(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("the list of referrers cannot be read: %w", err)
	}
	if len(all)+len(index.Manifests) > referrersMax {
		return nil, &limitError{fmt.Sprintf("more than %d artifacts refer to it", referrersMax)}
	}
	for _, d := range index.Manifests {
		if one, err := describe(d); err == nil {
			all = append(all, one)
		}
	}
	return all, nil
}

// fallbackTag is where clients keep the list for registries without the API.
func fallbackTag(d digest.Digest) string { return "sha256-" + d.Hex() }

func (c *Client) fallbackReferrers(ctx context.Context, ref Reference, d digest.Digest) ([]Descriptor, error) {
	m, err := c.manifest(ctx, ref.WithTag(fallbackTag(d)))
	if e, ok := errors.AsType[*transport.Error](err); ok && e.StatusCode == http.StatusNotFound {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if m.MediaType != image.IndexMediaType {
		return nil, nil // an old signature of somebody's, not a list
	}
	return appendIndex(nil, m.Bytes)
}

// attachTries is how often an entry that another client overwrote is written
// again: each round at least one of the writers gets through.
const attachTries = 6

// Attach pushes artifacts that refer to the subject and returns their
// descriptors, in order. What is there already is not pushed again; all of them
// are in the registry, and in its list, when it returns.
func (c *Client) Attach(ctx context.Context, ref Reference, subject Descriptor, artifacts ...*Artifact) ([]Descriptor, error) {
	wanted := make([]Descriptor, len(artifacts))
	for i, a := range artifacts {
		var err error
		if wanted[i], err = a.Describe(subject); err != nil {
			return nil, fault("attach to", ref.At(subject.Digest), err)
		}
	}
	for try := 0; ; try++ {
		there, err := c.Referrers(ctx, ref, subject.Digest)
		if err != nil {
			return nil, err
		}
		missing := 0
		for i, a := range artifacts {
			kept, err := c.keeps(ctx, ref, there, wanted[i].Digest)
			if err != nil {
				return nil, fault("attach to", ref.At(subject.Digest), err)
			}
			if kept {
				continue
			}
			missing++
			if try == attachTries {
				continue
			}
			if err := c.pushArtifact(ctx, ref, subject, a); err != nil {
				return nil, fault("attach to", ref.At(subject.Digest), err)
			}
		}
		switch {
		case missing == 0:
			return wanted, nil
		case try == attachTries:
			return nil, fault("attach to", ref.At(subject.Digest), fmt.Errorf("the registry took %d artifacts and does not list them", missing))
		case try > 0: // the first round only looks
			if err := pause(ctx, time.Duration(try)*100*time.Millisecond); err != nil {
				return nil, err
			}
		}
	}
}

// keeps reports whether a registry lists a manifest and has it: a list that
// clients keep themselves still names what was deleted.
func (c *Client) keeps(ctx context.Context, ref Reference, list []Descriptor, d digest.Digest) (bool, error) {
	if !slices.ContainsFunc(list, func(one Descriptor) bool { return one.Digest == d }) {
		return false, nil
	}
	_, err := c.manifest(ctx, ref.At(d))
	if e, ok := errors.AsType[*transport.Error](err); ok && e.StatusCode == http.StatusNotFound {
		return false, nil
	}
	return err == nil, err
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Artifact reads the manifest of an artifact. It must refer to the subject.
func (c *Client) Artifact(ctx context.Context, ref Reference, d, subject digest.Digest) (*Artifact, error) {
	a, err := c.artifact(ctx, ref.At(d), subject)
	return a, fault("pull", ref.At(d), err)
}

func (c *Client) artifact(ctx context.Context, ref Reference, subject digest.Digest) (*Artifact, error) {
	m, err := c.manifest(ctx, ref)
	if err != nil {
		return nil, err
	}
	a, of, err := parseArtifact(m.Bytes, func(d Descriptor) (io.ReadCloser, error) { return c.Blob(ctx, ref, d.Digest, d.Size) })
	if err != nil {
		return nil, err
	}
	if of.IsZero() || of != subject {
		return nil, fmt.Errorf("it does not refer to %s", subject)
	}
	return a, nil
}

// Title returns the file name that a layer goes by, "" for none.
func (l ArtifactLayer) Title() string { return l.Annotations[titleNote] }
