package local

import (
	"fmt"
	"os"
	"strings"
	"unicode/utf8"
)

// maxLog bounds a worker's own log. Output of steps does not go there, so a
// megabyte is much; a worker that runs wild must not fill the disk.
const maxLog = 16 << 20

// logFile keeps what a worker writes to its standard error.
type logFile struct {
	f    *os.File
	size int64
	last []byte // the end of it, at most twice lastLog
	err  error
}

func newLog(name string) (*logFile, error) {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return nil, fmt.Errorf("cannot keep the worker's log: %w", err)
	}
	return &logFile{f: f}, nil
}

// Write never fails, because a worker must not die of its log; Close tells.
func (l *logFile) Write(b []byte) (int, error) {
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

func (l *logFile) Close() error {
	err := l.err
	if closed := l.f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return fmt.Errorf("cannot keep the worker's log: %w", err)
	}
	return nil
}

func (l *logFile) tail() string {
	s := string(l.last[max(0, len(l.last)-lastLog):])
	for len(s) > 0 && !utf8.RuneStart(s[0]) {
		s = s[1:]
	}
	return strings.TrimSpace(s)
}
