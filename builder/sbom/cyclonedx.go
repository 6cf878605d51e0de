package sbom

import (
	"encoding/hex"
	"io"
	"iter"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	cdx "github.com/CycloneDX/cyclonedx-go"

	"quorate.dev/lockfile/digest"
)

// imageRef is the image's bom-ref; those of parts are "part/" and their key,
// those of files "file/" and their path.
const imageRef = "image"

func partRef(key string) string { return "part/" + text(key) }

func fileRef(path string) string {
	if !utf8.ValidString(path) { // %XX could be another file's true name
		return "file-digest/" + digest.Of([]byte(path)).Hex()
	}
	return "file/" + path
}

// URI is the image's package URL (purl-spec, "types/oci").
func (c *Contents) URI() string {
	return "pkg:oci/" + strings.ToLower(url.PathEscape(c.Name)) + "@" + strings.ReplaceAll(c.Image.String(), ":", "%3A") + "?arch=" + url.QueryEscape(c.Architecture)
}

// CycloneDX writes contents as a CycloneDX 1.6 bill of materials.
func CycloneDX(w io.Writer, c *Contents) error {
	s := newStream(w)
	s.field("$schema", "http://cyclonedx.org/schema/bom-1.6.schema.json")
	s.field("bomFormat", cdx.BOMFormat)
	s.field("specVersion", cdx.SpecVersion1_6)
	s.field("version", 1)
	s.field("metadata", c.cdxMetadata())
	owned := map[string][]int{}
	for i := range c.Files {
		owned[c.Files[i].Part] = append(owned[c.Files[i].Part], i)
	}
	s.list("components", func(yield func(any) bool) {
		for i := range c.Parts {
			if !yield(c.Parts[i].cdx(c, owned[c.Parts[i].Key])) {
				return
			}
		}
		for _, i := range owned[""] {
			if !yield(c.Files[i].cdx()) {
				return
			}
		}
	})
	s.list("dependencies", c.cdxDependencies())
	s.list("compositions", c.cdxCompositions())
	return s.end()
}

func (c *Contents) cdxMetadata() *cdx.Metadata {
	return &cdx.Metadata{
		Timestamp:  c.Epoch.UTC().Format(time.RFC3339),
		Lifecycles: &[]cdx.Lifecycle{{Phase: cdx.LifecyclePhaseBuild}},
		Tools:      &cdx.ToolsChoice{Components: &[]cdx.Component{{Type: cdx.ComponentTypeApplication, Name: creator}}},
		Component: &cdx.Component{
			BOMRef: imageRef, Type: cdx.ComponentTypeContainer, Name: text(c.Name), Version: c.Image.String(),
			Hashes: hashes(c.Image), PackageURL: c.URI(),
			Properties: properties("platform", c.Platform, "lock", c.Lock.String(), "definition", c.Definition.String()),
		},
	}
}

// properties are pairs of a name and a value; those without a value are left out.
func properties(pairs ...string) *[]cdx.Property {
	var out []cdx.Property
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			out = append(out, cdx.Property{Name: "quorate:" + pairs[i], Value: text(pairs[i+1])})
		}
	}
	if out == nil {
		return nil
	}
	return &out
}

func hashes(d digest.Digest) *[]cdx.Hash {
	if d.IsZero() {
		return nil
	}
	return &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: d.Hex()}}
}

