// Package rebuild asks several rebuilders for the same job, opens their signed
// reports, judges them, and signs when they agree.
//
// One run is a straight line ([Run]):
//
//  1. a new nonce, so that no old report answers this request;
//  2. a single-use worker for each rebuilder (package host), all at once, but for
//     those that share a machine: some at a time. What may pass (a lost worker, a full
//     disk, a host that cannot be reached) is tried again, as long as nobody has
//     told an answer;
//  3. each commits to its answer; when all have, or have failed, they are asked for it;
//  4. each report is held against the commitment and the time that it was asked for, and
//     opened with the key that was enrolled for its rebuilder (package attestation),
//     never with one that came with it; what came with it must be what it reports;
//  5. agreement.Judge decides; every expected rebuilder ends with an outcome;
//  6. on agreement, and only then, the agreement is signed; otherwise a refusal
//     is, which says who answered what and which nobody takes for an agreement,
//     and what differs is kept and compared.
//
// # The results folder
//
// Everything is written beside it, in a folder whose name ends in ".part", and
// appears with one rename at the end. An older results folder is replaced; any
// other folder is left alone (*ResultsError).
//
//	RESULTS/
//	    .quorate-results               marks the folder as one of ours
//	    verdict.json                   what was found (Summary)
//	    policy.yaml, keys/NAME.pub     what it was judged by, when the caller hands it in (Options.Files)
//	    agreement.intoto.jsonl         on agreement: every report and the signed agreement
//	    image/                         on agreement: the image, an OCI layout
//	    in-toto/                       on agreement: a layout and the rebuilders' links
//	    refusal.intoto.jsonl           otherwise: every report and the signed refusal
//	    differences.txt, .json         on disagreement: what differs between the first of each class
//	    report.html, .json, .md        on disagreement: why, with evidence and what mends it (Options.Explain)
//	    rebuilders/NAME/
//	        report.intoto.json         its signed report, as it came, whatever it is worth
//	        log                        what the worker said on standard error; log.1 is the first attempt's
//	        image/                     unless there is agreement: what it built, an OCI layout
//	        steps/PLATFORM/STEP.list.gz  unless all agree: the files that a step left (package builder/tree's
//	                                   listing), held against the digest that its report names
//
// A run that is stopped leaves the results folder as it was before.
package rebuild

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"quorate.dev/builder/image"
	"quorate.dev/lockfile/digest"
	"quorate.dev/rebuild/agreement"
	"quorate.dev/rebuild/attestation"
	"quorate.dev/rebuild/attestation/intoto"
	"quorate.dev/rebuild/host"
	"quorate.dev/rebuild/keyfile"
)

// Rebuilder is one who is asked. The policy holds its key.
type Rebuilder struct {
	Name         string // as the policy has it
	Operator     string
	BuilderID    string // SLSA builder.id that its report is to have
	Host         host.Host
	Surroundings host.Surroundings
	KeyFile      string // of its private key, on the host
	Machine      string // those of one machine share its places; "" is this one
}

// Options say what to ask of whom.
type Options struct {
	Rebuilders []Rebuilder
	Policy     *agreement.Policy
	Signer     keyfile.Signer // of the agreement

	// Nonce is of the request that is answered; "" for a new one. Who adds a voice to
	// what was asked before names that request's.
	Nonce      string
	Definition []byte
	Lock       []byte
	Locals     map[string]host.Local
	Platforms  []string // "linux/amd64"; empty for all
	InputStore string   // of verified blobs, on the hosts
	Mirrors    []string
	Offline    bool

	Results  string        // folder; see the package comment
	Timeout  time.Duration // of one worker; 0 for none
	Parallel int           // workers that build at once on one machine; 0 for DefaultParallel
	Pause    time.Duration // before a second attempt, five times as long before a third; 0 for DefaultPause

	// Files are further files of the results folder, by slash-separated path.
	Files map[string][]byte
	// Explain says why images differ; nil, or an error of it, leaves that to Compare.
	Explain func(ctx context.Context, built []Built) (*Explanation, error)
	// Compare compares two OCI layouts; nil compares nothing.
	Compare func(ctx context.Context, a, b string) (*Differences, error)
	// Events is called from several goroutines; nil for silence.
	Events func(Event)
	// Now is the clock; nil for the real one.
	Now func() time.Time
}

