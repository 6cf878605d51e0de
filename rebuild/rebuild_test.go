package rebuild

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"quorate.dev/builder/image"
	"quorate.dev/lockfile"
	"quorate.dev/lockfile/definition"
	"quorate.dev/lockfile/digest"
	"quorate.dev/rebuild/agreement"
	"quorate.dev/rebuild/attestation"
	"quorate.dev/rebuild/attestation/intoto"
	"quorate.dev/rebuild/host"
	"quorate.dev/rebuild/keyfile"
)

// fake is a host whose worker is a function: it builds a real image of one empty
// layer, with a label that says what, and signs a real report.
type fake struct {
	key     *keyfile.Key
	builds  string // the label; equal labels are equal images
	spoil   func(*attestation.BuildRecord)
	before  func(ctx context.Context, job host.Job) error // instead of building, when it fails
	after   func(job host.Job, result *host.Result)       // before it commits
	late    func(job host.Job, result *host.Result) error // after it is asked
	hasty   bool                                          // tells without committing
	mu      sync.Mutex
	started []host.Job
}

func (f *fake) Start(ctx context.Context, job host.Job, events func(host.Event)) (host.Result, error) {
	f.mu.Lock()
	f.started = append(f.started, job)
	f.mu.Unlock()
	events(host.Event{Kind: host.KindPhase, Phase: "image"})
	if err := os.WriteFile(filepath.Join(job.Results, "log"), fmt.Appendf(nil, "attempt %d\n", job.Attempt), 0o644); err != nil {
		return host.Result{}, err
	}
	if f.before != nil {
		if err := f.before(ctx, job); err != nil {
			return host.Result{}, err
		}
	}
	img, err := image.New(image.Spec{
		Platform: image.Platform{OS: "linux", Architecture: "amd64"}, Created: time.Unix(1793491200, 0),
		Layers: []image.Layer{{Name: "base", Digest: digest.Of(emptyLayer), Size: int64(len(emptyLayer)), DiffID: digest.Of(emptyTar)}},
		Config: image.Config{Labels: map[string]string{"built": f.builds}},
	})
	if err != nil {
		return host.Result{}, err
	}
	if err := image.WriteOCI(filepath.Join(job.Results, "image"), []image.Image{*img}, oneBlob{}); err != nil {
		return host.Result{}, err
	}
	record := attestation.BuildRecord{
		Rebuilder: job.Rebuilder, BuilderID: job.BuilderID, Operator: job.Operator, Nonce: job.Nonce, Attempt: job.Attempt, Version: "test",
		Name: "greeter", Platforms: []definition.Platform{{OS: "linux", Architecture: "amd64"}}, Epoch: time.Unix(1793491200, 0), Assembler: 1,
		Definition: digest.Of(job.Definition), LockDigest: digest.Of(job.Lock), Lock: &lockfile.Lock{Format: 1, Assembler: 1},
		Subjects:     []agreement.Subject{{Name: "greeter", Platform: "linux/amd64", Digest: img.ManifestDigest}},
		Surroundings: job.Surroundings.Map(), Started: time.Now(), Finished: time.Now(),
	}
	if f.spoil != nil {
		f.spoil(&record)
	}
	report, err := attestation.SignReport(ctx, record, f.key)
	if err != nil {
		return host.Result{}, err
	}
	link, err := intoto.SignLinks(ctx, intoto.Build{Lock: record.LockDigest, Definition: record.Definition, Nonce: record.Nonce, Subjects: record.Subjects}, f.key)
	if err != nil {
		return host.Result{}, err
	}
	result := host.Result{ReportEnvelope: report, LinkEnvelope: link, Salt: bytes.Repeat([]byte{7}, host.SaltSize)}
	if f.after != nil {
		f.after(job, &result)
	}
	if !f.hasty {
		if err := job.Reveal(ctx, host.Commitment(job.Nonce, job.Rebuilder, result.ReportEnvelope, result.Salt)); err != nil {
			return host.Result{}, err
		}
	}
	if f.late != nil {
		if err := f.late(job, &result); err != nil {
			return host.Result{}, err
		}
	}
	return result, nil
}

