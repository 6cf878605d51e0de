package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/rogpeppe/go-internal/txtar"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"

	"quorate.dev/builder/image"
	"quorate.dev/lockfile"
	"quorate.dev/lockfile/definition"
	"quorate.dev/lockfile/digest"
	"quorate.dev/lockfile/source/deb/debtest"
	"quorate.dev/lockfile/source/gomod/gomodtest"
	"quorate.dev/rebuild/agreement"
	"quorate.dev/rebuild/attestation"
	"quorate.dev/rebuild/keyfile"
)

// The commands that make what a story is about, from real parts:
//
//	archive FOLDER [fault=NAME] [date=RFC3339]
//	    build a signed Debian archive of the packages in FOLDER (package
//	    debtest says how they are written) and serve it: QUORATE_DEBIAN_MIRROR
//	    names it, archive-key.asc is its key. Again: another state of the same.
//	serve FOLDER NAME
//	    serve FOLDER over http and set the variable NAME to its URL
//	stall NAME
//	    the same with a server that never answers; .stalled appears when it is asked
//	goproxy FOLDER
//	    serve the Go modules in FOLDER (package gomodtest says how they are
//	    written), with a checksum database: GOPROXY and GOSUMDB name them
//	bundle FOLDER REBUILDER… [OPTION…]
//	    make what a rebuild would leave: FOLDER/bundle.intoto.jsonl, policy.yaml,
//	    image/ (an OCI layout), other/ (another image), the public keys, and the
//	    private one that signs, release.key; without an agreement also
//	    refusal.intoto.jsonl and rebuilders/NAME/image. Each rebuilder reports image/, unless an option says otherwise:
//	      NAME=other        it built other/
//	      NAME=silent       it did not report
//	      NAME=spoiled      its report was changed after signing
//	      NAME=empty        it signed a report without subjects
//	      NAME=key-of-OTHER it signed with OTHER's key
//	      NAME=lock         it built from another lock
//	      agreement=none    nobody signed an agreement
//	      agreement=forged  a stranger did
//	      signers=none      the policy wants no signed agreement
//	      threshold=N       of the policy; the number of rebuilders by default
//	      operators=N       distinct operators that the policy wants
//	      project=FOLDER    say that it was built from the project there
func storyMakers(t *testing.T) map[string]func(ts *testscript.TestScript, neg bool, args []string) {
	lab := &lab{dir: t.TempDir()}
	return map[string]func(ts *testscript.TestScript, neg bool, args []string){
		"archive": lab.archive,
		"serve":   serveFolder,
		"stall":   stall,
		"goproxy": goproxy,
		"bundle":  makeBundle,
	}
}

// lab makes what all stories share, once.
type lab struct {
	dir  string
	once sync.Once
	path string
	err  error
}

// aptGet is the path of a static program that stands in for apt-get.
func (l *lab) aptGet() (string, error) {
	l.once.Do(func() {
		l.path = filepath.Join(l.dir, "apt-get")
		cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", l.path, "./testdata/aptget")
		cmd.Dir = source
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
		if out, err := cmd.CombinedOutput(); err != nil {
			l.err = fmt.Errorf("cannot build testdata/aptget: %w\n%s", err, out)
		}
	})
	return l.path, l.err
}

func (l *lab) archive(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: archive FOLDER [fault=NAME] [date=RFC3339]")
	}
	program, err := l.aptGet()
	ts.Check(err)
	o := debtest.Options{AptGet: program}
	for _, arg := range args[1:] {
		key, value, _ := strings.Cut(arg, "=")
		switch key {
		case "fault":
			if !slices.Contains(debtest.Faults(), debtest.Fault(value)) {
				ts.Fatalf("there is no fault %q, only %q", value, debtest.Faults())
			}
			o.Faults = append(o.Faults, debtest.Fault(value))
		case "date":
			o.Date, err = time.Parse(time.RFC3339, value)
			ts.Check(err)
		default:
			ts.Fatalf("unknown option %q", arg)
		}
	}
	text, err := folderAsText(ts.MkAbs(args[0]))
	ts.Check(err)
	a, err := debtest.Build(ts.MkAbs(".archive"), text, o)
	ts.Check(err)
	if served := ts.Getenv("QUORATE_DEBIAN_MIRROR"); served == "" {
		ts.Defer(a.Serve())
		ts.Setenv("QUORATE_DEBIAN_MIRROR", a.URL)
	}
	ts.Check(os.WriteFile(ts.MkAbs("archive-key.asc"), a.Key, 0o644))
}