// Event is something that a rebuilder's worker says, or that becomes of it.
type Event struct {
	Rebuilder string
	Attempt   int
	State     string     // "begin", "committed", "end", or "" when the worker speaks
	Err       error      // with "end": why it failed
	Retry     bool       // with "end": it is tried again
	Worker    host.Event // what it says
	Elapsed   time.Duration
}

// Differences are what differs between what two rebuilders built.
type Differences struct {
	A     string   `json:"a"` // rebuilder
	B     string   `json:"b"`
	Paths []string `json:"paths"` // inside the image, sorted
	Count int      `json:"count"` // of single differences
	Err   string   `json:"error,omitempty"`
	Text  []byte   `json:"-"`                  // all of them, for people
	All   any      `json:"findings,omitempty"` // all of them, for programs
}

// Attempt is one worker that was started.
type Attempt struct {
	Number  int           `json:"number"`  // from 1
	Elapsed time.Duration `json:"elapsed"` // until it committed to its answer, or failed; nanoseconds
	Error   string        `json:"error,omitempty"`
}

// Outcome is what became of a run.
type Outcome struct {
	Verdict     agreement.Verdict
	Agreement   *agreement.Agreement // nil unless the verdict is Agree
	Nonce       string
	Attempts    map[string][]Attempt // by rebuilder
	Differences []Differences
	Explanation []byte     // on disagreement: the first screen of what Options.Explain says; nil for none
	Notes       []Note     // on disagreement: its causes, of Options.Explain
	First       *FirstStep // on disagreement: of Options.Explain; nil when it is not known
	Warnings    []string   // what could not be done and changes no verdict
	Results     string     // the folder
}

// Bundle is the path of the signed bundle, "" without agreement.
func (o *Outcome) Bundle() string {
	if o.Agreement == nil {
		return ""
	}
	return filepath.Join(o.Results, bundleName)
}

// Refusal is the path of the signed record that there is no agreement, "" with one.
func (o *Outcome) Refusal() string {
	if o.Agreement != nil {
		return ""
	}
	return filepath.Join(o.Results, refusalName)
}

// Image is the path of the agreed image, an OCI layout, "" without agreement.
func (o *Outcome) Image() string {
	if o.Agreement == nil {
		return ""
	}
	return filepath.Join(o.Results, "image")
}

const (
	bundleName  = "agreement" + attestation.BundleSuffix
	refusalName = "refusal" + attestation.BundleSuffix
	reportName  = "report.intoto.json"
	// DefaultParallel workers at once on one machine: a build is parallel itself, and a second one fills
	// the times when the first one waits for its disk or a single-threaded script.
	DefaultParallel = 2
	// DefaultPause is for what may pass to pass: a Docker Engine starts anew within some seconds.
	DefaultPause = time.Second
	// builds of one rebuilder at most: what kills a worker twice will kill it again.
	builds = 2
	// calls to a host that cannot be reached, in all; they cost no build.
	calls = 3
	// tolerance of clocks: what certificates and people forgive.
	tolerance = 5 * time.Minute
)

// Run asks every rebuilder and judges. Errors mean that nothing could be
// judged: options that cannot be (a rebuilder that the policy does not name), a
// *ResultsError, a full disk, or the cause of ctx. Failures of rebuilders are outcomes.
func Run(ctx context.Context, o Options) (*Outcome, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	nonce, err := o.nonce()
	if err != nil {
		return nil, err
	}
	results, err := openResults(o.Results)
	if err != nil {
		return nil, err
	}
	defer results.discard()
	r := &run{options: o, nonce: nonce, results: results, answers: make([]answer, len(o.Rebuilders)), ballot: newBallot(o.Rebuilders)}
	if err := r.askAll(ctx); err != nil {
		return nil, err
	}
	outcome, err := r.judge(ctx)
	if err != nil {
		return nil, err
	}
	if err := results.publish(); err != nil {
		return nil, err
	}
	return outcome, nil
}