var (
	emptyTar   = make([]byte, 1024)
	emptyLayer = func() []byte {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		z.Write(emptyTar)
		z.Close()
		return b.Bytes()
	}()
)

type oneBlob struct{}

func (oneBlob) Open(digest.Digest) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(emptyLayer)), nil
}

// team is three rebuilders, two of which must agree, and whoever signs.
type team struct {
	options Options
	fakes   []*fake
}

func newTeam(t *testing.T) *team {
	release := newKey(t)
	x := &team{options: Options{
		Definition: []byte("definition"), Lock: []byte("lock"), Results: filepath.Join(t.TempDir(), "results"),
		Policy: &agreement.Policy{Threshold: 2}, Signer: release, Pause: time.Millisecond,
	}}
	for _, name := range []string{"ams", "osl", "rix"} {
		f := &fake{key: newKey(t), builds: "same"}
		x.fakes = append(x.fakes, f)
		x.options.Rebuilders = append(x.options.Rebuilders, Rebuilder{Name: name, Operator: "acme", BuilderID: "https://acme.example/" + name, Host: f,
			Surroundings: host.Surroundings{FirstPID: 10}})
		x.options.Policy.Rebuilders = append(x.options.Policy.Rebuilders, agreement.Rebuilder{Name: name, Operator: "acme", Key: f.key.Public()})
	}
	x.options.Policy.Signers = []agreement.SignerKey{{Name: "release", Key: release.Public()}}
	x.options.Files = x.options.Policy.Format()
	x.options.Compare = func(_ context.Context, a, b string) (*Differences, error) {
		for _, dir := range []string{a, b} {
			if _, err := image.ReadOCI(dir); err != nil {
				return nil, err
			}
		}
		return &Differences{Paths: []string{"usr/bin/x"}, Count: 1, Text: []byte("usr/bin/x differs"), All: []string{"finding"}}, nil
	}
	return x
}

