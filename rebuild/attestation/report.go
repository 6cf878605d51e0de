package attestation

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"quorate.dev/lockfile"
	"quorate.dev/lockfile/definition"
	"quorate.dev/lockfile/digest"
	"quorate.dev/rebuild/agreement"
	"quorate.dev/rebuild/keyfile"
)

// BuildRecord is all that a worker knows about the build it made.
type BuildRecord struct {
	Rebuilder string // its name in the policy
	BuilderID string // SLSA builder.id, a URI: who built, and how isolated
	Operator  string // who says to run it; may be ""
	Nonce     string // of the request: 1 to 64 lower-case letters, digits, ".", "_" or "-"
	Attempt   int    // from 1
	Version   string // of Quorate

	Name       string                // of the image
	Platforms  []definition.Platform // that were built
	Epoch      time.Time             // SOURCE_DATE_EPOCH, whole seconds
	Assembler  int                   // version of the rules that decided the output bytes
	Definition digest.Digest         // of quorate.yaml's bytes
	LockDigest digest.Digest         // of quorate.lock's bytes
	Lock       *lockfile.Lock        // what it says
	Locals     []Local               // local inputs

	Subjects []agreement.Subject    // image manifests; an index has no Platform
	Steps    []agreement.StepDigest // what each step left in $OUT
	FileList digest.Digest          // of the listing of the image's files; zero for none
	Log      digest.Digest          // of the build's log; zero for none

	Environment  map[string]string // facts of the host
	Surroundings map[string]string // what was varied on purpose
	Started      time.Time
	Finished     time.Time
}

// Local is a local input as it was built from.
type Local struct {
	Name string
	Tree digest.Digest // of its canonical listing
}

// The predicate, field by field as SLSA names them.
type (
	provenance struct {
		BuildDefinition buildDefinition `json:"buildDefinition"`
		RunDetails      runDetails      `json:"runDetails"`
	}
	buildDefinition struct {
		BuildType            string             `json:"buildType"`
		ExternalParameters   externalParameters `json:"externalParameters"`
		InternalParameters   internalParameters `json:"internalParameters"`
		ResolvedDependencies []descriptor       `json:"resolvedDependencies"`
	}
	externalParameters struct {
		Name            string   `json:"name"`
		Platforms       []string `json:"platforms"`
		SourceDateEpoch string   `json:"sourceDateEpoch"` // seconds, decimal
		Definition      string   `json:"definition"`
		Lock            string   `json:"lock"`
	}
	internalParameters struct {
		Assembler  string `json:"assembler"`
		LockFormat string `json:"lockFormat"`
	}
	runDetails struct {
		Builder      builder           `json:"builder"`
		Metadata     metadata          `json:"metadata"`
		Byproducts   []descriptor      `json:"byproducts,omitempty"`
		Operator     string            `json:"quorate_operator,omitempty"`
		Environment  map[string]string `json:"quorate_environment,omitempty"`
		Surroundings map[string]string `json:"quorate_surroundings,omitempty"`
	}
	builder struct {
		ID      string            `json:"id"`
		Version map[string]string `json:"version,omitempty"`
	}
	metadata struct {
		InvocationID string `json:"invocationId"`
		StartedOn    string `json:"startedOn"`
		FinishedOn   string `json:"finishedOn"`
	}
)

// Names of dependencies and byproducts.
const (
	definitionName = "definition"
	lockName       = "lock"
	filesName      = "files"
	logName        = "log"
	stepPrefix     = "step/"
	platformNote   = "platform" // annotation of subjects and steps
	versionName    = "quorate"
)

// SignReport returns the envelope of the signed report of a build, one line of
// JSON. It refuses a record that OpenReport would refuse, such as one without
// subjects.
func SignReport(ctx context.Context, record BuildRecord, signer keyfile.Signer) ([]byte, error) {
	payload, err := record.payload()
	if err == nil {
		_, err = parseReport(payload)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot make a report: %w", err)
	}
	return sign(ctx, payload, signer)
}

func (r *BuildRecord) payload() ([]byte, error) {
	if r.Lock == nil {
		return nil, fmt.Errorf("the record has no lock")
	}
	s := statement[provenance]{
		Type:          StatementType,
		Subject:       subjectDescriptors(r.Subjects),
		PredicateType: ProvenancePredicate,
		Predicate: provenance{
			BuildDefinition: buildDefinition{
				BuildType: BuildType,
				ExternalParameters: externalParameters{
					Name:            r.Name,
					SourceDateEpoch: strconv.FormatInt(r.Epoch.Unix(), 10),
					Definition:      r.Definition.String(),
					Lock:            r.LockDigest.String(),
				},
				InternalParameters: internalParameters{
					Assembler:  strconv.Itoa(r.Assembler),
					LockFormat: strconv.Itoa(r.Lock.Format),
				},
				ResolvedDependencies: r.dependencies(),
			},
			RunDetails: runDetails{
				Builder: builder{ID: r.BuilderID},
				Metadata: metadata{
					InvocationID: fmt.Sprintf("%s/%s/%d", r.Nonce, r.Rebuilder, r.Attempt),
					StartedOn:    formatTime(r.Started),
					FinishedOn:   formatTime(r.Finished),
				},
				Byproducts:   r.byproducts(),
				Operator:     r.Operator,
				Environment:  r.Environment,
				Surroundings: r.Surroundings,
			},
		},
	}
	for _, p := range r.Platforms {
		s.Predicate.BuildDefinition.ExternalParameters.Platforms = append(s.Predicate.BuildDefinition.ExternalParameters.Platforms, p.String())
	}
	if r.Version != "" {
		s.Predicate.RunDetails.Builder.Version = map[string]string{versionName: r.Version}
	}
	return encode(s)
}