// cdx returns what writes the part's component, and its files in it.
func (p *Part) cdx(c *Contents, files []int) func(*stream) {
	out := &cdx.Component{
		BOMRef: partRef(p.Key), Type: cdx.ComponentTypeLibrary, Name: text(p.Name), Version: text(p.Version),
		Description: text(p.Summary), Scope: cdx.ScopeRequired, Hashes: hashes(p.Digest),
	}
	if strings.HasPrefix(p.URI, "pkg:") {
		out.PackageURL = p.URI
	}
	switch p.Kind {
	case "file", "local":
		out.Type = cdx.ComponentTypeFile
	case "step":
		out.Type = cdx.ComponentTypeApplication
	case "image":
		out.Type = cdx.ComponentTypeContainer
	}
	if !p.Shipped {
		out.Scope = cdx.ScopeExcluded
	}
	if name, address := person(p.Supplier); name != "" {
		out.Supplier = &cdx.OrganizationalEntity{Name: name}
		if strings.Contains(address, "@") {
			out.Supplier.Contact = &[]cdx.OrganizationalContact{{Email: address}}
		}
	}
	if p.Licence.Expression != "" {
		out.Licenses = &cdx.Licenses{{Expression: p.Licence.Expression}}
	}
	var links []cdx.ExternalReference
	if home := web(p.Homepage); home != "" {
		links = append(links, cdx.ExternalReference{Type: cdx.ERTypeWebsite, URL: home})
	}
	if p.URI != "" && out.PackageURL == "" {
		links = append(links, cdx.ExternalReference{Type: cdx.ERTypeDistribution, URL: p.URI})
	}
	if links != nil {
		out.ExternalReferences = &links
	}
	pairs := []string{"kind", p.Kind, "source", p.Source, "licence", p.Licence.Comment}
	for _, why := range p.Why {
		pairs = append(pairs, "why", why)
	}
	for _, name := range p.Lacks {
		pairs = append(pairs, "left-out", name)
	}
	if !p.Tree.IsZero() {
		pairs = append(pairs, "tree", p.Tree.String())
	}
	out.Properties = properties(pairs...)
	if len(files) == 0 {
		return func(s *stream) { s.value(out) }
	}
	return func(s *stream) { s.nest(out, c, files) }
}

// nest writes a component that holds files without making all of them JSON at
// once: the list stands before its closing brace.
func (s *stream) nest(out *cdx.Component, c *Contents, files []int) {
	s.raw(strings.TrimSuffix(s.encode(out), "}"))
	s.raw(`,"components":[`)
	for n, i := range files {
		if n > 0 {
			s.raw(",")
		}
		s.raw("\n")
		s.value(c.Files[i].cdx())
	}
	s.raw("]}")
}

func (f *File) cdx() *cdx.Component {
	return &cdx.Component{
		BOMRef: fileRef(f.Path), Type: cdx.ComponentTypeFile, Name: "/" + text(f.Path),
		Hashes:     &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA1, Value: hex.EncodeToString(f.SHA1[:])}, {Algorithm: cdx.HashAlgoSHA256, Value: f.SHA256.Hex()}},
		Properties: properties("how", f.How),
	}
}

func (c *Contents) cdxDependencies() iter.Seq[any] {
	return func(yield func(any) bool) {
		var shipped []string
		for _, p := range c.Parts {
			if p.Shipped {
				shipped = append(shipped, partRef(p.Key))
			}
		}
		if !yield(&cdx.Dependency{Ref: imageRef, Dependencies: list(shipped)}) {
			return
		}
		for _, p := range c.Parts {
			var on []string
			for _, key := range append(p.Needs[:len(p.Needs):len(p.Needs)], p.MadeFrom...) {
				on = append(on, partRef(key))
			}
			if len(on) > 0 && !yield(&cdx.Dependency{Ref: partRef(p.Key), Dependencies: list(on)}) {
				return
			}
		}
	}
}

func list(refs []string) *[]string {
	if len(refs) == 0 {
		return nil
	}
	return &refs
}

// cdxCompositions says what is whole: all that the image holds is listed, but
// the lock knows only those dependencies by which something came in.
func (c *Contents) cdxCompositions() iter.Seq[any] {
	return func(yield func(any) bool) {
		var parts []cdx.BOMReference
		for _, p := range c.Parts {
			parts = append(parts, cdx.BOMReference(partRef(p.Key)))
		}
		if !yield(&cdx.Composition{Aggregate: cdx.CompositionAggregateComplete, Assemblies: &[]cdx.BOMReference{imageRef}}) {
			return
		}
		if len(parts) > 0 {
			yield(&cdx.Composition{Aggregate: cdx.CompositionAggregateIncomplete, Dependencies: &parts})
		}
	}
}
