package sbom

import (
	"encoding/hex"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/spdx/tools-golang/spdx/v2/common"
	spdx "github.com/spdx/tools-golang/spdx/v2/v2_3"

	"quorate.dev/lockfile/digest"
)

// none is SPDX's word for what nobody says.
const none = "NOASSERTION"

// creator is who made the document: no version of a program, which would make
// other bytes of the same image.
const creator = "quorate"

// SPDX writes contents as an SPDX 2.3 document.
func SPDX(w io.Writer, c *Contents) error {
	code, err := verificationCode(c.Files.ByPath())
	if err != nil {
		return err
	}
	s := newStream(w)
	s.field("spdxVersion", spdx.Version)
	s.field("dataLicense", spdx.DataLicense)
	s.field("SPDXID", "SPDXRef-DOCUMENT")
	s.field("name", text(c.Name))
	s.field("documentNamespace", "https://quorate.dev/spdx/"+c.identity().Hex())
	s.field("comment", c.made())
	s.field("creationInfo", &spdx.CreationInfo{
		Creators: []common.Creator{{CreatorType: "Tool", Creator: creator}},
		Created:  c.Epoch.UTC().Format(time.RFC3339),
	})
	s.list("packages", c.spdxPackages(code))
	s.list("files", c.spdxFiles(s))
	s.list("hasExtractedLicensingInfos", c.spdxLicences())
	s.list("relationships", c.spdxRelationships(s))
	return s.end()
}

// made says how the document came to be.
func (c *Contents) made() string {
	made := "Made from quorate.lock and the list of the image's files, without scanning. Dependencies are those by which the lock says that a package came in."
	if slices.ContainsFunc(c.Parts, func(p Part) bool { return len(p.Contains) > 0 }) {
		made += " Packages of the base image are those that its own databases list."
	}
	return made
}

// identity is a digest of everything that decides the document.
func (c *Contents) identity() digest.Digest {
	return digest.Of([]byte(strings.Join([]string{"sbom 1", c.Name, c.Platform, c.Image.String(), c.Lock.String(), c.Definition.String()}, "\n")))
}

// imageID is the SPDX identifier of the image; those of parts and files are made of digests.
const imageID = "Image"

func partID(key string) common.ElementID {
	kind, name, _ := strings.Cut(key, "/")
	return common.ElementID("Part-" + plain(kind) + "-" + plain(name[:min(len(name), 60)]) + "-" + digest.Of([]byte(key)).Hex()[:16])
}

func fileID(path string) common.ElementID {
	return common.ElementID("File-" + digest.Of([]byte(path)).Hex()[:32])
}

func (c *Contents) spdxPackages(code string) iter.Seq[any] {
	return func(yield func(any) bool) {
		image := &spdx.Package{
			PackageName: text(c.Name), PackageSPDXIdentifier: imageID, PackageVersion: c.Image.String(),
			PackageDownloadLocation: none, FilesAnalyzed: true,
			PackageVerificationCode: &common.PackageVerificationCode{Value: code},
			PackageChecksums:        sha256(c.Image), PackageLicenseConcluded: none, PackageLicenseDeclared: none,
			PackageCopyrightText: none, PrimaryPackagePurpose: "CONTAINER",
			PackageComment:            "The image's manifest for " + c.Platform + "; built from the lock " + c.Lock.String() + " of the definition " + c.Definition.String(),
			PackageExternalReferences: purl(c.URI()),
		}
		if !yield(image) {
			return
		}
		for i := range c.Parts {
			if !yield(c.Parts[i].spdx()) {
				return
			}
		}
	}
}

func sha256(d digest.Digest) []common.Checksum {
	if d.IsZero() {
		return nil
	}
	return []common.Checksum{{Algorithm: common.SHA256, Value: d.Hex()}}
}

// purl is a reference to a package URL; other URIs are download locations.
func purl(uri string) []*spdx.PackageExternalReference {
	if !strings.HasPrefix(uri, "pkg:") {
		return nil
	}
	return []*spdx.PackageExternalReference{{Category: "PACKAGE-MANAGER", RefType: "purl", Locator: uri}}
}

func (p *Part) spdx() *spdx.Package {
	out := &spdx.Package{
		PackageName: text(p.Name), PackageSPDXIdentifier: partID(p.Key), PackageVersion: text(p.Version),
		PackageDownloadLocation: none, PackageChecksums: sha256(p.Digest), PackageHomePage: web(p.Homepage),
		PackageLicenseConcluded: none, PackageLicenseDeclared: none, PackageLicenseComments: text(p.Licence.Comment),
		PackageCopyrightText: none, PackageSummary: text(p.Summary), PackageExternalReferences: purl(p.URI),
		PackageComment: p.comment(),
	}
	if p.URI != "" && !strings.HasPrefix(p.URI, "pkg:") {
		out.PackageDownloadLocation = p.URI
	}
	if p.Licence.Expression != "" {
		out.PackageLicenseDeclared = p.Licence.Expression
	}
	if kind, name := spdxActor(p.Supplier); name != "" {
		out.PackageSupplier = &common.Supplier{SupplierType: kind, Supplier: name}
	}
	if kind, name := spdxActor(p.Author); name != "" {
		out.PackageOriginator = &common.Originator{OriginatorType: kind, Originator: name}
	}
	if p.Source != "" {
		out.PackageSourceInfo = "built from source package " + text(p.Source)
	}
	return out
}

