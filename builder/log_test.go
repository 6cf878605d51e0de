package builder

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

func TestLogOfMuchOutput(t *testing.T) {
	var shown int
	l := &buildLog{}
	w := l.writer("step", "chatty", func(e Event) { shown += len(e.Line) })
	line := []byte(strings.Repeat("x", 99) + "\n")
	for range 300_000 { // 30 MB
		if n, err := w.Write(line); n != len(line) || err != nil {
			t.Fatal(n, err)
		}
	}
	fmt.Fprintf(w, "the reason\n")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if shown > maxLog+100 {
		t.Errorf("%d bytes were shown, more than %d", shown, maxLog)
	}
	if tail := w.tail(); !strings.HasSuffix(tail, "the reason") || strings.Count(tail, "\n") != tailLines-1 {
		t.Errorf("tail is %q", tail)
	}
	var text bytes.Buffer
	if _, err := l.WriteTo(&text); err != nil {
		t.Fatal(err)
	}
	if n := text.Len(); n > maxLog+3*maxLast || !bytes.HasSuffix(text.Bytes(), []byte("the reason\n")) {
		t.Errorf("the log has %d bytes and ends in %q", n, text.Bytes()[n-20:])
	}
	dropped := 300_000*len(line) + len("the reason\n") - maxLog - len(w.last)
	if want := fmt.Sprintf("\n[%d bytes of output were dropped here]\n", dropped); !bytes.Contains(text.Bytes(), []byte(want)) {
		t.Errorf("the log does not say %q", want)
	}
}

func TestLogLines(t *testing.T) {
	long := strings.Repeat("é", maxLine)
	cut := strings.Repeat("é", maxLine/2) + "…"
	for _, test := range []struct {
		summary string
		writes  []string
		lines   []string
		tail    string
	}{
		{"whole lines", []string{"a\nb\n"}, []string{"a", "b"}, "a\nb"},
		{"pieces of lines", []string{"a", "b\nc", "d"}, []string{"ab", "cd"}, "ab\ncd"},
		{"an empty line", []string{"a\n\nb\n"}, []string{"a", "", "b"}, "a\n\nb"},
		{"a line that is too long", []string{long, long + "\nb\n"}, []string{cut, "b"}, cut + "\nb"},
		{"the same without an end", []string{"a\n" + long, long}, []string{"a", cut}, "a\n" + cut},
		{"a line as long as can be", []string{strings.Repeat("x", maxLine) + "\nb"}, []string{strings.Repeat("x", maxLine), "b"}, strings.Repeat("x", maxLine) + "\nb"},
		{"nothing", nil, nil, ""},
	} {
		t.Run(test.summary, func(t *testing.T) {
			var lines []string
			l := &buildLog{}
			w := l.writer("step", "s", func(e Event) { lines = append(lines, e.Line) })
			for _, s := range test.writes {
				if _, err := w.Write([]byte(s)); err != nil {
					t.Fatal(err)
				}
			}
			_ = w.Close()
			if got, want := strings.Join(lines, "|"), strings.Join(test.lines, "|"); got != want {
				t.Errorf("lines are %q, expected %q", got, want)
			}
			if got := w.tail(); got != test.tail {
				t.Errorf("tail is %q, expected %q", got, test.tail)
			}
			if got, want := strings.TrimSuffix(w.text(), "\n"), strings.TrimSuffix(strings.Join(test.writes, ""), "\n"); got != want {
				t.Errorf("the log is %q, expected %q", got, want)
			}
		})
	}
}