func (o *Options) check() error {
	if err := o.Policy.Check(); err != nil {
		return err
	}
	if o.Signer == nil {
		return errors.New("there is no key to sign an agreement with")
	}
	seen := map[string]bool{}
	for _, r := range o.Rebuilders {
		enrolled, ok := o.Policy.Rebuilder(r.Name)
		switch {
		case !ok:
			return fmt.Errorf("policy does not name the rebuilder %q", r.Name)
		case enrolled.Operator != r.Operator:
			return fmt.Errorf("rebuilder %q is of operator %q, but the policy says %q", r.Name, r.Operator, enrolled.Operator)
		case enrolled.Key == o.Signer.Public():
			return fmt.Errorf("the key to sign with is the one of rebuilder %q: who judges may not be who is judged", r.Name)
		case seen[r.Name]:
			return fmt.Errorf("rebuilder %q is asked twice", r.Name)
		}
		seen[r.Name] = true
	}
	if len(seen) == 0 {
		return errors.New("there are no rebuilders to ask")
	}
	// A policy with signers accepts no agreement of anybody else; better said before the build than after.
	isSigner := func(s agreement.SignerKey) bool { return s.Key == o.Signer.Public() }
	if len(o.Policy.Signers) > 0 && !slices.ContainsFunc(o.Policy.Signers, isSigner) {
		return fmt.Errorf("the key to sign with (%.16s…) is none of the policy's signers", o.Signer.Public().Fingerprint())
	}
	for _, s := range o.Policy.Speakers() {
		if s.Key != o.Signer.Public() {
			continue
		}
		if err := o.Policy.Hears(s, agreement.Said{Time: time.Now()}, agreement.RoleRelease); err != nil {
			return fmt.Errorf("an agreement signed now would not count: %w", err)
		}
	}
	return nil
}

// nonce is the one given, or 128 random bits in hexadecimal.
func (o *Options) nonce() (string, error) {
	if o.Nonce != "" {
		return o.Nonce, agreement.CheckName(o.Nonce)
	}
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", fmt.Errorf("cannot make a nonce: %w", err)
	}
	return hex.EncodeToString(b[:]), nil
}

// run is one run while it goes on.
type run struct {
	options Options
	nonce   string
	results *results
	answers []answer // in the order of options.Rebuilders
	ballot  *ballot
	places  *places
}

// answer is what one rebuilder gave.
type answer struct {
	submission agreement.Submission
	envelope   []byte // of its report; nil for none
	link       []byte
	attempts   []Attempt

	// Of the last attempt.
	issued     time.Time
	commitment digest.Digest // zero for none
	committed  time.Time
}

func (r *run) event(e Event) {
	if r.options.Events != nil {
		r.options.Events(e)
	}
}

func (r *run) now() time.Time {
	if r.options.Now != nil {
		return r.options.Now()
	}
	return time.Now()
}

// askAll asks every rebuilder. The error is ctx's cause, or one of our own disk.
func (r *run) askAll(ctx context.Context) error {
	each := r.options.Parallel
	if each <= 0 {
		each = DefaultParallel
	}
	r.places = newPlaces(each)
	failed := make([]error, len(r.answers))
	var all sync.WaitGroup
	for i := range r.answers {
		all.Go(func() {
			who := r.options.Rebuilders[i]
			defer r.ballot.settle(who.Name)
			failed[i] = r.ask(ctx, who, &r.answers[i])
		})
	}
	all.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errors.Join(failed...)
}

// ask starts workers for one rebuilder until one has answered, or none will.
func (r *run) ask(ctx context.Context, who Rebuilder, a *answer) error {
	folder, err := r.results.rebuilder(who.Name)
	if err != nil {
		return err
	}
	a.submission = agreement.Submission{Rebuilder: who.Name}
	for number := 1; ; number++ {
		result, err := r.attempt(ctx, who, number, folder, a)
		if ctx.Err() != nil {
			return nil // askAll says why
		}
		retry := mayPass(err, number)
		if retry && !r.ballot.unsettle(who.Name) {
			retry, err = false, fmt.Errorf("%w; it is not asked again, since others have told their answers", err)
		}
		last := &a.attempts[len(a.attempts)-1]
		last.Error = text(err)
		r.event(Event{Rebuilder: who.Name, Attempt: number, State: "end", Err: err, Retry: retry, Elapsed: last.Elapsed})
		if !retry {
			return r.take(who, folder, a, result, err)
		}
		if err := clearAttempt(folder, number); err != nil {
			return err
		}
		select {
		case <-time.After(r.pause(number)):
		case <-ctx.Done():
		}
	}
}

