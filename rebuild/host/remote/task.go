package remote

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"quorate.dev/lockfile/digest"
	"quorate.dev/rebuild/host"
)

// submit gives the service the job, standing before its queue while that is full.
func (t *task) submit(ctx context.Context) (*Status, error) {
	var status Status
	for begun := time.Now(); ; {
		err := t.patiently(ctx, connectTime, func(ctx context.Context) error {
			err := t.call(ctx, http.MethodPut, t.path(), t.asked, &status)
			t.submitted = t.submitted || mayHaveArrived(err)
			return err
		})
		var refused *refusedError
		switch {
		case err == nil:
			return &status, nil
		case !errors.As(err, &refused):
			return nil, t.failed("be reached", err)
		case !refused.busy() || time.Since(begun) > t.queueTime:
			return nil, t.failed("take the job", err)
		}
		after := max(refused.after, time.Second)
		t.warn("%s; asking again in %s", refused.Message, after)
		if err := sleep(ctx, after); err != nil {
			return nil, err
		}
	}
}

// mayHaveArrived says whether the other side may have taken what it was asked: a
// lost answer may have been a yes.
func mayHaveArrived(err error) bool {
	var op *net.OpError
	return err == nil || !final(err) && !(errors.As(err, &op) && op.Op == "dial")
}

// send sends the archives that the service lacks, each from where it stopped.
func (t *task) send(ctx context.Context, status *Status) error {
	for len(status.Missing) > 0 {
		next := status.Missing[0]
		err := t.patiently(ctx, t.patience, func(ctx context.Context) error {
			var now Status
			if err := t.call(ctx, http.MethodGet, t.path(), nil, &now); err != nil {
				return err
			}
			status = &now
			for _, m := range now.Missing {
				if m.Digest == next.Digest {
					return t.sendOne(ctx, m)
				}
			}
			return nil
		})
		if err == nil {
			var now Status
			err = t.patiently(ctx, t.patience, func(ctx context.Context) error { return t.call(ctx, http.MethodGet, t.path(), nil, &now) })
			status = &now
		}
		if err != nil {
			return t.lost("take the local inputs", err)
		}
	}
	return nil
}

func (t *task) sendOne(ctx context.Context, m Missing) error {
	path, ok := t.locals.Path(m.Digest)
	if !ok {
		return fmt.Errorf("it asks for %s, which is no input of the job", m.Digest)
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	have := max(0, min(m.Have, info.Size()))
	if _, err := f.Seek(have, io.SeekStart); err != nil {
		return err
	}
	ctx, wrap, stop := watch(ctx, stallTime)
	defer stop()
	a, err := t.request(ctx, http.MethodPut, t.path()+"/inputs/"+m.Digest.String()+"?offset="+strconv.FormatInt(have, 10),
		io.NopCloser(wrap(f)), info.Size()-have, nil)
	if err != nil {
		return err
	}
	return a.Body.Close()
}

// lost is an error after the job was taken: the same may well succeed at another
// attempt, unless the service has said no.
func (t *task) lost(what string, err error) error {
	var nonsense *host.ProtocolError
	if errors.As(err, &nonsense) {
		return nonsense
	}
	err = t.failed(what, err)
	if final(err) {
		return err
	}
	return &host.LostError{How: err.Error()}
}

// follow listens until the job has ended, and returns its last status.
func (t *task) follow(ctx context.Context) (*Status, error) {
	for {
		err := t.patiently(ctx, t.patience, t.listen)
		if err != nil {
			return nil, t.whileWaiting(err)
		}
		var status Status
		err = t.patiently(ctx, t.patience, func(ctx context.Context) error {
			return t.call(ctx, http.MethodGet, t.path()+"?"+listsQuery, nil, &status)
		})
		if err != nil {
			return nil, t.whileWaiting(err)
		}
		if status.Ending != nil {
			return &status, nil
		}
	}
}

func (t *task) whileWaiting(err error) error {
	var late *host.TimeoutError
	if errors.As(err, &late) {
		return err
	}
	return t.lost("say how the job goes", err)
}

// listsQuery asks for a status that tells of lists, too.
const listsQuery = "lists=1"

// errEnd is the end of a line of events before the job's.
var errEnd = errors.New("its line of events was cut")

// listen passes on what the service says of the job, until it has ended. The
// error is that the line was cut.
func (t *task) listen(ctx context.Context) error {
	ctx, wrap, stop := watch(ctx, 4*Heartbeat)
	defer stop()
	query := url.Values{"stream": {t.stream}, "after": {strconv.FormatInt(t.after, 10)}}
	a, err := t.request(ctx, http.MethodGet, t.path()+"/events?"+query.Encode(), nil, 0, nil)
	if err != nil {
		return err
	}
	defer a.Body.Close()
	lines := bufio.NewReaderSize(wrap(a.Body), 64<<10)
	for {
		line, err := readLine(lines)
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				return cause
			}
			return err
		}
		over, err := t.hear(line)
		if over || err != nil {
			return err
		}
	}
}