// spdxActor is "Name <address>" as SPDX writes it (SPDX 2.3, 7.5).
func spdxActor(s string) (kind, name string) {
	name, address := person(s)
	kind = "Person"
	if organisation(name) {
		kind = "Organization"
	}
	if name != "" && address != "" {
		name += " (" + address + ")"
	}
	return kind, name
}

// web is a homepage that both forms take: an absolute URL of the characters that
// URLs have (RFC 3986, section 2), others as %XX.
func web(s string) string {
	rest, ok := strings.CutPrefix(s, "https://")
	if !ok {
		rest, ok = strings.CutPrefix(s, "http://")
	}
	if !ok || rest == "" {
		return ""
	}
	var b strings.Builder
	for _, c := range []byte(s) {
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`<>"{}|\^`+"`", c) >= 0 {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// perhaps is said of parts of which nobody knows whether they are shipped.
const perhaps = "given to a step whose output is shipped, with no record of what is in it"

// comment is what there is no field for.
func (p *Part) comment() string {
	var lines []string
	switch {
	case p.Shipped:
		lines = append(lines, "shipped in the image")
	case p.Perhaps:
		lines = append(lines, perhaps)
	default:
		lines = append(lines, "needed to build, not shipped")
	}
	for _, found := range p.Found {
		lines = append(lines, text(found))
	}
	for _, why := range p.Why {
		lines = append(lines, "because of "+text(why))
	}
	for _, name := range p.Lacks {
		lines = append(lines, "its dependency "+text(name)+" is left out on purpose (image.without)")
	}
	for _, note := range p.Notes {
		lines = append(lines, text(note))
	}
	if !p.Tree.IsZero() {
		lines = append(lines, "tree of files "+p.Tree.String())
	}
	return strings.Join(lines, "; ")
}

func (c *Contents) spdxFiles(s *stream) iter.Seq[any] {
	return func(yield func(any) bool) {
		for f, err := range c.Files.ByPath() {
			if err != nil {
				s.fail(err)
				return
			}
			out := &spdx.File{
				FileName: "./" + text(f.Path), FileSPDXIdentifier: fileID(f.Path),
				Checksums: []common.Checksum{
					{Algorithm: common.SHA1, Value: hex.EncodeToString(f.SHA1[:])},
					{Algorithm: common.SHA256, Value: f.SHA256.Hex()},
				},
				LicenseConcluded: none, LicenseInfoInFiles: []string{none}, FileCopyrightText: none, FileComment: f.How,
			}
			if !yield(out) {
				return
			}
		}
	}
}

func (c *Contents) spdxLicences() iter.Seq[any] {
	return func(yield func(any) bool) {
		seen := map[string]bool{} // two architectures of a package have the same
		for i := range c.Parts {
			for _, t := range c.Parts[i].Licence.Texts {
				if seen[t.ID] {
					continue
				}
				seen[t.ID] = true
				if !yield(&spdx.OtherLicense{LicenseIdentifier: t.ID, LicenseName: t.Name, ExtractedText: t.Text}) {
					return
				}
			}
		}
	}
}

func (c *Contents) spdxRelationships(s *stream) iter.Seq[any] {
	ref := func(id common.ElementID) common.DocElementID { return common.DocElementID{ElementRefID: id} }
	return func(yield func(any) bool) {
		more := true
		say := func(a common.ElementID, word string, b common.ElementID, comment string) {
			more = more && yield(&spdx.Relationship{RefA: ref(a), Relationship: word, RefB: ref(b), RelationshipComment: comment})
		}
		say("DOCUMENT", common.TypeRelationshipDescribe, imageID, "")
		unpacked := map[string]bool{}
		for i := range c.Parts {
			p := &c.Parts[i]
			id := partID(p.Key)
			unpacked[p.Key] = p.Archive
			if p.Shipped {
				say(imageID, common.TypeRelationshipContains, id, "")
			}
			for _, key := range p.UsedBy {
				of := common.ElementID(imageID)
				if key != "" {
					of = partID(key)
				}
				say(id, common.TypeRelationshipBuildToolOf, of, "")
			}
			for _, key := range p.Needs {
				say(id, common.TypeRelationshipDependsOn, partID(key), "")
			}
			for _, key := range p.MadeFrom {
				say(id, common.TypeRelationshipGeneratedFrom, partID(key), "")
			}
			for _, key := range p.Contains {
				say(id, common.TypeRelationshipContains, partID(key), "")
			}
			for _, key := range p.Links {
				say(id, common.TypeRelationshipStaticLink, partID(key), "")
			}
		}
		for f, err := range c.Files.ByPath() {
			if err != nil {
				s.fail(err)
				return
			}
			say(imageID, common.TypeRelationshipContains, fileID(f.Path), "")
			switch {
			case f.Part == "":
			case unpacked[f.Part]:
				say(fileID(f.Path), common.TypeRelationshipExpandedFromArchive, partID(f.Part), f.How)
			default:
				say(fileID(f.Path), common.TypeRelationshipGeneratedFrom, partID(f.Part), f.How)
			}
			if !more {
				return
			}
		}
	}
}
