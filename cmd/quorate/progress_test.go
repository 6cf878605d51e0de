package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// The clock of synctest's bubble stands still but for Sleep, so the lines are exact.
func TestPlainProgress(t *testing.T) {
	for _, test := range []struct {
		summary string
		play    func(r renderer)
		want    []string
	}{
		{
			"short work is one line at its end",
			func(r renderer) {
				r.event(event{Key: "a", Text: "step compile", Current: 1, Total: 3})
				time.Sleep(1300 * time.Millisecond)
				r.event(event{Key: "a", Done: true})
			},
			[]string{"step compile: 1.3 s"},
		},
		{
			"long work is announced, then ever less often",
			func(r renderer) {
				r.event(event{Key: "a", Text: "fetching", Current: 500, Total: 2_000_000, Bytes: true})
				time.Sleep(5 * time.Second)
				r.event(event{Key: "a", Text: "fetching", Current: 1_500_000, Total: 2_000_000, Bytes: true})
				time.Sleep(10 * time.Second)
				r.event(event{Key: "a", Text: "fetching", Current: 2_000_000, Total: 2_000_000, Bytes: true, Done: true})
			},
			[]string{
				"fetching: 500 B of 2.0 MB, 2.0 s so far",
				"fetching: 1.5 MB of 2.0 MB, 6.0 s so far",
				"fetching: 1.5 MB of 2.0 MB, 14.0 s so far",
				"fetching: 2.0 MB, 15.0 s",
			},
		},
		{
			"lines of output keep it from being silent",
			func(r renderer) {
				r.event(event{Key: "a", Text: "step test"})
				for range 3 {
					time.Sleep(1500 * time.Millisecond)
					r.event(event{Key: "a", Line: "ok"})
				}
				r.event(event{Key: "a", Done: true, Note: "failed"})
			},
			[]string{"step test | ok", "step test | ok", "step test | ok", "step test: failed, 4.5 s"},
		},
		{
			"a line may be the first that is heard of it",
			func(r renderer) {
				r.event(event{Key: "a", Text: "choose inputs", Line: "ask apt"})
				time.Sleep(2500 * time.Millisecond)
				r.event(event{Key: "a", Done: true})
			},
			[]string{"choose inputs | ask apt", "choose inputs: 2.0 s so far", "choose inputs: 2.5 s"},
		},
		{
			"what ends as soon as it was announced is told twice, and not in the same words",
			func(r renderer) {
				r.event(event{Key: "a", Text: "configure packages of image"})
				time.Sleep(2010 * time.Millisecond)
				r.event(event{Key: "a", Done: true, Elapsed: 2010 * time.Millisecond})
			},
			[]string{"configure packages of image: 2.0 s so far", "configure packages of image: 2.0 s"},
		},
		{
			"two things at once, one cached",
			func(r renderer) {
				r.event(event{Key: "b", Text: "layer b"})
				r.event(event{Key: "a", Text: "layer a", Done: true, Note: "cached"})
				time.Sleep(2500 * time.Millisecond)
				r.event(event{Key: "b", Done: true, Elapsed: 65 * time.Second})
			},
			[]string{"layer a: cached", "layer b: 2.0 s so far", "layer b: 1 min 5 s"},
		},
	} {
		t.Run(test.summary, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var out lockedBuffer
				r := newRenderer("plain", &out, false)
				test.play(r)
				r.close()
				if got := out.lines(); !slices.Equal(got, test.want) {
					t.Errorf("got  %q\nwant %q", got, test.want)
				}
			})
		})
	}
}

func TestQuietProgress(t *testing.T) {
	var out lockedBuffer
	r := newRenderer("none", &out, true)
	r.event(event{Key: "a", Text: "step", Done: true})
	r.line("message", "", "said all the same")
	r.close()
	if got, want := out.lines(), []string{"said all the same"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestJSONProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out lockedBuffer
		r := newRenderer("json", &out, true)
		r.event(event{Key: "fetch", Text: "fetching", Current: 1, Total: 2, Bytes: true})
		r.event(event{Key: "fetch", Done: true, Note: "failed", Elapsed: 1500 * time.Millisecond})
		r.line("error", "quorate: ", "no \"answer\"\nat all")
		r.close()
		want := []string{
			`{"kind":"progress","time":"2000-01-01T00:00:00Z","key":"fetch","text":"fetching","current":1,"total":2,"bytes":true}`,
			`{"kind":"progress","time":"2000-01-01T00:00:00Z","key":"fetch","done":true,"note":"failed","seconds":1.5}`,
			`{"kind":"error","time":"2000-01-01T00:00:00Z","text":"no \"answer\"\nat all"}`,
		}
		got := out.lines()
		if !slices.Equal(got, want) {
			t.Errorf("got  %q\nwant %q", got, want)
		}
		for _, line := range got {
			if !json.Valid([]byte(line)) {
				t.Errorf("not JSON: %s", line)
			}
		}
	})
}

// Bars are for eyes; what is tested is that they end, whatever is still open,
// and that lines appear whole above them.
func TestBars(t *testing.T) {
	var out lockedBuffer
	r := newRenderer("bars", &out, true)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			key := fmt.Sprint("step ", i)
			for n := range 20 {
				r.event(event{Key: key, Text: key, Current: int64(n + 1), Total: 20})
				r.event(event{Key: key, Line: "output"})
			}
			r.line("message", "", "message of "+key)
			if i%2 == 0 {
				r.event(event{Key: key, Done: true, Elapsed: time.Second})
			}
		})
	}
	r.event(event{Key: "unknown", Text: "of unknown length"})
	all.Wait()
	r.close()
	r.close() // twice does no harm
	r.event(event{Key: "late", Text: "late", Done: true})
	r.line("message", "", "after the bars")
	got := out.lines()
	for _, want := range []string{"message of step 7", "step 6: 1.0 s", "after the bars"} {
		if !slices.ContainsFunc(got, func(l string) bool { return strings.HasSuffix(l, want) }) {
			t.Errorf("no line %q in %q", want, got)
		}
	}
}

func TestProgressMode(t *testing.T) {
	for _, test := range []struct {
		summary, mode, ci string
		isTTY             bool
		want              string
	}{
		{"a person at a terminal", "auto", "", true, "*main.bars"},
		{"a terminal that CI gives", "auto", "true", true, "*main.plain"},
		{"a pipe", "auto", "", false, "*main.plain"},
		{"asked for", "json", "true", true, "*main.jsonLines"},
	} {
		t.Run(test.summary, func(t *testing.T) {
			t.Setenv("CI", test.ci)
			r := newRenderer(test.mode, &lockedBuffer{}, test.isTTY)
			defer r.close()
			if got := fmt.Sprintf("%T", r); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 999: "999 B", 1000: "1.0 kB", 999_949: "999.9 kB", 999_950: "1.0 MB", 1_500_000_000: "1.5 GB", 1<<63 - 1: "9.2 EB",
	} {
		if got := size(n); got != want {
			t.Errorf("size(%d) = %q, want %q", n, got, want)
		}
	}
}

// lockedBuffer is a buffer that several goroutines write to.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *lockedBuffer) lines() []string {
	return strings.FieldsFunc(l.String(), func(r rune) bool { return r == '\n' || r == '\r' })
}
