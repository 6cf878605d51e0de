package docker

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Facts are what a host says of itself before anything is built there.
type Facts struct {
	Engine  string        // version: "20.10.24"
	API     string        // version that both sides speak: "1.41"
	ID      string        // the engine's own
	Kernel  string        // release
	Row     string        // name of the isolation row that builds with scripts get
	Skew    time.Duration // how much its clock is ahead of ours
	Free    int64         // bytes on the engine's disk; -1 when not known
	Memory  int64         // bytes of its machine
	Key     []byte        // public half of the rebuilder's key, PEM
	Trouble string        // "" or why builds there may fail
}

// LeastFree is what an engine's disk should have: the largest example builds
// take some 2 GiB, and their steps may write more.
const LeastFree = 4 << 30

// Check reaches the engine and starts small workers there, as Start does first of
// all. It makes the rebuilder's key if there is none.
func (h *Host) Check(ctx context.Context, rebuilder string) (Facts, error) {
	f := Facts{Free: -1}
	ctx, cancel := context.WithTimeout(ctx, prepareTime)
	defer cancel()
	e, err := h.open(ctx, func(string, ...any) {})
	if err != nil {
		return f, err
	}
	asked := time.Now()
	info, err := e.api.Info(ctx)
	if err != nil {
		return f, e.failed("be reached", err)
	}
	took := time.Since(asked)
	f.Engine, f.API, f.ID, f.Kernel, f.Memory = info.ServerVersion, e.api.ClientVersion(), info.ID, info.KernelVersion, info.MemTotal
	if there, err := time.Parse(time.RFC3339Nano, info.SystemTime); err == nil {
		f.Skew = there.Sub(asked.Add(took / 2))
	}
	row, err := e.row(ctx, true)
	if err != nil {
		return f, err
	}
	f.Row = row.Name
	answer, err := e.ask(ctx, row, "", "worker", "--check")
	if err != nil {
		return f, e.failed("isolate a worker", err)
	}
	f.Free = freeBytes(string(answer))
	if f.Key, err = h.MakeKey(ctx, rebuilder); err != nil {
		return f, err
	}
	f.Trouble = f.trouble()
	return f, nil
}

// freeBytes reads the line "free BYTES" of what `worker --check` answers.
func freeBytes(answer string) int64 {
	for line := range strings.Lines(answer) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "free "); ok {
			if n, err := strconv.ParseInt(value, 10, 64); err == nil && n >= 0 {
				return n
			}
		}
	}
	return -1
}

// MaxSkew is what certificates and people forgive.
const MaxSkew = 5 * time.Minute

func (f *Facts) trouble() string {
	switch {
	case f.Skew.Abs() > MaxSkew:
		return fmt.Sprintf("its clock is off by %s", f.Skew.Round(time.Second))
	case f.Free >= 0 && f.Free < LeastFree:
		return fmt.Sprintf("its disk has %.1f GiB left, expected %d", float64(f.Free)/(1<<30), LeastFree>>30)
	}
	return ""
}