// dependencies lists every input, sorted. A package of two platforms with the
// same bytes ("all") is one.
func (r *BuildRecord) dependencies() []descriptor {
	all := []descriptor{
		{Name: definitionName, URI: definition.FileName, Digest: sha256Set(r.Definition), MediaType: "application/yaml"},
		{Name: lockName, URI: lockfile.FileName, Digest: sha256Set(r.LockDigest), MediaType: "application/yaml"},
	}
	for _, p := range r.Lock.Platforms {
		if !slices.Contains(r.Platforms, p.Platform) {
			continue
		}
		for _, pkg := range p.Packages {
			all = append(all, descriptor{URI: purl(pkg, r.Lock.Requests.Suite), Digest: sha256Set(pkg.SHA256)})
		}
	}
	for _, f := range r.Lock.Files {
		all = append(all, descriptor{Name: "file/" + f.Name, URI: genericPURL(f), DownloadLocation: f.URL, Digest: sha256Set(f.SHA256)})
	}
	all = append(all, r.pins()...)
	for _, l := range r.Locals {
		all = append(all, descriptor{Name: "local/" + l.Name, Digest: treeSet(l.Tree)})
	}
	slices.SortFunc(all, compareDescriptors)
	return slices.CompactFunc(all, func(a, b descriptor) bool { return compareDescriptors(a, b) == 0 })
}

// pins lists what inputs are made of, as far as these platforms need it.
func (r *BuildRecord) pins() []descriptor {
	var all []descriptor
	for _, p := range r.Lock.Pins {
		if p.Platform != "" && !slices.ContainsFunc(r.Platforms, func(have definition.Platform) bool { return have.String() == p.Platform }) {
			continue
		}
		in := r.Lock.RequestOf(p.Input)
		d := descriptor{Name: in.Kind + "/" + p.Input + "/" + p.Path, URI: p.URI(in), Digest: sha256Set(p.SHA256)}
		if commit := p.Version; in.Kind == lockfile.KindGit {
			d.Digest[commitAlgorithm] = commit
		}
		all = append(all, d)
	}
	return all
}

func compareDescriptors(a, b descriptor) int {
	return cmp.Or(
		strings.Compare(a.Name, b.Name),
		strings.Compare(a.URI, b.URI),
		strings.Compare(a.Digest["sha256"], b.Digest["sha256"]),
		strings.Compare(a.Digest[treeAlgorithm], b.Digest[treeAlgorithm]),
	)
}

// purl names a Debian package (package-url/purl-spec, types/deb). A colon
// stays as it is and a plus is escaped, as that specification wants both.
func purl(p lockfile.Package, suite string) string {
	escape := func(s string) string { return strings.ReplaceAll(url.PathEscape(s), "+", "%2B") }
	return fmt.Sprintf("pkg:deb/debian/%s@%s?arch=%s&distro=%s", escape(p.Name), escape(p.Version), escape(p.Arch), escape(suite))
}

// genericPURL names a file that no ecosystem names (package-url/purl-spec, types/generic).
func genericPURL(f lockfile.File) string {
	return fmt.Sprintf("pkg:generic/%s?checksum=%s&download_url=%s", url.PathEscape(f.Name), f.SHA256, url.QueryEscape(f.URL))
}

func (r *BuildRecord) byproducts() []descriptor {
	var all []descriptor
	if !r.FileList.IsZero() {
		all = append(all, descriptor{Name: filesName, Digest: sha256Set(r.FileList)})
	}
	if !r.Log.IsZero() {
		all = append(all, descriptor{Name: logName, Digest: sha256Set(r.Log)})
	}
	for _, s := range slices.SortedFunc(slices.Values(r.Steps), agreement.StepDigest.Compare) {
		all = append(all, descriptor{Name: stepPrefix + s.Step, Digest: treeSet(s.Tree), Annotations: map[string]string{platformNote: s.Platform}})
	}
	return all
}

// subjectDescriptors writes image manifests as in-toto subjects, sorted.
func subjectDescriptors(subjects []agreement.Subject) []descriptor {
	all := make([]descriptor, 0, len(subjects))
	for _, s := range slices.SortedFunc(slices.Values(subjects), agreement.Subject.Compare) {
		d := descriptor{Name: s.Name, Digest: sha256Set(s.Digest)}
		if s.Platform != "" {
			d.Annotations = map[string]string{platformNote: s.Platform}
		}
		all = append(all, d)
	}
	return all
}

// formatTime writes whole seconds, UTC, as SLSA's Timestamp wants.
func formatTime(t time.Time) string { return t.UTC().Truncate(time.Second).Format(time.RFC3339) }