// folderAsText writes the files of a folder as one txtar.
func folderAsText(dir string) (string, error) {
	var ar txtar.Archive
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		ar.Files = append(ar.Files, txtar.File{Name: filepath.ToSlash(rel), Data: data})
		return err
	})
	return string(txtar.Format(&ar)), err
}

func serveFolder(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: serve FOLDER NAME")
	}
	s := httptest.NewServer(http.FileServer(http.Dir(ts.MkAbs(args[0]))))
	ts.Defer(s.Close)
	ts.Setenv(args[1], s.URL)
}

func goproxy(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: goproxy FOLDER")
	}
	text, err := folderAsText(ts.MkAbs(args[0]))
	ts.Check(err)
	s, err := gomodtest.Start(string(text))
	ts.Check(err)
	ts.Defer(s.Close)
	// What the machine itself has comes second, for the toolchain.
	out, err := exec.Command("go", "env", "GOPROXY").Output()
	ts.Check(err)
	ts.Setenv("GOPROXY", s.Proxy()+","+strings.TrimSpace(string(out)))
	ts.Setenv("GOSUMDB", s.SumDB)
	ts.Setenv("GOFLAGS", "-modcacherw")
}

func stall(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: stall NAME")
	}
	asked := ts.MkAbs(".stalled")
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_ = os.WriteFile(asked, nil, 0o644)
		<-r.Context().Done()
	}))
	ts.Defer(s.Close)
	ts.Setenv(args[0], s.URL)
}

// complainer is a story, or a test (checking).
type complainer interface {
	Check(err error)
	Fatalf(format string, args ...any)
}

// checking is a test that makes what stories are about.
type checking struct{ testing.TB }

// Check implements complainer.
func (c checking) Check(err error) {
	c.Helper()
	if err != nil {
		c.Fatal(err)
	}
}

// rebuildLab is what a rebuild of a story is made of.
type rebuildLab struct {
	ts        complainer
	dir       string
	names     []string
	how       map[string]string // option of a rebuilder
	keys      map[string]*keyfile.Key
	options   map[string]string // agreement, signers, threshold, operators
	good, bad *image.Image
	job       agreement.Job // that the reports answer
}

// The job that every bundle of a story answers, and the project it is about.
// Nobody builds it, so the lock need not be one.
const (
	storyDefinition = "apiVersion: quorate/v1\nname: greeter\nplatforms: [linux/amd64]\nepoch: 2026-11-01T00:00:00Z\ninputs:\n  debian: {suite: bookworm}\nimage:\n  packages: [hello]\n"
	lockOfStory     = "lock"
)

var (
	storyPlatform = definition.Platform{OS: "linux", Architecture: "amd64"}
	storyJob      = agreement.Job{Nonce: "story", Lock: digest.Of([]byte(lockOfStory)), Definition: digest.Of([]byte(storyDefinition))}
)

func makeBundle(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: bundle FOLDER REBUILDER… [OPTION…]")
	}
	l := &rebuildLab{ts: ts, dir: ts.MkAbs(args[0]), how: map[string]string{}, keys: map[string]*keyfile.Key{}, options: map[string]string{}, job: storyJob}
	for _, arg := range args[1:] {
		name, value, option := strings.Cut(arg, "=")
		switch {
		case !option:
			l.names = append(l.names, name)
		case slices.Contains([]string{"agreement", "signers", "threshold", "operators", "project"}, name):
			l.options[name] = value
		case slices.Contains(l.names, name):
			l.how[name] = value
		default:
			ts.Fatalf("option %q is about no rebuilder", arg)
		}
	}
	if dir := l.options["project"]; dir != "" {
		l.job.Definition = digest.Of([]byte(ts.ReadFile(filepath.Join(dir, "quorate.yaml"))))
		l.job.Lock = digest.Of([]byte(ts.ReadFile(filepath.Join(dir, "quorate.lock"))))
	}
	l.make()
}

