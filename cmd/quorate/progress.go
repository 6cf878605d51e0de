package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// event says how far something is. Packages have their own events; each verb
// turns those into these (buildEvent, fetchEvent, …), and a renderer shows them.
type event struct {
	Key     string        `json:"key"`               // what goes on, unique while it does: "fetch", "1/step/compile"
	Text    string        `json:"text,omitempty"`    // the same for people: "step compile"
	Current int64         `json:"current,omitempty"` // of Total
	Total   int64         `json:"total,omitempty"`   // 0 when unknown
	Bytes   bool          `json:"bytes,omitempty"`   // Current and Total count bytes
	Line    string        `json:"line,omitempty"`    // a line of output of what goes on
	Done    bool          `json:"done,omitempty"`    // it has ended
	Note    string        `json:"note,omitempty"`    // with Done: how, when that is worth a word: "cached", "failed"
	Elapsed time.Duration `json:"-"`                 // with Done; 0 lets the renderer count

	Rebuilder string `json:"rebuilder,omitempty"` // whose worker does it
	Attempt   int    `json:"attempt,omitempty"`   // of that rebuilder, from 1
}

func (e event) printable() event {
	e.Text, e.Line, e.Note = printable(e.Text), printable(e.Line), printable(e.Note)
	return e
}

// renderer is a way to show the story. Its methods are called from several goroutines.
type renderer interface {
	event(e event)
	// line shows text of the kind "message", "warning", "error" or "hint", which
	// prefix says for people.
	line(kind, prefix, text string)
	// close shows what is not shown yet and stops; line still works afterwards.
	close()
}

// progressModes are the values of --progress.
var progressModes = []string{"auto", "bars", "plain", "json", "none"}

// setProgress chooses how progress is shown.
func (t *terminal) setProgress(mode string) error {
	if !slices.Contains(progressModes, mode) {
		return fmt.Errorf("unknown --progress %q: expected one of %s", mode, strings.Join(progressModes, ", "))
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mode = mode
	return nil
}

// newRenderer makes the renderer of a mode. In auto, bars are for a person who
// looks at a terminal; CI services often give a terminal too, and say CI.
func newRenderer(mode string, w io.Writer, canDraw bool) renderer {
	if mode == "auto" {
		mode = "plain"
		if canDraw && os.Getenv("CI") == "" {
			mode = "bars"
		}
	}
	switch mode {
	case "bars":
		return newBars(w)
	case "json":
		return &jsonLines{w: w}
	case "none":
		return &plain{w: w, quiet: true}
	default:
		return newPlain(w)
	}
}

// plain shows lines: one when something ends, and for what takes long one now
// and then, so that a log says that work goes on without being filled by it.
type plain struct {
	quiet bool // show no events, only lines

	mu     sync.Mutex
	w      io.Writer
	going  map[string]*going
	stop   chan struct{} // closed by close
	closed bool
}

// going is something that has begun and not ended.
type going struct {
	last  event
	begun time.Time
	spoke time.Time     // when its last line was shown
	pause time.Duration // until its next line
}

const (
	// firstPause is after how long something is announced: nothing longer than
	// two seconds is silent.
	firstPause = 2 * time.Second
	// longestPause is the most that pauses grow to, doubling each time. CI
	// services end jobs that are silent for minutes (the strictest known for 10).
	longestPause = 32 * time.Second
)

func newPlain(w io.Writer) *plain {
	p := &plain{w: w, going: map[string]*going{}, stop: make(chan struct{})}
	go p.tick()
	return p
}

func (p *plain) event(e event) {
	if p.quiet {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	g := p.going[e.Key]
	if g == nil {
		g = &going{begun: now, spoke: now, pause: firstPause}
		p.going[e.Key] = g
	}
	if e.Text == "" {
		e.Text = g.last.Text
	}
	switch {
	case e.Done:
		delete(p.going, e.Key)
		if e.Elapsed == 0 {
			e.Elapsed = now.Sub(g.begun)
		}
		fmt.Fprintln(p.w, e.doneLine())
	case e.Line != "":
		g.spoke, g.last.Text = now, e.Text // a line may be the first that is heard of it
		fmt.Fprintf(p.w, "%s | %s\n", e.Text, e.Line)
	default:
		g.last = e
	}
}

// tick shows a line for whatever has been silent for its pause.
func (p *plain) tick() {
	t := time.NewTicker(firstPause / 10)
	defer t.Stop()
	for {
		select {
		case <-p.stop:
			return
		case now := <-t.C:
			p.speak(now)
		}
	}
}

func (p *plain) speak(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(p.going)) {
		g := p.going[key]
		if now.Sub(g.spoke) < g.pause {
			continue
		}
		g.spoke, g.pause = now, min(2*g.pause, longestPause)
		fmt.Fprintf(p.w, "%s: %s%s so far\n", g.last.Text, g.last.amount(), took(now.Sub(g.begun)))
	}
}

func (p *plain) line(_, prefix, text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintln(p.w, prefix+text)
}

func (p *plain) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stop != nil && !p.closed {
		p.closed = true
		close(p.stop)
	}
}

// jsonLines shows every event and line as a JSON object on a line of its own. Its
// shape is a promise, told in the help of rebuild.
type jsonLines struct {
	mu sync.Mutex
	w  io.Writer
}

func (j *jsonLines) event(e event) {
	j.write(struct {
		Kind string    `json:"kind"`
		Time time.Time `json:"time"`
		event
		Seconds float64 `json:"seconds,omitempty"`
	}{"progress", time.Now().UTC(), e, e.Elapsed.Seconds()})
}

