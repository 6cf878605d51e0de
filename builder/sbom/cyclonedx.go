package sbom

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"iter"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	cdx "github.com/CycloneDX/cyclonedx-go"

	"quorate.dev/lockfile/digest"
)

// imageRef is the image's bom-ref; those of parts are "part/" and their key,
// those of files "file/" and their path.
const imageRef = "image"

func partRef(key string) string {
	if !utf8.ValidString(key) { // as for files
		return "part-digest/" + digest.Of([]byte(key)).Hex()
	}
	return "part/" + key
}

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
	s.list("components", c.cdxComponents(s))
	s.list("dependencies", c.cdxDependencies())
	s.list("compositions", c.cdxCompositions())
	return s.end()
}

// cdxComponents are the parts, each with its files in it, and the files of none.
func (c *Contents) cdxComponents(s *stream) iter.Seq[any] {
	return func(yield func(any) bool) {
		files := newCursor(c.Files.ByPart())
		defer files.stop()
		for i := range c.Parts {
			p := &c.Parts[i]
			if !yield(func(s *stream) { s.nest(p.cdx(), files, p.Key) }) {
				return
			}
		}
		for f := range files.of("") {
			if !yield(f.cdx()) {
				return
			}
		}
		s.fail(files.end())
	}
}

// cursor goes once through the files of one part after the other.
type cursor struct {
	next func() (*File, error, bool)
	stop func()
	file *File // the next one; nil at the end
	err  error
}

func newCursor(files iter.Seq2[*File, error]) *cursor {
	c := &cursor{}
	c.next, c.stop = iter.Pull2(files)
	c.advance()
	return c
}

func (c *cursor) advance() { c.file, c.err, _ = c.next() }

// of yields the files of a part, if the next ones are its.
func (c *cursor) of(part string) iter.Seq[*File] {
	return func(yield func(*File) bool) {
		for c.file != nil && c.file.Part == part {
			if !yield(c.file) {
				return
			}
			c.advance()
		}
	}
}

// end tells what went wrong, if not every file was reached.
func (c *cursor) end() error {
	if c.err == nil && c.file != nil {
		return fmt.Errorf("%q is said to come from %q, which is no part of the image, or not in its order", c.file.Path, c.file.Part)
	}
	return c.err
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

// emailAddress is what the schema takes for one (format idn-email), and no more
// than people use.
var emailAddress = regexp.MustCompile(`^[A-Za-z0-9._+-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*$`)

// cdx is the part's component, without its files.
func (p *Part) cdx() *cdx.Component {
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
	switch {
	case p.Shipped:
	case p.Perhaps:
		out.Scope = ""
	default:
		out.Scope = cdx.ScopeExcluded
	}
	if name, address := person(p.Supplier); name != "" {
		out.Supplier = &cdx.OrganizationalEntity{Name: name}
		if emailAddress.MatchString(address) {
			out.Supplier.Contact = &[]cdx.OrganizationalContact{{Email: address}}
		}
	}
	if name, address := person(p.Author); name != "" {
		author := cdx.OrganizationalContact{Name: name}
		if emailAddress.MatchString(address) {
			author.Email = address
		}
		out.Authors = &[]cdx.OrganizationalContact{author}
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
	for _, found := range p.Found {
		pairs = append(pairs, "found", found)
	}
	if p.Perhaps {
		pairs = append(pairs, "shipped", perhaps)
	}
	for _, name := range p.Lacks {
		pairs = append(pairs, "left-out", name)
	}
	for _, note := range p.Notes {
		pairs = append(pairs, "note", note)
	}
	if !p.Tree.IsZero() {
		pairs = append(pairs, "tree", p.Tree.String())
	}
	out.Properties = properties(pairs...)
	return out
}

// nest writes a component with the files of its part in it, without making all
// of them JSON at once: the list stands before its closing brace.
func (s *stream) nest(out *cdx.Component, files *cursor, part string) {
	s.bytes(bytes.TrimSuffix(s.encode(out), []byte("}")))
	open := `,"components":[` + "\n"
	end := "}"
	for f := range files.of(part) {
		s.raw(open)
		s.value(f.cdx())
		open, end = ",\n", "]}"
	}
	s.raw(end)
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
			for _, key := range slices.Concat(p.Needs, p.MadeFrom, p.Contains, p.Links) {
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

// cdxCompositions says what is whole: all that the image holds is listed, unless
// it is built on another one, which may hold more than its databases list; and the
// lock knows only those dependencies by which something came in. What is added to a
// base image may need packages of it, which nobody says.
func (c *Contents) cdxCompositions() iter.Seq[any] {
	return func(yield func(any) bool) {
		var parts []cdx.BOMReference
		for _, p := range c.Parts {
			parts = append(parts, cdx.BOMReference(partRef(p.Key)))
		}
		whole := cdx.CompositionAggregateComplete
		if slices.ContainsFunc(c.Parts, func(p Part) bool { return p.Shipped && p.Kind == "image" }) {
			whole = cdx.CompositionAggregateIncomplete
		}
		if !yield(&cdx.Composition{Aggregate: whole, Assemblies: &[]cdx.BOMReference{imageRef}}) {
			return
		}
		if len(parts) > 0 {
			yield(&cdx.Composition{Aggregate: cdx.CompositionAggregateIncomplete, Dependencies: &parts})
		}
	}
}
