package diff

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
)

const (
	// maxDocument bounds index.json, manifests and configs. Registries refuse manifests above
	// 4 MiB (distribution-spec, "Pushing Manifests"); configs of real images stay under 100 kB.
	maxDocument = 8 << 20
	// maxImages bounds the images of one layout; the largest public indexes have some 20 platforms.
	maxImages = 1000
	// maxIndexDepth bounds indexes within indexes; the specification knows of one level.
	maxIndexDepth = 4
)

// descriptor is the part of an OCI descriptor that says where to look.
type descriptor struct {
	MediaType string    `json:"mediaType"`
	Digest    string    `json:"digest"`
	Size      int64     `json:"size"`
	Platform  *platform `json:"platform"`
}

type platform struct {
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
	Variant      string `json:"variant"`
}

func (p *platform) String() string {
	if p == nil || p.OS == "" && p.Architecture == "" {
		return "unknown"
	}
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}

// layout is one side: its index and its images.
type layout struct {
	dir    string
	index  []byte
	images []*imageDocs
}

// imageDocs is one image of a layout, but for its layers' bytes.
type imageDocs struct {
	platform string
	digest   string // of the manifest
	manifest []byte
	config   []byte
	layers   []descriptor
	diffIDs  []string
}

func (l *layout) digests() []string {
	var d []string
	for _, i := range l.images {
		d = append(d, i.digest)
	}
	return d
}

func (l *layout) fail(name string, err error) error {
	return &InputError{Side: l.dir, Name: name, Err: err}
}

// openLayout reads everything of a layout but its layers.
func openLayout(dir string) (*layout, error) {
	l := &layout{dir: dir}
	index, err := readSmall(filepath.Join(dir, "index.json"))
	if err != nil {
		return nil, l.fail("index.json", err)
	}
	l.index = index
	if err := l.addIndex("index.json", index, 0); err != nil {
		return nil, err
	}
	if len(l.images) == 0 {
		return nil, l.fail("index.json", errors.New("it names no image"))
	}
	return l, nil
}

func (l *layout) addIndex(name string, raw []byte, depth int) error {
	if depth >= maxIndexDepth {
		return l.fail(name, fmt.Errorf("more than %d indexes within each other", maxIndexDepth))
	}
	var index struct {
		Manifests []descriptor `json:"manifests"`
	}
	if err := json.Unmarshal(raw, &index); err != nil {
		return l.fail(name, fmt.Errorf("not a JSON image index: %w", err))
	}
	for _, d := range index.Manifests {
		if err := l.addManifest(d, depth); err != nil {
			return err
		}
	}
	return nil
}

func (l *layout) addManifest(d descriptor, depth int) error {
	if len(l.images) >= maxImages {
		return l.fail("index.json", fmt.Errorf("more than %d images", maxImages))
	}
	raw, err := l.document(d)
	if err != nil {
		return err
	}
	var m struct {
		Config    *descriptor     `json:"config"`
		Layers    []descriptor    `json:"layers"`
		Manifests json.RawMessage `json:"manifests"`
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return l.fail(d.Digest, fmt.Errorf("not a JSON manifest: %w", err))
	}
	if m.Manifests != nil {
		return l.addIndex(d.Digest, raw, depth+1)
	}
	if m.Config == nil {
		return l.fail(d.Digest, errors.New("neither an image manifest nor an index: it has no config"))
	}
	config, err := l.document(*m.Config)
	if err != nil {
		return err
	}
	var c struct {
		platform
		RootFS struct {
			DiffIDs []string `json:"diff_ids"`
		} `json:"rootfs"`
	}
	if err := json.Unmarshal(config, &c); err != nil {
		return l.fail(m.Config.Digest, fmt.Errorf("not a JSON image configuration: %w", err))
	}
	p := d.Platform
	if p == nil {
		p = &c.platform
	}
	for _, layer := range m.Layers {
		if !digestForm.MatchString(layer.Digest) {
			return l.fail(d.Digest, fmt.Errorf("layer digest %.80q is not sha256 and 64 hexadecimal digits", layer.Digest))
		}
	}
	l.images = append(l.images, &imageDocs{platform: p.String(), digest: d.Digest, manifest: raw, config: config, layers: m.Layers, diffIDs: c.RootFS.DiffIDs})
	return nil
}

// digestForm also keeps a hostile layout from naming files outside its own folder.
var digestForm = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// document reads a small blob whole and checks it.
func (l *layout) document(d descriptor) ([]byte, error) {
	if !digestForm.MatchString(d.Digest) {
		return nil, l.fail("index.json", fmt.Errorf("digest %.80q is not sha256 and 64 hexadecimal digits", d.Digest))
	}
	name := blobName(d.Digest)
	raw, err := readSmall(filepath.Join(l.dir, name))
	if err != nil {
		return nil, l.fail(name, err)
	}
	if sum := sha256.Sum256(raw); "sha256:"+hex.EncodeToString(sum[:]) != d.Digest {
		return nil, l.fail(name, fmt.Errorf("its bytes have digest sha256:%x", sum))
	}
	return raw, nil
}

func blobName(digest string) string {
	return filepath.Join("blobs", "sha256", digest[len("sha256:"):])
}

func readSmall(name string) ([]byte, error) {
	f, err := openRegular(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxDocument+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > maxDocument {
		return nil, fmt.Errorf("larger than %d bytes", maxDocument)
	}
	return raw, nil
}

// openRegular opens a regular file; opening a fifo would wait for ever.
func openRegular(name string) (*os.File, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, short(err)
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	f, err := os.Open(name)
	return f, short(err)
}

// short drops the path of a *fs.PathError, which an InputError gives already.
func short(err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
