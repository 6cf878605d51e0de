package registry

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

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
	all, err := c.keeper(ref).referrers(ctx, ref, d)
	if err != nil {
		return nil, fault("list what refers to", ref.At(d), err)
	}
	slices.SortFunc(all, func(a, b Descriptor) int { return bytes.Compare(a.Digest[:], b.Digest[:]) })
	return slices.CompactFunc(all, func(a, b Descriptor) bool { return a.Digest == b.Digest }), nil
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
		var missing []*Artifact
		for i, a := range artifacts {
			kept, err := c.keeps(ctx, ref, there, wanted[i].Digest)
			if err != nil {
				return nil, fault("attach to", ref.At(subject.Digest), err)
			}
			if !kept {
				missing = append(missing, a)
			}
		}
		switch {
		case len(missing) == 0:
			return wanted, nil
		case try == attachTries:
			return nil, fault("attach to", ref.At(subject.Digest), fmt.Errorf("the registry took %d artifacts and does not list them", len(missing)))
		}
		if err := c.pushArtifacts(ctx, ref, subject, missing...); err != nil {
			return nil, fault("attach to", ref.At(subject.Digest), err)
		}
		if try > 0 { // the first round only looks
			if err := pause(ctx, time.Duration(try)*100*time.Millisecond); err != nil {
				return nil, err
			}
		}
	}
}

// keeps reports whether a repository lists a manifest and has it: a list that
// clients keep themselves still names what was deleted, and in a folder what is
// damaged can be written anew.
func (c *Client) keeps(ctx context.Context, ref Reference, list []Descriptor, d digest.Digest) (bool, error) {
	if !slices.ContainsFunc(list, func(one Descriptor) bool { return one.Digest == d }) {
		return false, nil
	}
	_, err := c.manifest(ctx, ref.At(d))
	if kind := kindOf(err); kind == NotFound || kind == Changed && ref.Layout() != "" {
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
