package attestation

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	spb "github.com/in-toto/attestation/go/v1"
	"google.golang.org/protobuf/encoding/protojson"

	"quorate.dev/lockfile"
	"quorate.dev/lockfile/digest"
	"quorate.dev/lockfile/strictyaml"
	"quorate.dev/rebuild/agreement"
	"quorate.dev/rebuild/keyfile"
)

// OpenReport checks that the envelope is signed with the key enrolled for a
// rebuilder, and reads its report. The error is a *SignatureError, or a
// *StatementError for what is signed but is no report. Whether the report
// answers the right job is for agreement.Judge to say.
func OpenReport(envelope []byte, key keyfile.PublicKey) (*agreement.Report, error) {
	s, err := unpack(envelope)
	if err != nil {
		return nil, err
	}
	return s.report(key)
}

func (s *sealed) report(key keyfile.PublicKey) (*agreement.Report, error) {
	if err := s.verify(key); err != nil {
		return nil, err
	}
	report, err := parseReport(s.payload)
	if err != nil {
		return nil, err
	}
	report.KeyFingerprint = key.Fingerprint()
	return report, nil
}

// OpenSubmission opens what came back from the rebuilder of that name, for
// agreement.Judge. A report that cannot be opened becomes the submission's
// error, which says whose key did sign it if that is known.
func OpenSubmission(envelope []byte, policy *agreement.Policy, name string) agreement.Submission {
	r, ok := policy.Rebuilder(name)
	if !ok {
		return agreement.Submission{Rebuilder: name, Err: refuse("%.64q is no rebuilder of the policy", name)}
	}
	s, err := unpack(envelope)
	if err != nil {
		return agreement.Submission{Rebuilder: name, Err: err}
	}
	speaker, signed := s.speaker(policy, name)
	if !signed || speaker.Role != agreement.RoleRebuilder || speaker.Name != name {
		return agreement.Submission{Rebuilder: name, Err: &SignatureError{Want: r.Key.Fingerprint(), Owner: speaker.Name}}
	}
	report, err := s.report(speaker.Key)
	return agreement.Submission{Rebuilder: name, Report: report, Err: err}
}

// speaker finds whose key verifies the envelope, in whatever role. The keys of
// the rebuilder or signer of the likely name are tried first.
func (s *sealed) speaker(policy *agreement.Policy, likely string) (agreement.Speaker, bool) {
	all := policy.Speakers()
	slices.SortStableFunc(all, func(a, b agreement.Speaker) int {
		switch {
		case a.Name == likely && b.Name != likely:
			return -1
		case b.Name == likely && a.Name != likely:
			return 1
		}
		return 0
	})
	i := slices.IndexFunc(all, func(a agreement.Speaker) bool { return s.verify(a.Key) == nil })
	if i < 0 {
		return agreement.Speaker{}, false
	}
	return all[i], true
}

// parseReport reads a payload whose signature was checked, or is about to be made.
func parseReport(payload []byte) (*agreement.Report, error) {
	s := &sealed{payload: payload}
	tree, err := s.head(ProvenancePredicate)
	if err != nil {
		return nil, err
	}
	if err := checkParameters(tree); err != nil {
		return nil, err
	}
	var st statement[provenance]
	if err := decode(payload, tree, &st); err != nil {
		return nil, refuse("cannot read report: %v", err)
	}
	if err := validate(payload); err != nil {
		return nil, err
	}
	canonicalDefinition, err := canonical(field(tree, "predicate", "buildDefinition"))
	if err != nil {
		return nil, err
	}
	report := &agreement.Report{BuildDefinition: digest.Of(canonicalDefinition), Statement: s.digest()}
	for _, read := range []func(*statement[provenance], *agreement.Report) error{readSubjects, readDefinition, readRun, readByproducts} {
		if err := read(&st, report); err != nil {
			return nil, err
		}
	}
	return report, nil
}

// validate has in-toto's own types read the statement, so that what we accept
// is a Statement for everyone.
func validate(payload []byte) error {
	var st spb.Statement
	if err := protojson.Unmarshal(payload, &st); err != nil {
		return refuse("in-toto cannot read the statement: %v", err)
	}
	if err := st.Validate(); err != nil {
		return refuse("not an in-toto statement: %v", err)
	}
	return nil
}