func (j *jsonLines) line(kind, _, text string) {
	j.write(struct {
		Kind string    `json:"kind"`
		Time time.Time `json:"time"`
		Text string    `json:"text"`
	}{kind, time.Now().UTC(), text})
}

func (j *jsonLines) write(v any) {
	b, err := json.Marshal(v)
	if err != nil {
		return // cannot happen: the types above hold only strings and numbers
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	_, _ = j.w.Write(append(b, '\n'))
}

func (j *jsonLines) close() {}

// bars shows a bar for everything that goes on, and a line above them for
// everything that has ended.
type bars struct {
	w    io.Writer
	mu   sync.Mutex
	pool *mpb.Progress // nil after close
	open map[string]*bar
}

// bar is one thing that goes on. Its event is read by the pool's own goroutine.
type bar struct {
	bar   *mpb.Bar
	begun time.Time
	mu    sync.Mutex
	last  event
}

// refreshRate of the bars: fast enough to look alive, slow enough to cost
// nothing over ssh.
const refreshRate = 200 * time.Millisecond

func newBars(w io.Writer) *bars {
	pool := mpb.New(mpb.WithOutput(w), mpb.WithRefreshRate(refreshRate), mpb.WithAutoRefresh())
	return &bars{w: w, pool: pool, open: map[string]*bar{}}
}

func (b *bars) event(e event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pool == nil {
		return
	}
	r := b.open[e.Key]
	if r == nil {
		if e.Done {
			if e.Note != "cached" { // took no time; a person watching has no use for it
				fmt.Fprintln(b.pool, e.doneLine())
			}
			return // a bar that ends at once would stay on the screen
		}
		r = b.add(e)
	}
	r.update(e)
	if !e.Done {
		return
	}
	delete(b.open, e.Key)
	r.bar.Abort(true)
	done := r.event()
	if done.Elapsed = e.Elapsed; done.Elapsed == 0 {
		done.Elapsed = time.Since(r.begun)
	}
	fmt.Fprintln(b.pool, done.doneLine())
}

// add begins the bar of e.
func (b *bars) add(e event) *bar {
	r := &bar{begun: time.Now(), last: e}
	fill := mpb.NopStyle()
	if e.Total > 0 {
		fill = mpb.BarStyle().Lbound("").Filler("━").Tip("━").Padding("┄").Rbound("")
	}
	r.bar = b.pool.New(e.Total, fill,
		mpb.BarWidth(24),
		mpb.BarRemoveOnComplete(),
		mpb.PrependDecorators(decor.Any(func(decor.Statistics) string { return r.event().Text + " " })),
		mpb.AppendDecorators(decor.Any(func(decor.Statistics) string { return r.tail() })),
	)
	b.open[e.Key] = r
	return r
}

func (r *bar) event() event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}

func (r *bar) update(e event) {
	r.mu.Lock()
	if e.Text == "" {
		e.Text = r.last.Text
	}
	if e.Line != "" { // says nothing of how far it is
		e.Current, e.Total, e.Bytes = r.last.Current, r.last.Total, r.last.Bytes
	}
	r.last = e
	r.mu.Unlock()
	if e.Total > 0 && !e.Done {
		r.bar.SetTotal(e.Total, false)
		r.bar.SetCurrent(min(e.Current, e.Total-1)) // the last unit would complete the bar; Done does that
	}
}

// tail is what stands behind a bar: how much, how long, and its last line of output.
func (r *bar) tail() string {
	e := r.event()
	s := " " + e.amount() + took(time.Since(r.begun))
	if e.Line != "" {
		s += "  " + e.Line
	}
	return s
}

func (b *bars) line(_, prefix, text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pool == nil {
		fmt.Fprintln(b.w, prefix+text)
		return
	}
	fmt.Fprintln(b.pool, prefix+text)
}

func (b *bars) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pool == nil {
		return
	}
	for _, r := range b.open {
		r.bar.Abort(true)
	}
	b.pool.Wait()
	b.pool = nil
}

// doneLine says that e has ended.
func (e event) doneLine() string {
	switch {
	case e.Note == "cached":
		return e.Text + ": cached"
	case e.Note != "":
		return fmt.Sprintf("%s: %s, %s", e.Text, e.Note, took(e.Elapsed))
	default:
		return fmt.Sprintf("%s: %s%s", e.Text, e.amount(), took(e.Elapsed))
	}
}

// amount is how far e is, with a comma behind it, or nothing when that is unknown.
func (e event) amount() string {
	count := func(n int64) string { return fmt.Sprint(n) }
	if e.Bytes {
		count = size
	}
	switch {
	case e.Current == 0 && e.Total == 0:
		return ""
	case e.Done && e.Current == 0: // told only when it was over
		return count(e.Total) + ", "
	case e.Total == 0 || e.Done && e.Current >= e.Total:
		return count(e.Current) + ", "
	default:
		return fmt.Sprintf("%s of %s, ", count(e.Current), count(e.Total))
	}
}

// took is a duration for people: "0.2 s", "3 min 5 s".
func took(d time.Duration) string {
	if d >= time.Minute {
		d = d.Round(time.Second)
		return fmt.Sprintf("%d min %d s", d/time.Minute, d%time.Minute/time.Second)
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

// size is a number of bytes for people, in powers of ten as disks and networks count: "1.5 MB".
func size(n int64) string {
	const units = "kMGTPE"
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	f, i := float64(n)/1000, 0
	for f >= 999.95 && i < len(units)-1 {
		f, i = f/1000, i+1
	}
	return fmt.Sprintf("%.1f %cB", f, units[i])
}
