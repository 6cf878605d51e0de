package docker

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/docker/docker/api/types/volume"

	"quorate.dev/builder/store"
	"quorate.dev/lockfile"
	"quorate.dev/lockfile/digest"
	"quorate.dev/rebuild/host"
)

// Locked inputs are moved to an engine once. It keeps them in a volume, as a
// store of verified blobs (package builder/store), one for each user that rows
// run workers as:
//
//	quorate-inputs-0, quorate-inputs-1000     with the label dev.quorate.inputs
//
// Before a worker starts, a small container asks for what the store lacks:
//
//	to it     HEX SIZE\n … \n          what the job needs; an empty line ends it
//	from it   HEX\n … .\n              what it lacks
//	to it     a tar of files named HEX
//
// It checks each digest before it keeps a blob, and so does every worker that
// reads one. Local inputs are not kept: they go into the job's own volume.

// input is a blob that a job needs.
type input struct {
	name   string
	digest digest.Digest
	size   int64
}

// inputsOf lists the blobs that the lock names for the job's platforms, each once.
func inputsOf(job host.Job) ([]input, error) {
	lock, err := lockfile.Parse(lockfile.FileName, job.Lock)
	if err != nil {
		return nil, err
	}
	var list []input
	seen := map[digest.Digest]bool{}
	add := func(in input) {
		if !seen[in.digest] {
			seen[in.digest] = true
			list = append(list, in)
		}
	}
	wanted := map[string]bool{}
	for _, p := range job.Platforms {
		wanted[p] = true
	}
	for _, p := range lock.Platforms {
		if len(wanted) > 0 && !wanted[p.Platform.String()] {
			continue
		}
		for _, pin := range p.Packages {
			add(input{pin.Name + " " + pin.Version, pin.SHA256, pin.Size})
		}
	}
	for _, f := range lock.Files {
		add(input{"file " + f.Name, f.SHA256, f.Size})
	}
	for _, pin := range lock.Pins {
		if pin.Platform == "" || len(wanted) == 0 || wanted[pin.Platform] {
			add(input{pin.Name + " " + pin.Version, pin.SHA256, pin.Size})
		}
	}
	return list, nil
}

// keptTime is how long an engine keeps an input that nobody uses.
const keptTime = 30 * 24 * time.Hour

// maxInputs bounds what one job may ask for: a lock has 10,000 packages at most.
const maxInputs = 20_000

// ReceiveInputs is the small container's side: it puts what the store lacks into it.
func ReceiveInputs(ctx context.Context, dir string, in io.Reader, out io.Writer) error {
	s, err := store.Open(dir, store.Options{})
	if err != nil {
		return err
	}
	defer s.Close()
	r := bufio.NewReader(in)
	lacks, err := lackingOf(s, r)
	if err != nil {
		return err
	}
	for d := range lacks {
		if _, err := fmt.Fprintln(out, d.Hex()); err != nil {
			return err
		}
	}
	if _, err := fmt.Fprintln(out, "."); err != nil {
		return err
	}
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("inputs are no archive: %w", err)
		}
		d, err := digest.ParseHex(h.Name)
		if size, wanted := lacks[d]; err != nil || !wanted || size != h.Size {
			return fmt.Errorf("inputs hold %.80q of %d bytes, which was not asked for", h.Name, h.Size)
		}
		if err := s.Put(t, d, h.Size); err != nil {
			return err
		}
	}
	// Others may be using it; then it is somebody else's turn.
	_, _ = s.GC(ctx, store.GCOptions{OlderThan: keptTime})
	return nil
}

// lackingOf reads what is wanted and returns what is not there, with its size.
func lackingOf(s *store.Store, r *bufio.Reader) (map[digest.Digest]int64, error) {
	lacks := map[digest.Digest]int64{}
	for n := 0; ; n++ {
		line, err := r.ReadString('\n')
		if err != nil || n > maxInputs {
			return nil, errors.New("the list of inputs has no end")
		}
		if line == "\n" {
			return lacks, nil
		}
		hex, text, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		d, err := digest.ParseHex(hex)
		size, err2 := strconv.ParseInt(text, 10, 64)
		if err != nil || err2 != nil || size < 0 {
			return nil, fmt.Errorf("list of inputs: line %.80q", line)
		}
		if !s.Has(d, size) {
			lacks[d] = size
		}
	}
}

// inputsVolume makes the volume of inputs for a row's user, if there is none.
func (e *engine) inputsVolume(ctx context.Context, row Row) (string, error) {
	name := fmt.Sprintf("quorate-inputs-%d", row.uid)
	if _, err := e.api.VolumeCreate(ctx, volume.CreateOptions{Name: name, Labels: map[string]string{inputsLabel: strconv.Itoa(row.uid)}}); err != nil {
		return "", e.failed("make the volume of inputs", err)
	}
	return name, nil
}