// checkParameters gives the two mistakes that SLSA tells verifiers to look for
// their own messages: another build type, whose parameters we do not
// understand, and parameters that we do not know.
func checkParameters(tree any) error {
	if got, _ := field(tree, "predicate", "buildDefinition", "buildType").(string); got != BuildType {
		return refuse("report has build type %.64q, expected %q", got, BuildType)
	}
	parameters, _ := field(tree, "predicate", "buildDefinition", "externalParameters").(map[string]any)
	known := []string{"name", "platforms", "sourceDateEpoch", "definition", "lock"}
	var unknown []string
	for name := range parameters {
		if !slices.Contains(known, name) {
			unknown = append(unknown, name)
		}
	}
	if len(unknown) > 0 {
		return refuse("report has the external parameter %.64q, which is unknown here and may mean anything", slices.Min(unknown))
	}
	return nil
}

func readSubjects(st *statement[provenance], report *agreement.Report) error {
	subjects, err := parseSubjects(st.Subject)
	report.Subjects = subjects
	return err
}

func parseSubjects(descriptors []descriptor) ([]agreement.Subject, error) {
	if len(descriptors) == 0 {
		return nil, refuse("statement names no image: nothing was built")
	}
	var subjects []agreement.Subject
	for _, d := range descriptors {
		subject, err := parseSubject(d)
		if err != nil {
			return nil, err
		}
		subjects = append(subjects, subject)
	}
	if !slices.IsSortedFunc(subjects, agreement.Subject.Compare) {
		return nil, refuse("images are not sorted")
	}
	for i := 1; i < len(subjects); i++ {
		if a, b := subjects[i-1], subjects[i]; a.Name == b.Name && a.Platform == b.Platform {
			return nil, refuse("statement names image %q for %q twice", a.Name, a.Platform)
		}
	}
	return subjects, nil
}

func parseSubject(d descriptor) (agreement.Subject, error) {
	sum, err := digestOf(d, "sha256")
	if err != nil {
		return agreement.Subject{}, err
	}
	platform, err := platformOf(d)
	if err != nil {
		return agreement.Subject{}, err
	}
	return agreement.Subject{Name: d.Name, Platform: platform, Digest: sum}, checkText("image name", d.Name)
}

// platformOf returns the platform annotation, which must be the only one.
func platformOf(d descriptor) (string, error) {
	platform, ok := d.Annotations[platformNote]
	switch {
	case len(d.Annotations) == 0:
		return "", nil
	case !ok || len(d.Annotations) > 1:
		return "", refuse("%.64q has annotations other than its platform", d.Name)
	}
	return platform, checkText("platform", platform)
}

func readDefinition(st *statement[provenance], report *agreement.Report) error {
	b := &st.Predicate.BuildDefinition
	p := &b.ExternalParameters
	var err error
	if report.Definition, err = digest.Parse(p.Definition); err != nil {
		return refuse("definition: %v", err)
	}
	if report.Lock, err = digest.Parse(p.Lock); err != nil {
		return refuse("lock: %v", err)
	}
	if err := checkText("name", p.Name); err != nil {
		return err
	}
	if len(p.Platforms) == 0 {
		return refuse("report names no platform")
	}
	for _, name := range p.Platforms {
		if err := checkText("platform", name); err != nil {
			return err
		}
	}
	for _, number := range []string{p.SourceDateEpoch, b.InternalParameters.Assembler, b.InternalParameters.LockFormat} {
		if n, err := strconv.ParseInt(number, 10, 64); err != nil || n < 0 || strconv.FormatInt(n, 10) != number {
			return refuse("sourceDateEpoch, assembler or lockFormat is %.64q, expected a decimal number", number)
		}
	}
	return checkDependencies(b.ResolvedDependencies, report)
}

// checkDependencies checks that the inputs are sorted, whole, and name the
// definition and lock of the parameters.
func checkDependencies(all []descriptor, report *agreement.Report) error {
	if !slices.IsSortedFunc(all, compareDescriptors) {
		return refuse("dependencies are not sorted")
	}
	found := 0
	for _, d := range all {
		algorithm := "sha256"
		if strings.HasPrefix(d.Name, "local/") {
			algorithm = treeAlgorithm
		}
		sum, err := digestOf(withoutCommit(d), algorithm)
		if err != nil {
			return err
		}
		want := sum
		switch d.Name {
		case definitionName:
			want = report.Definition
			found++
		case lockName:
			want = report.Lock
			found++
		}
		if sum != want {
			return refuse("report names two digests of its %s: %s and %s", d.Name, want, sum)
		}
	}
	if found != 2 {
		return refuse("dependencies do not name the definition and the lock once each")
	}
	return nil
}