func newKey(t *testing.T) *keyfile.Key {
	k, err := keyfile.Generate()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// kept lists the files and, for images, the folders of the results.
func kept(t *testing.T, dir string) []string {
	var names []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		switch {
		case d.IsDir() && d.Name() == "image":
			if _, err := image.ReadOCI(path); err != nil {
				t.Error(err)
			}
			names = append(names, rel+"/")
			return fs.SkipDir
		case d.IsDir() && (d.Name() == "in-toto" || d.Name() == "keys"):
			names = append(names, rel+"/")
			return fs.SkipDir
		case !d.IsDir():
			names = append(names, rel)
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	slices.Sort(names)
	return names
}

var (
	signedFiles   = []string{".quorate-results", "agreement.intoto.jsonl", "image/", "in-toto/", "keys/", "policy.yaml"}
	disputedFiles = []string{".quorate-results", "differences.json", "differences.txt", "keys/", "policy.yaml"}
	unknownFiles  = []string{".quorate-results", "keys/", "policy.yaml"}
)

func TestRun(t *testing.T) {
	tests := []struct {
		summary  string
		change   func(x *team)
		decision agreement.Decision
		results  string // of ams, osl, rix
		reason   string // of osl's
		files    []string
		more     []string // in rebuilders/
	}{{
		summary: "agreement", change: func(*team) {}, decision: agreement.Agree, results: "agree agree agree", files: signedFiles,
		more: []string{"ams/log", "ams/report.intoto.json", "osl/log", "osl/report.intoto.json", "rix/log", "rix/report.intoto.json"},
	}, {
		summary: "dissent blocks", change: func(x *team) { x.fakes[1].builds = "other" },
		decision: agreement.Disagree, results: "agree dissent agree", reason: "*", files: disputedFiles,
		more: []string{"ams/image/", "ams/log", "ams/report.intoto.json", "osl/image/", "osl/log", "osl/report.intoto.json", "rix/image/", "rix/log", "rix/report.intoto.json"},
	}, {
		summary:  "dissent that the policy allows is kept",
		change:   func(x *team) { x.fakes[1].builds, x.options.Policy.AllowDissent = "other", true },
		decision: agreement.Agree, results: "agree dissent agree", reason: "*", files: signedFiles,
		more: []string{"ams/log", "ams/report.intoto.json", "osl/image/", "osl/log", "osl/report.intoto.json", "rix/log", "rix/report.intoto.json"},
	}, {
		summary: "a worker says no",
		change: func(x *team) {
			x.fakes[1].before = func(context.Context, host.Job) error { return &host.WorkerError{Message: "no such package"} }
		},
		decision: agreement.Agree, results: "agree error agree", reason: "no such package", files: signedFiles,
		more: []string{"ams/log", "ams/report.intoto.json", "osl/log", "rix/log", "rix/report.intoto.json"},
	}, {
		summary: "timeout",
		change: func(x *team) {
			x.fakes[1].before = func(context.Context, host.Job) error { return &host.TimeoutError{After: time.Second} }
		},
		decision: agreement.Agree, results: "agree timeout agree", reason: "no report in time", files: signedFiles,
		more: []string{"ams/log", "ams/report.intoto.json", "osl/log", "rix/log", "rix/report.intoto.json"},
	}, {
		summary: "two fail: too few",
		change: func(x *team) {
			no := func(context.Context, host.Job) error { return &host.WorkerError{Message: "no"} }
			x.fakes[1].before, x.fakes[2].before = no, no
		},
		decision: agreement.Inconclusive, results: "agree error error", reason: "no", files: unknownFiles,
		more: []string{"ams/image/", "ams/log", "ams/report.intoto.json", "osl/log", "rix/log"},
	}, {
		summary:  "killed once: tried again",
		change:   func(x *team) { x.fakes[1].before = killed(1) },
		decision: agreement.Agree, results: "agree agree agree", files: signedFiles,
		more: []string{"ams/log", "ams/report.intoto.json", "osl/log", "osl/log.1", "osl/report.intoto.json", "rix/log", "rix/report.intoto.json"},
	}, {
		summary:  "killed twice",
		change:   func(x *team) { x.fakes[1].before = killed(2) },
		decision: agreement.Agree, results: "agree error agree", reason: "worker was lost: killed", files: signedFiles,
		more: []string{"ams/log", "ams/report.intoto.json", "osl/log", "osl/log.1", "rix/log", "rix/report.intoto.json"},
	}, {
		summary:  "replayed report of an old request",
		change:   func(x *team) { x.fakes[1].spoil = func(r *attestation.BuildRecord) { r.Nonce = "00ff" } },
		decision: agreement.Agree, results: "agree error agree", reason: `*answers request "00ff"`, files: signedFiles,
		more: []string{"ams/log", "ams/report.intoto.json", "osl/image/", "osl/log", "osl/report.intoto.json", "rix/log", "rix/report.intoto.json"},
	}, {
		summary: "report about another lock",
		change: func(x *team) {
			x.fakes[1].spoil = func(r *attestation.BuildRecord) { r.LockDigest = digest.Of([]byte("x")) }
		},
		decision: agreement.Agree, results: "agree error agree", reason: "*lock", files: signedFiles,
		more: []string{"ams/log", "ams/report.intoto.json", "osl/image/", "osl/log", "osl/report.intoto.json", "rix/log", "rix/report.intoto.json"},
	}, {
		summary:  "report signed with another's key",
		change:   func(x *team) { x.fakes[1].key = x.fakes[0].key },
		decision: agreement.Agree, results: "agree error agree", reason: `*signed with the key of "ams"`, files: signedFiles,
		more: []string{"ams/log", "ams/report.intoto.json", "osl/image/", "osl/log", "osl/report.intoto.json", "rix/log", "rix/report.intoto.json"},
	}, {
		summary: "report changed after signing",
		change: func(x *team) {
			x.fakes[1].after = func(_ host.Job, r *host.Result) {
				r.ReportEnvelope = []byte(strings.Replace(string(r.ReportEnvelope), `"sig":"M`, `"sig":"N`, 1))
			}
		},
		decision: agreement.Agree, results: "agree error agree", reason: "*", files: signedFiles,
		more: []string{"ams/log", "ams/report.intoto.json", "osl/image/", "osl/log", "osl/report.intoto.json", "rix/log", "rix/report.intoto.json"},
	}, {
		summary: "an image that is not what its report says",
		change: func(x *team) {
			x.fakes[1].after = func(job host.Job, _ *host.Result) { spoilImage(job) }
		},
		decision: agreement.Agree, results: "agree error agree", reason: `what it handed in is not what it reports: image layout "osl/image" holds no image`, files: signedFiles,
		more: []string{"*"},
	}, {
		summary: "a truncated layer",
		change: func(x *team) {
			x.fakes[1].after = func(job host.Job, _ *host.Result) { truncateLayer(t, job) }
		},
		decision: agreement.Agree, results: "agree error agree", reason: "*what it handed in is not what it reports: ", files: signedFiles,
		more: []string{"*"},
	}, {
		summary: "another's report",
		change: func(x *team) {
			ams := make(chan []byte, 1)
			x.fakes[0].after = func(_ host.Job, r *host.Result) { ams <- r.ReportEnvelope }
			x.fakes[1].after = func(_ host.Job, r *host.Result) { r.ReportEnvelope = <-ams }
		},
		decision: agreement.Agree, results: "agree error agree", reason: `*signed with the key of "ams"`, files: signedFiles,
		more: []string{"*"},
	}}
	for _, test := range tests {
		t.Run(test.summary, func(t *testing.T) {
			x := newTeam(t)
			test.change(x)
			out, err := Run(t.Context(), x.options)
			if err != nil {
				t.Fatal(err)
			}
			var results []string
			for _, o := range out.Verdict.Outcomes {
				results = append(results, string(o.Result))
				if o.Rebuilder == "osl" {
					if part, ok := strings.CutPrefix(test.reason, "*"); ok && !strings.Contains(o.Reason, part) || !ok && o.Reason != test.reason {
						t.Errorf("reason of osl is %q, want %q", o.Reason, test.reason)
					}
				}
			}
			if got := strings.Join(results, " "); out.Verdict.Decision != test.decision || got != test.results {
				t.Errorf("got %s: %s, want %s: %s", out.Verdict.Decision, got, test.decision, test.results)
			}
			want := append([]string{"verdict.json"}, test.files...)
			if test.decision != agreement.Agree {
				want = append(want, "refusal.intoto.jsonl")
				checkRefusal(t, x, out)
			}
			if test.more[0] != "*" {
				for _, m := range test.more {
					want = append(want, "rebuilders/"+m)
				}
				slices.Sort(want)
				if d := cmp.Diff(want, kept(t, x.options.Results)); d != "" {
					t.Errorf("results (-want +got):\n%s", d)
				}
			}
			if (out.Agreement != nil) != (test.decision == agreement.Agree) {
				t.Errorf("agreement is %v", out.Agreement)
			}
			if out.Agreement != nil {
				verifyBundle(t, x, out)
			}
			if len(out.Warnings) > 0 {
				t.Errorf("warnings are %q", out.Warnings)
			}
			if list, _ := os.ReadDir(filepath.Dir(x.options.Results)); len(list) != 1 {
				t.Errorf("beside the results: %v", list)
			}
		})
	}
}

func spoilImage(job host.Job) {
	os.WriteFile(filepath.Join(job.Results, "image", "index.json"), []byte(`{"manifests":[]}`), 0o644)
}

// truncateLayer cuts the largest blob of what was built.
func truncateLayer(t *testing.T, job host.Job) {
	blob := filepath.Join(job.Results, "image", "blobs", "sha256", digest.Of(emptyLayer).Hex())
	if err := os.Truncate(blob, int64(len(emptyLayer)-1)); err != nil {
		t.Error(err)
	}
}

// killed fails as a killed worker does, so many times.
func killed(times int) func(context.Context, host.Job) error {
	return func(_ context.Context, job host.Job) error {
		if job.Attempt <= times {
			return &host.LostError{How: "killed"}
		}
		return nil
	}
}

// verifyBundle verifies as a consumer does, from the results folder alone.
func verifyBundle(t *testing.T, x *team, out *Outcome) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(out.Results, "policy.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	policy, err := agreement.ParsePolicy("policy.yaml", raw, func(path string) ([]byte, error) { return os.ReadFile(filepath.Join(out.Results, path)) })
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := os.ReadFile(out.Bundle())
	if err != nil {
		t.Fatal(err)
	}
	layout, err := image.ReadOCI(out.Image())
	if err != nil {
		t.Fatal(err)
	}
	policy.AllowDissent = x.options.Policy.AllowDissent // Files were made before the test changed it
	opened, err := attestation.OpenBundle(bundle, policy)
	if err != nil {
		t.Fatal(err)
	}
	if err := opened.Verify(layout.Images[0].ManifestDigest); err != nil {
		t.Error(err)
	}
	if opened.Signed == nil || opened.Signed.Signer != "release" || opened.Signed.IndependentOperators != 1 {
		t.Errorf("signed agreement is %+v", opened.Signed)
	}
}

func TestEveryWorkerGetsTheSameFreshJob(t *testing.T) {
	x := newTeam(t)
	var nonces []string
	for range 2 {
		out, err := Run(t.Context(), x.options)
		if err != nil {
			t.Fatal(err)
		}
		nonces = append(nonces, out.Nonce)
	}
	if len(nonces[0]) != 32 || nonces[0] == nonces[1] {
		t.Errorf("nonces are %q", nonces)
	}
	for _, f := range x.fakes {
		j := f.started[1]
		j.Rebuilder, j.BuilderID, j.Results, j.Reveal, j.Have = "", "", "", nil, nil
		want := host.Job{Nonce: nonces[1], Attempt: 1, Operator: "acme", Definition: []byte("definition"), Lock: []byte("lock"), Surroundings: host.Surroundings{FirstPID: 10}}
		if d := cmp.Diff(want, j); d != "" {
			t.Errorf("job (-want +got):\n%s", d)
		}
	}
}

func TestBadLinkIsAWarning(t *testing.T) {
	x := newTeam(t)
	x.fakes[0].after = func(_ host.Job, r *host.Result) { r.LinkEnvelope = []byte("{}") }
	out, err := Run(t.Context(), x.options)
	if err != nil {
		t.Fatal(err)
	}
	if out.Agreement == nil || len(out.Warnings) != 1 || !strings.Contains(out.Warnings[0], `of "ams"`) {
		t.Errorf("agreement %v, warnings %q", out.Agreement, out.Warnings)
	}
	verifyBundle(t, x, out)
}

func TestNoImageIsWhatWasReported(t *testing.T) {
	x := newTeam(t)
	for _, f := range x.fakes {
		f.after = func(job host.Job, _ *host.Result) { spoilImage(job) }
	}
	out, err := Run(t.Context(), x.options)
	if err != nil || out.Verdict.Decision != agreement.Inconclusive || out.Agreement != nil {
		t.Errorf("got %v, %+v", err, out)
	}
}

func TestThreeClasses(t *testing.T) {
	x := newTeam(t)
	x.fakes[1].builds, x.fakes[2].builds = "second", "third"
	out, err := Run(t.Context(), x.options)
	if err != nil {
		t.Fatal(err)
	}
	if len(out.Differences) != 2 || out.Differences[0].Paths[0] != "usr/bin/x" {
		t.Errorf("differences are %+v", out.Differences)
	}
	text, err := os.ReadFile(filepath.Join(out.Results, "differences.txt"))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), "usr/bin/x differs"); n != 2 {
		t.Errorf("differences.txt is %q", text)
	}
}