// bring sees to it that the engine has the job's inputs. moved is called with what is moved.
func (e *engine) bring(ctx context.Context, job host.Job, row Row, moved func(int64, int64)) (err error) {
	if job.InputStore == "" {
		return nil
	}
	inputs, err := inputsOf(job)
	if err != nil || len(inputs) == 0 {
		return err
	}
	from, err := store.Open(job.InputStore, store.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	defer from.Close()
	c, err := e.create(ctx, containerSpec{row: row, args: []string{"worker", "--inputs", inputsDir}, inputs: true}, func(string, ...any) {})
	if err != nil {
		return err
	}
	defer func() {
		if removed := c.remove(ctx); err == nil && removed != nil {
			err = removed
		}
	}()
	toIt, ours := io.Pipe()
	fromIt, its := io.Pipe()
	log := &limited{max: maxSmall}
	sent := make(chan error, 1)
	go func() {
		err := offer(ours, fromIt, inputs, from, moved)
		ours.CloseWithError(err) // nil is io.EOF
		sent <- err
		_, _ = io.Copy(io.Discard, fromIt)
	}()
	var end ending
	err = c.run(ctx, streams{in: toIt, out: its, log: log}, &end)
	its.CloseWithError(io.ErrUnexpectedEOF)
	toIt.CloseWithError(errEnded) // ends offer, which would wait for ever
	offered := <-sent
	var missing *inputError
	switch {
	case errors.As(offered, &missing):
		return offered
	case err != nil:
		return err
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case end.lost != nil:
		return e.failed("take the inputs", end.lost)
	case end.how() != "":
		return e.failed("take the inputs", end.complaint(log))
	}
	return e.wrapped("take the inputs", offered)
}

// errEnded is that there is nobody to send to.
var errEnded = errors.New("the container has ended")

// offer says what the job needs and sends what is lacking.
func offer(to io.Writer, from io.Reader, inputs []input, store *store.Store, moved func(done, total int64)) error {
	byHex := map[string]input{}
	list := bufio.NewWriter(to)
	for _, in := range inputs {
		byHex[in.digest.Hex()] = in
		fmt.Fprintf(list, "%s %d\n", in.digest.Hex(), in.size)
	}
	fmt.Fprintln(list)
	if err := list.Flush(); err != nil {
		return err
	}
	var lacks []input
	var total, done int64
	lines := bufio.NewScanner(from)
	for ended := false; !ended; {
		if !lines.Scan() {
			return errors.Join(errors.New("it does not say what it lacks"), lines.Err())
		}
		in, ok := byHex[lines.Text()]
		switch {
		case lines.Text() == ".":
			ended = true
		case !ok:
			return fmt.Errorf("it asks for %.80q, which no input is", lines.Text())
		default:
			delete(byHex, lines.Text()) // each once
			lacks, total = append(lacks, in), total+in.size
		}
	}
	t := tar.NewWriter(to)
	for _, in := range lacks {
		if err := packBlob(t, in.digest.Hex(), in, store, 0); err != nil {
			return err
		}
		done += in.size
		moved(done, total)
	}
	return t.Close()
}

// packBlob writes one blob as a file of a tar.
func packBlob(t *tar.Writer, name string, in input, from *store.Store, uid int) error {
	file, ok := from.Path(in.digest)
	if !ok {
		return &inputError{in.name, errors.New("the store does not have it")}
	}
	info, err := os.Stat(file)
	if err != nil {
		return &inputError{in.name, err}
	}
	r, err := from.Open(in.digest)
	if err != nil {
		return &inputError{in.name, err}
	}
	defer r.Close()
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: info.Size(), Uid: uid, Gid: uid, ModTime: time.Unix(0, 0)}
	if err := t.WriteHeader(h); err != nil {
		return err
	}
	var source readError
	source.r = r
	if _, err := io.Copy(t, &source); err != nil {
		if source.err != nil {
			return &inputError{in.name, source.err}
		}
		return err
	}
	return nil
}

// inputError is an input that cannot be read on this side.
type inputError struct {
	name string
	err  error
}

func (e *inputError) Error() string { return fmt.Sprintf("cannot send %s: %v", e.name, e.err) }
func (e *inputError) Unwrap() error { return e.err }

// readError remembers that it was reading that failed, and not writing.
type readError struct {
	r   io.Reader
	err error
}

func (e *readError) Read(b []byte) (int, error) {
	n, err := e.r.Read(b)
	if err != nil && err != io.EOF {
		e.err = err
	}
	return n, err
}