// attempt is one worker, from waiting for a place to its end.
func (r *run) attempt(ctx context.Context, who Rebuilder, number int, folder string, a *answer) (host.Result, error) {
	leave, err := r.places.take(ctx, who.Machine)
	if err != nil {
		return host.Result{}, err
	}
	defer leave()
	r.event(Event{Rebuilder: who.Name, Attempt: number, State: "begin"})
	a.issued, a.commitment, a.committed = r.now(), digest.Digest{}, time.Time{}
	begun := time.Now()
	var built time.Duration
	job := r.job(who, number, folder)
	job.Reveal = func(ctx context.Context, d digest.Digest) error {
		a.commitment, a.committed, built = d, r.now(), time.Since(begun)
		leave() // one that waits builds nothing
		r.event(Event{Rebuilder: who.Name, Attempt: number, State: "committed", Elapsed: built})
		r.ballot.settle(who.Name)
		return r.ballot.wait(ctx)
	}
	result, err := who.Host.Start(ctx, job, func(e host.Event) {
		r.event(Event{Rebuilder: who.Name, Attempt: number, Worker: e})
	})
	if built == 0 {
		built = time.Since(begun)
	}
	a.attempts = append(a.attempts, Attempt{Number: number, Elapsed: built})
	return result, err
}

// mayPass says whether another attempt is worth it after so many. It is always safe: it
// is a new worker with a new folder. A timeout is none: what was slow is slow again.
func mayPass(err error, attempts int) bool {
	var lost *host.LostError
	var passing interface{ MayPass() bool }
	switch {
	case err == nil || errors.Is(err, context.DeadlineExceeded):
		return false
	case errors.As(err, &lost) || strings.Contains(err.Error(), "no space left on device"): // ENOSPC, in a worker's words
		return attempts < builds
	case errors.As(err, &passing):
		return attempts < calls && passing.MayPass()
	}
	return false
}

