package host

import (
	"bufio"
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"quorate.dev/lockfile/digest"
)

func TestListener(t *testing.T) {
	commit := `{"commit":"` + digest.Of(nil).String() + `"}` + "\n"
	const told = `{"result":{"report":"cg==","subjects":null}}` + "\n"
	result := commit + told
	tests := []struct {
		summary string
		said    string
		how     string // how the worker ended
		want    string // error; "" for a result
		events  int
	}{
		{"result", result, "", "", 0},
		{"events and result", `{"event":{"kind":"phase"}}` + "\n" + `{"event":{"kind":"line","line":"x"}}` + "\n" + result, "", "", 2},
		{"error", `{"event":{"kind":"error","message":"no such package"}}` + "\n", "it ended with exit status 2", "no such package", 1},
		{"error and exit code 0", `{"event":{"kind":"error","message":"no"}}` + "\n" + result, "", "no", 1},
		{"killed", `{"event":{"kind":"phase"}}` + "\n", "it ended with signal: killed", `worker was lost: it ended with signal: killed; the end of its log: "log"`, 1},
		{"killed after its result", result, "it ended with signal: killed", `worker was lost: it ended with signal: killed; the end of its log: "log"`, 0},
		{"nothing", "", "", "worker's answer makes no sense: it ended well and gave no result", 0},
		{"garbage", "panic: x\n" + result, "", `worker's answer makes no sense: line "panic: x"`, 0},
		{"neither", "{}\n", "", `worker's answer makes no sense: line "{}" is not one of an event, a commitment and a result`, 0},
		{"both", `{"event":{},"result":{}}` + "\n", "", `worker's answer makes no sense: line "{\"event\":{},\"result\":{}}" is not one of an event, a commitment and a result`, 0},
		{"no commitment", told, "", "worker's answer makes no sense: a result before it was asked for", 0},
		{"two commitments", commit + result, "", "worker's answer makes no sense: a second commitment", 0},
		{"bad commitment", `{"commit":"sha256:12"}` + "\n" + told, "", `worker's answer makes no sense: line "{\"commit\":\"sha256:12\"}"`, 0},
		{"two results", result + told, "", "worker's answer makes no sense: more lines after the result", 0},
		{"half a line", commit + told[:10], "", `worker's answer makes no sense: its last line "{\"result\":" has no end`, 0},
		{"half a line and killed", commit + told[:10], "it ended with signal: killed", `worker was lost: it ended with signal: killed; the end of its log: "log"`, 0},
		{"endless line", strings.Repeat("x", maxLine+1), "", "worker's answer makes no sense: a line of more than 33554432 bytes", 0},
	}
	for _, test := range tests {
		t.Run(test.summary, func(t *testing.T) {
			for _, size := range []int{1 << 20, 7} { // the pieces that a pipe gives
				if size < 10 && len(test.said) > 1<<20 {
					continue
				}
				events := 0
				l := NewListener(func(Event) { events++ })
				for said := test.said; said != ""; {
					n := min(size, len(said))
					if _, err := l.Write([]byte(said[:n])); err != nil {
						if l.Broken() == nil {
							t.Errorf("Write failed and Broken() is nil: %v", err)
						}
						break
					}
					said = said[n:]
				}
				r, err := l.End(test.how, "log")
				if test.want == "" {
					if err != nil || string(r.ReportEnvelope) != "r" {
						t.Errorf("got %+v, %v", r, err)
					}
				} else if err == nil || err.Error() != test.want {
					t.Errorf("got  %v\nwant %s", err, test.want)
				}
				if events != test.events {
					t.Errorf("got %d events, want %d", events, test.events)
				}
			}
		})
	}
}

func TestSpeakerAndListener(t *testing.T) {
	var b bytes.Buffer
	say := NewSpeaker(&b)
	event := Event{Kind: KindPhase, Phase: "step", Name: "a\nb", Current: 1, Total: 2, Bytes: true, Elapsed: 5}
	result := Result{ReportEnvelope: []byte("report"), LinkEnvelope: []byte("link"), PublicKey: []byte("key"), OutputDir: "/w/output",
		Subjects: []Subject{{Platform: "linux/amd64", Digest: digest.Of(nil)}}}
	if err := errors.Join(say.Event(event), say.Commit(digest.Of([]byte("c"))), say.Result(result)); err != nil {
		t.Fatal(err)
	}
	var got []Event
	l := NewListener(func(e Event) { got = append(got, e) })
	if _, err := l.Write(b.Bytes()); err != nil {
		t.Fatal(err)
	}
	r, err := l.End("", "")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]Event{event}, got); d != "" {
		t.Errorf("events (-want +got):\n%s", d)
	}
	if d := cmp.Diff(result, r); d != "" {
		t.Errorf("result (-want +got):\n%s", d)
	}
}

func TestReadJobErrors(t *testing.T) {
	for said, want := range map[string]string{
		"":   "job is not JSON as expected: unexpected end of JSON input",
		"{}": "job lacks its nonce, rebuilder, work folder or key file",
		`{"nonce":"n","rebuilder":"r","workDir":"/w","keyFile":"/k"}`: "job has attempt 0, expected at least 1",
		strings.Repeat(" ", maxJob+2):                                 "job is larger than 67108864 bytes",
	} {
		if _, err := ReadJob(bufio.NewReader(strings.NewReader(said))); err == nil || err.Error() != want {
			t.Errorf("ReadJob(%.60q): got %v, want %s", said, err, want)
		}
	}
}

func FuzzListener(f *testing.F) {
	f.Add([]byte(`{"event":{"kind":"phase"}}`+"\n"+`{"result":{}}`+"\n"), 5)
	f.Add([]byte("\n\n{"), 1)
	f.Fuzz(func(t *testing.T, said []byte, cut int) {
		// The pieces that the bytes come in must not matter.
		whole, pieces := NewListener(nil), NewListener(nil)
		whole.Write(said)
		cut = max(0, min(cut, len(said)))
		if _, err := pieces.Write(said[:cut]); err == nil {
			pieces.Write(said[cut:])
		}
		_, a := whole.End("", "")
		_, b := pieces.End("", "")
		if (a == nil) != (b == nil) || a != nil && a.Error() != b.Error() {
			t.Errorf("whole: %v, in pieces: %v", a, b)
		}
	})
}