// readLine reads one line of at most MaxMessage bytes, without its end.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case len(line) > MaxMessage:
			return nil, &host.ProtocolError{Reason: fmt.Sprintf("a line of more than %d bytes", MaxMessage)}
		case err == nil:
			return bytes.TrimSuffix(line, []byte("\n")), nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, errEnd
		}
	}
}

// hear takes one line, and says whether the job has ended.
func (t *task) hear(line []byte) (over bool, err error) {
	m, err := readMessage(line)
	if err != nil {
		return false, err
	}
	switch {
	case m.Stream != "":
		if m.Stream != t.stream {
			t.stream, t.after = m.Stream, 0
		}
		return false, nil
	case m.Skipped > 0:
		t.warn("%d of its messages were lost while it could not be heard", m.Skipped)
		return false, nil
	case m.Seq == 0:
		return false, nil // only a sign of life
	case m.Seq <= t.after:
		return false, nil
	}
	t.after = m.Seq
	switch {
	case m.Event != nil:
		t.events(*m.Event)
	case m.State == StateQueued && m.Place > 1:
		t.events(host.Event{Kind: host.KindPhase, Phase: "queue", Name: fmt.Sprintf("waits, number %d in the queue", m.Place)})
	case m.State == StateRunning:
		t.within(t.job.Timeout, spareTime)
	case m.Commit != nil:
		return false, t.commit(*m.Commit)
	}
	return m.State == StateEnded, nil
}

// commit tells whoever waits for it that the worker has its answer, and the
// service when it may be told. Meanwhile the line is listened to.
func (t *task) commit(d digest.Digest) error {
	if t.committed != nil {
		if *t.committed != d {
			return &host.ProtocolError{Reason: "a second commitment"}
		}
		return nil
	}
	t.committed = &d
	t.within(0, 0) // waiting for others is not its fault
	t.revealing.Go(func() {
		if t.job.Reveal != nil {
			if err := t.job.Reveal(t.waiting, d); err != nil {
				t.fail(err)
				return
			}
		}
		err := t.patiently(t.waiting, t.patience, func(ctx context.Context) error {
			return t.call(ctx, http.MethodPost, t.path()+"/reveal", nil, nil)
		})
		if err != nil {
			t.fail(t.lost("be asked for its answer", err))
			return
		}
		t.within(host.RevealTime, spareTime)
	})
	return nil
}

func readMessage(line []byte) (*Message, error) {
	var m Message
	if err := json.Unmarshal(line, &m); err != nil {
		return nil, &host.ProtocolError{Reason: fmt.Sprintf("line %.100q", line)}
	}
	if m.Seq < 0 || m.Skipped < 0 || m.Place < 0 || len(m.Stream) > 100 {
		return nil, &host.ProtocolError{Reason: fmt.Sprintf("line %.100q", line)}
	}
	return &m, nil
}

// document brings a small file.
func (t *task) document(ctx context.Context, end *Ending, name string) ([]byte, error) {
	f, ok := end.file(name)
	if !ok {
		return nil, &host.ProtocolError{Reason: fmt.Sprintf("its results have no %s", name)}
	}
	var b bytes.Buffer
	err := t.patiently(ctx, t.patience, func(ctx context.Context) error {
		b.Reset()
		return t.download(ctx, f, 0, &b)
	})
	if err == nil && digest.Of(b.Bytes()) != f.Digest {
		err = otherBytes(f, digest.Of(b.Bytes()))
	}
	if err != nil {
		return nil, t.lost("give its "+name, err)
	}
	return b.Bytes(), nil
}