// pause is how long to wait after so many attempts.
func (r *run) pause(attempts int) time.Duration {
	d := r.options.Pause
	if d == 0 {
		d = DefaultPause
	}
	if attempts > 1 {
		d *= 5
	}
	return d
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func (r *run) job(who Rebuilder, number int, folder string) host.Job {
	o := &r.options
	return host.Job{
		Nonce: r.nonce, Attempt: number, Rebuilder: who.Name, Operator: who.Operator, BuilderID: who.BuilderID,
		Definition: o.Definition, Lock: o.Lock, Locals: o.Locals, Platforms: o.Platforms, InputStore: o.InputStore,
		KeyFile: who.KeyFile, Mirrors: o.Mirrors, Offline: o.Offline, Timeout: o.Timeout,
		Surroundings: who.Surroundings, Results: folder, Have: r.have,
	}
}

// have finds a blob in what rebuilders have built so far. It may be just arriving
// there: whoever uses it checks its bytes.
func (r *run) have(d digest.Digest) (string, bool) {
	for _, who := range r.options.Rebuilders {
		path := r.results.path("rebuilders", who.Name, "image", "blobs", "sha256", d.Hex())
		if info, err := os.Lstat(path); err == nil && info.Mode().IsRegular() {
			return path, true
		}
	}
	return "", false
}

// take turns what a worker gave into a submission, and keeps its report as it came.
func (r *run) take(who Rebuilder, folder string, a *answer, result host.Result, failure error) error {
	switch {
	case errors.Is(failure, context.DeadlineExceeded):
		a.submission.Timeout = true
		return nil
	case failure != nil:
		a.submission.Err = failure
		return nil
	}
	a.envelope, a.link = result.ReportEnvelope, result.LinkEnvelope
	a.submission = attestation.OpenSubmission(a.envelope, r.options.Policy, who.Name)
	if err := a.check(r.nonce, result.Salt, r.now()); err != nil && a.submission.Err == nil {
		a.submission = agreement.Submission{Rebuilder: who.Name, Err: err}
	}
	if report := a.submission.Report; report != nil {
		if err := holds(filepath.Join(folder, "image"), report.Subjects); err != nil {
			why := strings.ReplaceAll(err.Error(), folder, who.Name) // the folder's name is not its last one
			a.submission = agreement.Submission{Rebuilder: who.Name, Err: fmt.Errorf("what it handed in is not what it reports: %s", why)}
		}
	}
	a.submission.Committed = a.committed
	return writeFile(filepath.Join(folder, reportName), a.envelope)
}

// check holds a report against what was committed to, and against the time in
// which it was asked for. What is in it is for agreement.Judge.
func (a *answer) check(nonce string, salt []byte, received time.Time) error {
	who, report := a.submission.Rebuilder, a.submission.Report
	switch {
	case a.commitment.IsZero():
		return errors.New("it told its answer without having committed to it before")
	case len(salt) != host.SaltSize || host.Commitment(nonce, who, a.envelope, salt) != a.commitment:
		return errors.New("its report is not the one that it committed to before others told theirs")
	case report == nil:
		return nil
	case report.Started.Before(a.issued.Add(-tolerance)):
		return clockError("started", report.Started, "asked for", a.issued)
	case report.Finished.After(received.Add(tolerance)):
		return clockError("finished", report.Finished, "received", received)
	}
	return nil
}

func clockError(what string, there time.Time, did string, here time.Time) error {
	off := there.Sub(here).Round(time.Minute)
	word := "behind"
	if off > 0 {
		word = "ahead"
	}
	return fmt.Errorf("its report says that the build %s on %s, but it was %s on %s: its clock is %s %s, or the report is an old one; set that machine's clock",
		what, there.UTC().Format(time.RFC3339), did, here.UTC().Format(time.RFC3339), off.Abs(), word)
}

// judge decides and fills the results folder accordingly.
func (r *run) judge(ctx context.Context) (*Outcome, error) {
	var submissions []agreement.Submission
	out := &Outcome{Nonce: r.nonce, Attempts: map[string][]Attempt{}, Results: r.options.Results}
	for i, a := range r.answers {
		submissions = append(submissions, a.submission)
		out.Attempts[r.options.Rebuilders[i].Name] = a.attempts
	}
	job := agreement.Job{Lock: digest.Of(r.options.Lock), Definition: digest.Of(r.options.Definition), Nonce: r.nonce}
	policy, err := r.policy()
	if err != nil {
		return nil, err
	}
	out.Verdict, out.Agreement = agreement.Judge(job, policy, submissions)
	out.Warnings = append(out.Warnings, out.Verdict.Warnings...)
	if err := r.keepLists(out); err != nil {
		return nil, err
	}
	switch out.Verdict.Decision {
	case agreement.Agree:
		err = r.agree(ctx, out)
	case agreement.Disagree:
		err = r.compare(ctx, out)
	}
	if err == nil && out.Agreement == nil {
		err = r.refuse(ctx, job, policy, submissions)
	}
	if err != nil {
		return nil, err
	}
	for name, b := range r.options.Files {
		if err := r.results.write(name, b); err != nil {
			return nil, err
		}
	}
	return out, r.results.writeJSON("verdict.json", out.Summary())
}

// policy is the policy as things stand now: a report that is too old, or a key
// whose time is over, counts no more.
func (r *run) policy() (*agreement.Policy, error) {
	image, _ := r.options.Policy.Image()
	return r.options.Policy.For(image, r.now())
}

// agree signs, and keeps one image.
func (r *run) agree(ctx context.Context, out *Outcome) error {
	if err := r.keepImage(out); err != nil {
		return err
	}
	signed, err := attestation.SignAgreement(ctx, out.Agreement, r.options.Signer, r.now())
	if err != nil {
		return err
	}
	bundle, err := attestation.WriteBundle(append(r.reports(), signed)...)
	if err != nil {
		return err
	}
	// What is handed out must stand before a reader who has the same policy.
	policy, err := r.policy()
	if err != nil {
		return err
	}
	opened, err := attestation.OpenBundle(bundle, policy)
	if err == nil {
		err = opened.Verify(manifests(out.Agreement)...)
	}
	if err != nil {
		return fmt.Errorf("the signed agreement does not verify: %w", err)
	}
	if err := r.results.write(bundleName, bundle); err != nil {
		return err
	}
	return r.intoto(ctx, out)
}

// refuse signs that there is no agreement, with every outcome.
func (r *run) refuse(ctx context.Context, job agreement.Job, policy *agreement.Policy, submissions []agreement.Submission) error {
	refusal := agreement.Refuse(job, policy, submissions)
	signed, err := attestation.SignRefusal(ctx, refusal, r.options.Signer, r.now())
	if err != nil {
		return err
	}
	bundle, err := attestation.WriteBundle(append(r.reports(), signed)...)
	if err != nil {
		return err
	}
	opened, err := attestation.OpenBundle(bundle, policy)
	if err != nil {
		return fmt.Errorf("the signed refusal cannot be opened: %w", err)
	}
	if opened.Verify() == nil {
		return errors.New("the signed refusal would be taken for an agreement")
	}
	return r.results.write(refusalName, bundle)
}

// reports are the envelopes that could be opened, in the rebuilders' order.
func (r *run) reports() [][]byte {
	var all [][]byte
	for _, a := range r.answers {
		if a.submission.Report != nil {
			all = append(all, a.envelope)
		}
	}
	return all
}

func manifests(a *agreement.Agreement) []digest.Digest {
	var all []digest.Digest
	for _, s := range a.Subjects() {
		all = append(all, s.Digest)
	}
	return all
}

// keepImage moves the first agreeing rebuilder's image to image/, and removes the
// others', which are equal (take has checked each). An image that a dissenter built stays.
func (r *run) keepImage(out *Outcome) error {
	kept := false
	for _, o := range out.Verdict.Outcomes {
		if o.Result != agreement.Agrees {
			continue
		}
		dir := r.results.path("rebuilders", o.Rebuilder, "image")
		var err error
		if kept {
			err = os.RemoveAll(dir)
		} else {
			err = os.Rename(dir, r.results.path("image"))
		}
		if err != nil {
			return fmt.Errorf("cannot write results: %w", err)
		}
		kept = true
	}
	return nil
}

// holds says whether an OCI layout holds exactly the images that a report names, every blob read and checked.
func holds(dir string, subjects []agreement.Subject) error {
	layout, err := image.ReadOCI(dir)
	if err != nil {
		return err
	}
	want := map[digest.Digest]bool{}
	for _, s := range subjects {
		if s.Platform != "" { // an index is written anew by whoever wants one
			want[s.Digest] = true
		}
	}
	for _, img := range layout.Images {
		if !want[img.ManifestDigest] {
			return fmt.Errorf("it holds the image %s, which its report does not name", img.ManifestDigest)
		}
		delete(want, img.ManifestDigest)
	}
	for d := range want {
		return fmt.Errorf("it lacks the image %s", d)
	}
	return nil
}

// layoutLife is how long in-toto accepts the layout. in-toto wants an end; the
// bundle, which says more, has none.
const layoutLife = 365 * 24 * time.Hour

// intoto writes the layout and the links for in-toto's own verifiers. They say
// nothing that the bundle does not, so a rebuilder whose link is bad does not undo the agreement.
func (r *run) intoto(ctx context.Context, out *Outcome) error {
	links := map[string][]byte{}
	for i, a := range r.answers {
		links[r.options.Rebuilders[i].Name] = a.link
	}
	dir := r.results.path("in-toto")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return fmt.Errorf("cannot write results: %w", err)
	}
	err := intoto.Write(ctx, dir, out.Agreement, r.options.Policy, links, r.options.Signer, r.now().Add(layoutLife))
	if err != nil {
		out.Warnings = append(out.Warnings, err.Error())
		return os.RemoveAll(dir)
	}
	return nil
}

// compare compares what the first of each class built with what the first of
// the largest one did.
func (r *run) compare(ctx context.Context, out *Outcome) error {
	classes := out.Verdict.Classes
	if len(classes) < 2 {
		return nil
	}
	if done, err := r.explain(ctx, out); err != nil || done {
		if err == nil {
			err = r.keepDifferences(out)
		}
		return err
	}
	if r.options.Compare == nil {
		return nil
	}
	a := classes[0].Rebuilders[0]
	for _, c := range classes[1:] {
		b := c.Rebuilders[0]
		d, err := r.options.Compare(ctx, r.results.path("rebuilders", a, "image"), r.results.path("rebuilders", b, "image"))
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			// The verdict stands without it; a rebuilder may have handed in nothing readable.
			d = &Differences{Err: err.Error(), Text: []byte(err.Error() + "\n")}
		}
		d.A, d.B = a, b
		out.Differences = append(out.Differences, *d)
	}
	return r.keepDifferences(out)
}