// make writes what a rebuild leaves.
func (l *rebuildLab) make() {
	l.ts.Check(os.MkdirAll(l.dir, 0o755))
	for _, name := range append(slices.Clone(l.names), "release", "stranger") {
		l.makeKey(name)
	}
	l.good, l.bad = l.makeImage("image", "the image"), l.makeImage("other", "another image")
	policy := l.makePolicy()
	envelopes, submissions := l.makeReports()
	l.makeRefusal(policy, submissions, envelopes)
	if a := l.makeAgreement(policy, submissions); a != nil {
		envelopes = append(envelopes, a)
	}
	// Not WriteBundle: it refuses what some stories are about.
	l.ts.Check(os.WriteFile(filepath.Join(l.dir, "bundle"+attestation.BundleSuffix), append(bytes.Join(envelopes, []byte("\n")), '\n'), 0o644))
}

func (l *rebuildLab) makeKey(name string) {
	key, err := keyfile.Generate()
	l.ts.Check(err)
	l.keys[name] = key
	l.ts.Check(key.Public().Save(filepath.Join(l.dir, name+".pub")))
	if name == "release" {
		l.ts.Check(key.Save(filepath.Join(l.dir, name+".key"), nil))
	}
}

// blobsInMemory is an image.BlobSource.
type blobsInMemory map[digest.Digest][]byte