func TestCompareFails(t *testing.T) {
	x := newTeam(t)
	x.fakes[1].builds = "other"
	x.options.Compare = func(context.Context, string, string) (*Differences, error) { return nil, errors.New("no") }
	out, err := Run(t.Context(), x.options)
	if err != nil {
		t.Fatal(err)
	}
	if out.Verdict.Decision != agreement.Disagree || len(out.Differences) != 1 || out.Differences[0].Err == "" {
		t.Errorf("%s, differences %+v", out.Verdict.Decision, out.Differences)
	}
}

func TestStopped(t *testing.T) {
	x := newTeam(t)
	if _, err := Run(t.Context(), x.options); err != nil {
		t.Fatal(err)
	}
	before := kept(t, x.options.Results)
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	x.fakes[1].before = func(ctx context.Context, _ host.Job) error {
		cancel(why)
		<-ctx.Done()
		return ctx.Err()
	}
	if _, err := Run(ctx, x.options); !errors.Is(err, why) {
		t.Errorf("got %v, want the cause", err)
	}
	if d := cmp.Diff(before, kept(t, x.options.Results)); d != "" {
		t.Errorf("older results changed (-want +got):\n%s", d)
	}
	if list, _ := os.ReadDir(filepath.Dir(x.options.Results)); len(list) != 1 {
		t.Errorf("beside the results: %v", list)
	}
}

