package serve

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"quorate.dev/rebuild/host/remote"
)

// metrics are the service's counters. They are written in Prometheus' text format
// by hand: the official client would link protobuf and a score of packages for
// what is a screen of code here.
type metrics struct {
	sent, received atomic.Int64 // bytes of results and of jobs and inputs

	mu      sync.Mutex
	ended   map[string]int64 // jobs by outcome
	seconds float64          // spent building
	refused map[string]int64 // by code
}

func newMetrics() *metrics {
	return &metrics{ended: map[string]int64{}, refused: map[string]int64{}}
}

func (m *metrics) end(outcome string, took time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ended[outcome]++
	m.seconds += took.Seconds()
}

func (m *metrics) refuse(code string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.refused[code]++
}

// healthy says whether the service takes jobs.
func (s *Service) healthy(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	stopping := s.stopping
	s.mu.Unlock()
	if stopping {
		http.Error(w, "stopping", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

func (s *Service) writeMetrics(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	states := map[string]int64{}
	s.mu.Lock()
	for _, state := range []string{remote.StateWaiting, remote.StateQueued, remote.StateRunning, remote.StateEnded} {
		states[state] = int64(s.count(state))
	}
	s.mu.Unlock()
	m := s.metrics
	m.mu.Lock()
	defer m.mu.Unlock()
	family(w, "quorate_serve_info", "gauge", "What is running.")
	fmt.Fprintf(w, "quorate_serve_info{version=%q,rebuilder=%q} 1\n", s.Version, s.Config.Rebuilder)
	labelled(w, "quorate_serve_jobs", "gauge", "Jobs that are there, by state.", "state", states)
	labelled(w, "quorate_serve_jobs_ended_total", "counter", "Jobs that have ended, by outcome.", "outcome", m.ended)
	labelled(w, "quorate_serve_refused_total", "counter", "Requests and handshakes that were refused, by reason.", "code", m.refused)
	single(w, "quorate_serve_build_seconds_total", "counter", "Time spent building.", m.seconds)
	single(w, "quorate_serve_received_bytes_total", "counter", "Bytes of jobs and local inputs.", float64(m.received.Load()))
	single(w, "quorate_serve_sent_bytes_total", "counter", "Bytes of results.", float64(m.sent.Load()))
	single(w, "quorate_serve_state_bytes", "gauge", "Bytes in the state folder.", float64(sizeOf(s.state.dir)))
	single(w, "quorate_serve_state_limit_bytes", "gauge", "Bytes that the state folder may have.", float64(s.Config.Keep.Disk))
}

func family(w io.Writer, name, kind, help string) {
	fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
}

func labelled(w io.Writer, name, kind, help, label string, values map[string]int64) {
	family(w, name, kind, help)
	for _, v := range slices.Sorted(maps.Keys(values)) {
		fmt.Fprintf(w, "%s{%s=%q} %d\n", name, label, v, values[v])
	}
}

func single(w io.Writer, name, kind, help string, value float64) {
	family(w, name, kind, help)
	fmt.Fprintf(w, "%s %s\n", name, strconv.FormatFloat(value, 'f', -1, 64))
}