func (b blobsInMemory) Open(d digest.Digest) (io.ReadCloser, error) {
	data, ok := b[d]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

// makeImage writes an image whose one layer is text that nobody unpacks.
func (l *rebuildLab) makeImage(name, text string) *image.Image {
	layer := []byte(text)
	img, err := image.New(image.Spec{
		Platform: image.Platform{OS: "linux", Architecture: "amd64"},
		Created:  time.Unix(1793491200, 0),
		Layers:   []image.Layer{{Name: "base", Digest: digest.Of(layer), Size: int64(len(layer)), DiffID: digest.Of(layer)}},
	})
	l.ts.Check(err)
	blobs := blobsInMemory{digest.Of(layer): layer}
	l.ts.Check(image.WriteOCI(filepath.Join(l.dir, name), []image.Image{*img}, blobs))
	return img
}

func (l *rebuildLab) makePolicy() *agreement.Policy {
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: quorate/v1\nkind: Policy\nthreshold: %s\n", cmp.Or(l.options["threshold"], fmt.Sprint(len(l.names))))
	if n := l.options["operators"]; n != "" {
		fmt.Fprintf(&b, "distinct: {operator: %s}\n", n)
	}
	b.WriteString("rebuilders:\n")
	for i, name := range l.names {
		operator := "acme"
		if l.options["operators"] != "" && i%2 == 1 {
			operator = "umbra"
		}
		fmt.Fprintf(&b, "  - {name: %s, operator: %s, key: %s.pub}\n", name, operator, name)
	}
	if l.options["signers"] != "none" {
		b.WriteString("signers:\n  - {name: release, key: release.pub}\n")
	}
	path := filepath.Join(l.dir, "policy.yaml")
	l.ts.Check(os.WriteFile(path, []byte(b.String()), 0o644))
	policy, err := readPolicy(path)
	l.ts.Check(err)
	return policy
}

// makeReports signs what every rebuilder says. The submissions are what an
// honest orchestrator would have judged: as if nothing had happened to them.
func (l *rebuildLab) makeReports() (envelopes [][]byte, submissions []agreement.Submission) {
	for _, name := range l.names {
		how, key := l.how[name], l.keys[name]
		if other, ok := strings.CutPrefix(how, "key-of-"); ok {
			key = l.keys[other]
		}
		if how == "silent" {
			submissions = append(submissions, agreement.Submission{Rebuilder: name, Timeout: true})
			continue
		}
		envelope, err := attestation.SignReport(context.Background(), l.record(name), key)
		l.ts.Check(err)
		report, err := attestation.OpenReport(envelope, key.Public())
		l.ts.Check(err)
		report.KeyFingerprint = l.keys[name].Public().Fingerprint()
		submissions = append(submissions, agreement.Submission{Rebuilder: name, Report: report})
		switch how {
		case "spoiled":
			envelope = l.alter(envelope, nil, func(s map[string]any) { s["subject"] = []any{} })
		case "empty":
			envelope = l.alter(envelope, key, func(s map[string]any) { s["subject"] = []any{} })
		}
		envelopes = append(envelopes, envelope)
	}
	return envelopes, submissions
}

func (l *rebuildLab) record(name string) attestation.BuildRecord {
	manifest, lock := l.good.ManifestDigest, l.job.Lock
	switch l.how[name] {
	case "other":
		manifest = l.bad.ManifestDigest
	case "lock":
		lock = digest.Of([]byte("another lock"))
	}
	return attestation.BuildRecord{
		Rebuilder: name, BuilderID: "https://example.org/builders/" + name, Nonce: l.job.Nonce, Attempt: 1, Version: version,
		Name: "greeter", Platforms: []definition.Platform{storyPlatform}, Epoch: time.Unix(1793491200, 0), Assembler: 1,
		Definition: l.job.Definition, LockDigest: lock,
		Lock:     &lockfile.Lock{Format: lockfile.FormatVersion, Assembler: 1, Platforms: []lockfile.Platform{{Platform: storyPlatform}}},
		Subjects: []agreement.Subject{{Name: "greeter", Platform: storyPlatform.String(), Digest: manifest}},
		Started:  time.Unix(1793500000, 0), Finished: time.Unix(1793500060, 0),
	}
}

// alter changes the statement in an envelope and signs it again, or leaves the
// old signature when there is no key.
func (l *rebuildLab) alter(envelope []byte, key *keyfile.Key, change func(statement map[string]any)) []byte {
	var e dsse.Envelope
	l.ts.Check(json.Unmarshal(envelope, &e))
	payload, err := base64.StdEncoding.DecodeString(e.Payload)
	l.ts.Check(err)
	var statement map[string]any
	l.ts.Check(json.Unmarshal(payload, &statement))
	change(statement)
	payload, err = json.Marshal(statement)
	l.ts.Check(err)
	e.Payload = base64.StdEncoding.EncodeToString(payload)
	if key != nil {
		sig, err := key.Sign(context.Background(), dsse.PAE(e.PayloadType, payload))
		l.ts.Check(err)
		e.Signatures[0].Sig = base64.StdEncoding.EncodeToString(sig)
	}
	out, err := json.Marshal(e)
	l.ts.Check(err)
	return out
}

// makeAgreement signs what Judge says; nil when there is no agreement.
func (l *rebuildLab) makeAgreement(policy *agreement.Policy, submissions []agreement.Submission) []byte {
	_, agreed := agreement.Judge(l.job, policy, submissions)
	if !agreed.Valid() || l.options["agreement"] == "none" {
		return nil
	}
	key := l.keys["release"]
	if l.options["agreement"] == "forged" {
		key = l.keys["stranger"]
	}
	envelope, err := attestation.SignAgreement(context.Background(), agreed, key, time.Unix(1793500100, 0))
	l.ts.Check(err)
	return envelope
}

// makeRefusal signs what Judge says when it says anything else than agree, and
// keeps what everybody built.
func (l *rebuildLab) makeRefusal(policy *agreement.Policy, submissions []agreement.Submission, reports [][]byte) {
	refusal := agreement.Refuse(l.job, policy, submissions)
	if refusal == nil {
		return
	}
	envelope, err := attestation.SignRefusal(context.Background(), refusal, l.keys["release"], time.Unix(1793500100, 0))
	l.ts.Check(err)
	l.ts.Check(os.WriteFile(filepath.Join(l.dir, refusalFile), append(bytes.Join(append(slices.Clone(reports), envelope), []byte("\n")), '\n'), 0o644))
	for _, name := range l.names {
		from := map[string]string{"": "image", "other": "other"}[l.how[name]]
		if from != "" {
			l.ts.Check(os.CopyFS(filepath.Join(l.dir, "rebuilders", name, "image"), os.DirFS(filepath.Join(l.dir, from))))
		}
	}
}