func TestOptionErrors(t *testing.T) {
	fixedKey := newKey(t)
	tests := []struct {
		summary string
		change  func(x *team)
		want    string
	}{
		{"stranger", func(x *team) { x.options.Rebuilders[0].Name = "eve" }, `policy does not name the rebuilder "eve"`},
		{"other operator", func(x *team) { x.options.Rebuilders[0].Operator = "eve" }, `rebuilder "ams" is of operator "eve", but the policy says "acme"`},
		{"one key for two names", func(x *team) { x.options.Policy.Rebuilders[1].Key = x.options.Policy.Rebuilders[0].Key },
			`policy cannot be used: names "ams" and "osl" have the same key; identity is key material`},
		{"twice", func(x *team) { x.options.Rebuilders[1] = x.options.Rebuilders[0] }, `rebuilder "ams" is asked twice`},
		{"judge and party", func(x *team) { x.options.Signer, x.options.Policy.Signers = x.fakes[0].key, nil },
			`the key to sign with is the one of rebuilder "ams": who judges may not be who is judged`},
		{"no signer of the policy", func(x *team) { x.options.Signer = fixedKey }, fmt.Sprintf("the key to sign with (%.16s…) is none of the policy's signers", fixedKey.Public().Fingerprint())},
		{"nobody", func(x *team) { x.options.Rebuilders = nil }, "there are no rebuilders to ask"},
		{"no key", func(x *team) { x.options.Signer = nil }, "there is no key to sign an agreement with"},
		{"no policy", func(x *team) { x.options.Policy = nil }, "there is no policy"},
	}
	for _, test := range tests {
		t.Run(test.summary, func(t *testing.T) {
			x := newTeam(t)
			test.change(x)
			if _, err := Run(t.Context(), x.options); err == nil || err.Error() != test.want {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
			for _, f := range x.fakes {
				if len(f.started) > 0 {
					t.Error("a worker was started")
				}
			}
		})
	}
}

func TestResultsFolder(t *testing.T) {
	x := newTeam(t)
	// What a killed run left is no obstacle and does not come back.
	part := filepath.Join(filepath.Dir(x.options.Results), ".results.part")
	if err := os.MkdirAll(filepath.Join(part, "rebuilders", "ams", "image", "junk"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(x.options.Results, 0o755); err != nil { // an empty folder is free
		t.Fatal(err)
	}
	if _, err := Run(t.Context(), x.options); err != nil {
		t.Fatal(err)
	}
	if slices.ContainsFunc(kept(t, x.options.Results), func(n string) bool { return strings.Contains(n, "junk") }) {
		t.Error("what a killed run left is among the results")
	}

	// A run that was killed between its two renames.
	if err := os.Rename(x.options.Results, part+".old"); err != nil {
		t.Fatal(err)
	}
	half, err := openResults(x.options.Results)
	if err != nil {
		t.Fatal(err)
	}
	half.discard()
	if len(kept(t, x.options.Results)) == 0 {
		t.Error("results that were half replaced did not come back")
	}

	refused := func(path, reason string) {
		t.Helper()
		_, err := openResults(path)
		var e *ResultsError
		if !errors.As(err, &e) || e.Reason != reason {
			t.Errorf("openResults(%q): got %v, want %q", path, err, reason)
		}
	}
	home := t.TempDir()
	if err := os.WriteFile(filepath.Join(home, "thesis.tex"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	refused(home, "it holds something else; name another folder, or an empty one")
	refused(filepath.Join(home, "thesis.tex"), "it is there and is no folder")

	busy := filepath.Join(t.TempDir(), "r")
	r, err := openResults(busy)
	if err != nil {
		t.Fatal(err)
	}
	refused(busy, "another rebuild is writing there")
	if err := r.write("../escape", nil); err == nil {
		t.Error("a file outside the folder was written")
	}
	r.discard()
	if r, err = openResults(busy); err != nil {
		t.Fatal(err)
	}
	r.discard()
}

func TestParallel(t *testing.T) {
	x := newTeam(t)
	var mu sync.Mutex
	now, most := 0, 0
	for _, f := range x.fakes {
		f.before = func(context.Context, host.Job) error {
			mu.Lock()
			now++
			most = max(most, now)
			mu.Unlock()
			time.Sleep(20 * time.Millisecond)
			mu.Lock()
			now--
			mu.Unlock()
			return nil
		}
	}
	if _, err := Run(t.Context(), x.options); err != nil {
		t.Fatal(err)
	}
	if most != DefaultParallel {
		t.Errorf("%d workers at once, want %d", most, DefaultParallel)
	}
}

// checkRefusal opens the refusal as a reader would: it tells every outcome, and is no agreement.
func checkRefusal(t *testing.T, x *team, out *Outcome) {
	t.Helper()
	data, err := os.ReadFile(out.Refusal())
	if err != nil {
		t.Fatal(err)
	}
	opened, err := attestation.OpenBundle(data, x.options.Policy)
	if err != nil {
		t.Fatal(err)
	}
	var wrong *attestation.VerifyError
	if err := opened.Verify(); !errors.As(err, &wrong) || wrong.Decision != out.Verdict.Decision {
		t.Errorf("the refusal verifies as %v", err)
	}
	if len(opened.Refusals) != 1 {
		t.Fatalf("the bundle holds %d refusals", len(opened.Refusals))
	}
	r := opened.Refusals[0]
	if r.Decision != out.Verdict.Decision || r.Job.Nonce != out.Nonce || len(r.Results) != len(out.Verdict.Outcomes) {
		t.Errorf("the refusal says %+v", r)
	}
	for i, o := range out.Verdict.Outcomes {
		if r.Results[i].Rebuilder != o.Rebuilder || r.Results[i].Outcome != o.Result {
			t.Errorf("the refusal says %+v, expected %s of %s", r.Results[i], o.Result, o.Rebuilder)
		}
	}
}