// withoutCommit takes the name that git gives a tree from a git input's digests:
// whoever has the commit finds it, and the bytes that were built from have the
// sha256 beside it.
func withoutCommit(d descriptor) descriptor {
	if _, ok := d.Digest[commitAlgorithm]; ok && strings.HasPrefix(d.Name, lockfile.KindGit+"/") {
		d.Digest = maps.Clone(d.Digest)
		delete(d.Digest, commitAlgorithm)
	}
	return d
}

func readRun(st *statement[provenance], report *agreement.Report) error {
	run := &st.Predicate.RunDetails
	nonce, rest, _ := strings.Cut(run.Metadata.InvocationID, "/")
	who, attempt, _ := strings.Cut(rest, "/")
	n, err := strconv.Atoi(attempt)
	if agreement.CheckName(nonce) != nil || agreement.CheckName(who) != nil || err != nil || n < 1 || n > maxAttempts || strconv.Itoa(n) != attempt {
		return refuse("invocation id %.64q is not NONCE/REBUILDER/ATTEMPT", run.Metadata.InvocationID)
	}
	report.Nonce, report.Rebuilder, report.Attempt = nonce, who, n
	if err := agreement.CheckBuilderID(run.Builder.ID); err != nil {
		return refuse("%v", err)
	}
	report.BuilderID = run.Builder.ID
	for name, version := range run.Builder.Version {
		if name != versionName {
			return refuse("builder has a version of %.64q, expected only %q", name, versionName)
		}
		if err := checkText("version", version); err != nil {
			return err
		}
	}
	if run.Operator != "" {
		if err := agreement.CheckName(run.Operator); err != nil {
			return refuse("operator's %v", err)
		}
	}
	report.Operator = run.Operator
	return readTimesAndFacts(run, report)
}

func readTimesAndFacts(run *runDetails, report *agreement.Report) error {
	var err error
	if report.Started, err = parseTime("startedOn", run.Metadata.StartedOn); err != nil {
		return err
	}
	if report.Finished, err = parseTime("finishedOn", run.Metadata.FinishedOn); err != nil {
		return err
	}
	if report.Finished.Before(report.Started) {
		return refuse("report says that the build finished (%s) before it started (%s)", run.Metadata.FinishedOn, run.Metadata.StartedOn)
	}
	if err := checkFacts("environment", run.Environment); err != nil {
		return err
	}
	if err := checkFacts("surroundings", run.Surroundings); err != nil {
		return err
	}
	report.Environment, report.Surroundings = run.Environment, run.Surroundings
	return nil
}

func readByproducts(st *statement[provenance], report *agreement.Report) error {
	for _, d := range st.Predicate.RunDetails.Byproducts {
		algorithm := "sha256"
		step, isStep := strings.CutPrefix(d.Name, stepPrefix)
		if isStep {
			algorithm = treeAlgorithm
		}
		sum, err := digestOf(d, algorithm)
		if err != nil {
			return err
		}
		platform, err := platformOf(d)
		if err != nil {
			return err
		}
		switch {
		case isStep:
			if err := checkText("step", step); err != nil {
				return err
			}
			report.Steps = append(report.Steps, agreement.StepDigest{Platform: platform, Step: step, Tree: sum})
		case d.Name == filesName:
			report.FileList = sum
		case d.Name == logName:
			report.Log = sum
		default:
			return refuse("report has the unknown byproduct %.64q", d.Name)
		}
	}
	if !slices.IsSortedFunc(report.Steps, agreement.StepDigest.Compare) {
		return refuse("steps are not sorted")
	}
	return nil
}

// parseTime reads whole seconds, UTC, in the one way formatTime writes them.
func parseTime(what, s string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil || formatTime(t) != s {
		return time.Time{}, refuse("%s %.64q is not a time such as 2026-11-01T00:00:00Z", what, s)
	}
	return t.UTC(), nil
}

// checkText accepts a short line that a terminal can show.
func checkText(what, s string) error {
	if s == "" || len(s) > maxText || !strictyaml.Printable(s) {
		return refuse("%s %.64q must be printable text of 1 to %d bytes", what, s, maxText)
	}
	return nil
}

func checkFacts(what string, facts map[string]string) error {
	if len(facts) > maxFacts {
		return refuse("%s has %d facts; at most %d are read", what, len(facts), maxFacts)
	}
	for name, value := range facts {
		if err := agreement.CheckAttribute(name); err != nil {
			return refuse("%s: %v", what, err)
		}
		if len(value) > maxFact || !strictyaml.Printable(value) {
			return refuse("%s: %q must be printable text of at most %d bytes", what, name, maxFact)
		}
	}
	return nil
}
