package host

import (
	"fmt"
	"os"
	"strings"
	"unicode/utf8"
)

// maxLog bounds a worker's own log. Output of steps does not go there, so a
// megabyte is much; a worker that runs wild must not fill the disk.
const maxLog = 16 << 20

// lastLog is how much of the log's end an error tells.
const lastLog = 500

// Log keeps what a worker writes to its standard error, in a file of bounded size.
type Log struct {
	f    *os.File
	size int64
	last []byte // the end of it, at most twice lastLog
	err  error
}

// NewLog makes the file, or empties it.
func NewLog(name string) (*Log, error) {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return nil, fmt.Errorf("cannot keep the worker's log: %w", err)
	}
	return &Log{f: f}, nil
}

// Write never fails, because a worker must not die of its log; Close tells.
func (l *Log) Write(b []byte) (int, error) {
	l.last = append(l.last, b[max(0, len(b)-lastLog):]...)
	if len(l.last) > 2*lastLog {
		l.last = append([]byte(nil), l.last[len(l.last)-lastLog:]...)
	}
	if room := maxLog - l.size; l.err == nil && room > 0 {
		n, err := l.f.Write(b[:min(int64(len(b)), room)])
		l.size += int64(n)
		l.err = err
		if l.size == maxLog {
			fmt.Fprintf(l.f, "\n[the rest was dropped: more than %d bytes]\n", maxLog)
		}
	}
	return len(b), nil
}

// Close closes the file, and returns why something is missing in it.
func (l *Log) Close() error {
	err := l.err
	if closed := l.f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return fmt.Errorf("cannot keep the worker's log: %w", err)
	}
	return nil
}

// Tail is the end of what was written, for errors.
func (l *Log) Tail() string {
	s := string(l.last[max(0, len(l.last)-lastLog):])
	for len(s) > 0 && !utf8.RuneStart(s[0]) {
		s = s[1:]
	}
	return strings.TrimSpace(s)
}
