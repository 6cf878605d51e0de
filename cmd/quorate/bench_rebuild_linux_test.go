package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"quorate.dev/rebuild/attestation"
	"quorate.dev/rebuild/host/docker/dockertest"
	"quorate.dev/rebuild/keyfile"
)

// BenchmarkRealRebuild: what orchestration takes beside the slowest rebuilder's own
// build, as its report tells it (whole seconds): budget 10 % and 3 s. Two workers here; one
// worker in a Docker Engine that has nothing yet; and one in an engine that has the
// worker's image and the inputs.
func BenchmarkRealRebuild(b *testing.B) {
	w := newBench(b)
	w.prepare("nginx")
	e := dockertest.Start(b)
	w.run("quorate rebuilders init there --docker " + e.Socket + " --operator acme > entry; docker --host " + e.Socket + " image prune --all --force")
	entry, err := os.ReadFile(filepath.Join(w.dir, "entry"))
	if err != nil {
		b.Fatal(err)
	}
	file := "rebuilders:\n" + string(entry) + "policy: {threshold: 1}\n"
	if err := os.WriteFile(filepath.Join(w.dir, "rebuilders.yaml"), []byte(file), 0o644); err != nil {
		b.Fatal(err)
	}
	for _, test := range []struct{ name, who string }{
		{"here", "--rebuilders 2"}, {"engine-first", "--rebuilders-file rebuilders.yaml"}, {"engine", "--rebuilders-file rebuilders.yaml"},
	} {
		b.Run(test.name, func(b *testing.B) {
			for b.Loop() {
				all := w.run("quorate rebuild examples/nginx " + test.who).wall
				own := slowest(b, filepath.Join(w.dir, "results"))
				b.ReportMetric(own.Seconds(), "build-s")
				b.ReportMetric((all - own).Seconds(), "overhead-s")
				b.ReportMetric(own.Seconds()/10+3, "budget-s")
			}
		})
	}
}

// slowest is the longest build that a report of the results tells of.
func slowest(b *testing.B, results string) time.Duration {
	b.Helper()
	keys, err := filepath.Glob(filepath.Join(results, "keys", "*.pub"))
	if err != nil || len(keys) == 0 {
		b.Fatalf("no keys in %s: %v", results, err)
	}
	var longest time.Duration
	for _, path := range keys {
		key, err := keyfile.LoadPublic(path)
		if err != nil {
			b.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(path), ".pub")
		envelope, err := os.ReadFile(filepath.Join(results, "rebuilders", name, "report.intoto.json"))
		if err != nil {
			b.Fatal(err)
		}
		r, err := attestation.OpenReport(envelope, key)
		if err != nil {
			b.Fatal(fmt.Errorf("%s: %w", name, err))
		}
		longest = max(longest, r.Finished.Sub(r.Started))
	}
	return longest
}
