//go:build linux

package main

import (
	"context"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	ocireg "github.com/google/go-containerregistry/pkg/registry"

	"quorate.dev/builder/registry"
	"quorate.dev/rebuild/attestation"
	"quorate.dev/rebuild/keyfile"
)

// counted is a registry that counts what it is asked, and how long it takes to answer.
type counted struct {
	http.Handler
	requests, now, most atomic.Int64
	busy                atomic.Int64 // nanoseconds, of all requests together
}

// ServeHTTP implements http.Handler.
func (c *counted) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.requests.Add(1)
	now := c.now.Add(1)
	for most := c.most.Load(); now > most && !c.most.CompareAndSwap(most, now); most = c.most.Load() {
	}
	begun := time.Now()
	c.Handler.ServeHTTP(w, r)
	c.busy.Add(int64(time.Since(begun)))
	c.now.Add(-1)
}

func (c *counted) forget() {
	c.requests.Store(0)
	c.most.Store(0)
	c.busy.Store(0)
}

// publishForTest publishes an image that three rebuilders agree on, with a
// summary, and returns its reference and policy file.
func publishForTest(t testing.TB, c *counted) (ref, policyFile string) {
	t.Helper()
	c.Handler = ocireg.New(ocireg.WithReferrersSupport(true), ocireg.Logger(log.New(io.Discard, "", 0)))
	s := httptest.NewServer(c)
	t.Cleanup(s.Close)
	ref = strings.TrimPrefix(s.URL, "http://") + "/app:v1"
	l := &rebuildLab{
		ts: checking{t}, dir: t.TempDir(), names: []string{"ams", "osl", "sfo"}, how: map[string]string{}, keys: map[string]*keyfile.Key{},
		options: map[string]string{"operators": "2"}, job: storyJob,
	}
	l.make()
	l.ts.Check(os.Rename(filepath.Join(l.dir, "bundle"+attestation.BundleSuffix), filepath.Join(l.dir, "agreement"+attestation.BundleSuffix)))
	parsed, err := registry.Parse(ref)
	l.ts.Check(err)
	policyFile = filepath.Join(l.dir, "policy.yaml")
	whole, err := readPolicy(policyFile)
	l.ts.Check(err)
	policy, err := whole.For(parsed.Repository(), time.Now())
	l.ts.Check(err)
	ui := &terminal{out: io.Discard, err: io.Discard, mode: "plain"}
	p := &publication{ui: ui, client: registry.New(registry.Options{}), ref: parsed, policy: policy, signer: l.keys["release"]}
	l.ts.Check(p.readResults(l.dir))
	p.isFor("")
	_, err = p.run(context.Background())
	l.ts.Check(err)
	return ref, policyFile
}

// TestManyReferrers counts what is asked of a registry for an image with a
// thousand referrers that say nothing: some requests for each, a few at once.
// How long it takes is BenchmarkRealVerify's business.
func TestManyReferrers(t *testing.T) {
	const noise = 1000
	c := &counted{}
	ref, policyFile := publishForTest(t, c)
	addNoise(checking{t}, ref, noise)
	c.forget()
	ui := &terminal{out: io.Discard, err: io.Discard, mode: "plain"}
	err := runVerify(context.Background(), ui, ref, verifyFlags{reader: readerFlags{policy: policyFile}})
	if err != nil {
		t.Fatal(err)
	}
	if n := c.requests.Load(); n > 2*noise+50 {
		t.Errorf("%d requests, expected two for each referrer at most: its manifest and its statement", n)
	}
	if n := c.most.Load(); n > readers {
		t.Errorf("%d requests at once, expected %d at most", n, readers)
	}
}

// BenchmarkRealVerify measures `quorate verify REF` of an image that three
// rebuilders agree on (budget: 300 ms beyond the registry's own answers), alone
// and beside a thousand referrers that say nothing (budget: 5 s in all).
func BenchmarkRealVerify(b *testing.B) {
	for _, test := range []struct {
		name  string
		noise int
	}{{"three", 0}, {"thousand", 1000}} {
		b.Run(test.name, func(b *testing.B) {
			w := newBench(b)
			c := &counted{}
			ref, policyFile := publishForTest(b, c)
			addNoise(checking{b}, ref, test.noise)
			for b.Loop() {
				c.forget()
				took := w.run("quorate verify " + ref + " --policy " + policyFile)
				answers := time.Duration(c.busy.Load())
				b.ReportMetric(float64(took.wall.Milliseconds()), "wall-ms")
				b.ReportMetric(float64(answers.Milliseconds()), "registry-ms")
				b.ReportMetric(float64((took.wall - answers).Milliseconds()), "beyond-ms")
				b.ReportMetric(float64(took.cpu.Milliseconds()), "cpu-ms")
				b.ReportMetric(float64(c.requests.Load()), "requests")
				b.ReportMetric(float64(took.peak)/1024, "peak-MiB")
			}
		})
	}
}