// takeImage brings the image's files into a new folder.
func (t *task) takeImage(ctx context.Context, files []File, to string) error {
	if err := os.Mkdir(to, 0o755); err != nil {
		return fmt.Errorf("cannot keep the worker's output: %w", err)
	}
	for _, f := range files {
		if !strings.HasPrefix(f.Path, "image/") {
			continue
		}
		// checkFiles has seen that the path stays inside.
		place := filepath.Join(filepath.Dir(to), filepath.FromSlash(f.Path))
		if err := os.MkdirAll(filepath.Dir(place), 0o755); err != nil {
			return fmt.Errorf("cannot keep the worker's output: %w", err)
		}
		if t.copyKnown(f, place) {
			continue // somebody else has built the same
		}
		if err := t.fetch(ctx, f, place); err != nil {
			return errors.Join(err, os.RemoveAll(to))
		}
	}
	return nil
}

// takeLists brings the lists of what steps left. The error is ctx's: one that cannot be had costs nothing
// but itself.
func (t *task) takeLists(ctx context.Context, files []File) error {
	dir := filepath.Join(t.job.Results, host.ListsDir)
	for _, f := range files {
		if !IsList(f.Path) {
			continue
		}
		err := os.MkdirAll(dir, 0o755)
		if err == nil {
			err = t.fetch(ctx, f, filepath.Join(t.job.Results, filepath.FromSlash(f.Path)))
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			t.warn("the lists of what its steps left are not kept: %v", err)
			return nil
		}
	}
	return nil
}

// copyKnown copies a file that this side has already, if it is what was promised.
func (t *task) copyKnown(f File, place string) bool {
	if t.job.Have == nil {
		return false
	}
	known, ok := t.job.Have(f.Digest)
	if !ok || known == place {
		return false
	}
	in, err := os.Open(known)
	if err != nil {
		return false
	}
	defer in.Close()
	out, err := os.OpenFile(place, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return false // fetch says why
	}
	_, err = io.Copy(out, digest.NewReader(in, f.Digest, f.Size))
	if errors.Join(err, out.Close()) != nil {
		_ = os.Remove(place)
		return false
	}
	return true
}

// fetch brings one file to a place that is free or a file, going on after a cut
// where it stopped.
func (t *task) fetch(ctx context.Context, f File, place string) error {
	out, err := os.OpenFile(place, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return fmt.Errorf("cannot keep the worker's output: %w", err)
	}
	err = t.patiently(ctx, t.patience, func(ctx context.Context) error {
		have, err := out.Seek(0, io.SeekEnd)
		if err != nil || have == f.Size {
			return err
		}
		return t.download(ctx, f, have, out)
	})
	if err == nil {
		err = sameBytes(out, f)
	}
	if closed := out.Close(); err == nil {
		err = closed
	}
	if err != nil {
		_ = os.Remove(place)
		return t.lost("give "+f.Path, err)
	}
	return nil
}

// sameBytes reads what has arrived once more: it came in pieces.
func sameBytes(out *os.File, f File) error {
	if _, err := out.Seek(0, io.SeekStart); err != nil {
		return err
	}
	sum := digest.NewHash()
	if _, err := io.Copy(sum, out); err != nil {
		return err
	}
	if got := digest.Sum(sum); got != f.Digest {
		return otherBytes(f, got)
	}
	return nil
}

func otherBytes(f File, got digest.Digest) error {
	return &host.ProtocolError{Reason: fmt.Sprintf("%s was promised as %s, and what came is %s", f.Path, f.Digest, got)}
}

// download brings the bytes of a file from an offset on, and no more than it has.
func (t *task) download(ctx context.Context, f File, have int64, to io.Writer) error {
	ctx, wrap, stop := watch(ctx, stallTime)
	defer stop()
	header := http.Header{}
	if have > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-", have))
	}
	a, err := t.request(ctx, http.MethodGet, t.path()+"/files/"+f.Digest.String(), nil, 0, header)
	if err != nil {
		return err
	}
	defer a.Body.Close()
	if have > 0 && a.StatusCode != http.StatusPartialContent {
		return fmt.Errorf("it gives %s from the beginning, when asked for the rest", f.Path)
	}
	n, err := io.Copy(to, io.LimitReader(wrap(a.Body), f.Size-have+1))
	switch {
	case err != nil:
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		return err
	case have+n > f.Size:
		return &host.ProtocolError{Reason: fmt.Sprintf("%s has more than the %d bytes that were promised", f.Path, f.Size)}
	case have+n < f.Size:
		return fmt.Errorf("only %d of %d bytes of %s came", have+n, f.Size, f.Path)
	}
	return nil
}
