package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"quorate.dev/lockfile/digest"
)

// VerifyReport says what reading every blob again found.
type VerifyReport struct {
	Blobs   int             // read
	Bytes   int64           // read
	Damaged []digest.Digest // set aside; sorted
	Strange []string        // names in blobs/sha256 that are no blob's; left alone; sorted
}

// Verify reads every blob of s (not of its Inputs) and sets aside those whose
// bytes are not the promised ones. progress, if not nil, is told the bytes
// read so far and in all; it is called by one goroutine at a time. Damage is
// reported, not an error; the error is that reading had to stop.
func (s *Store) Verify(ctx context.Context, progress func(done, total int64)) (VerifyReport, error) {
	var r VerifyReport
	blobs, total, err := s.listBlobs(&r)
	if err != nil {
		return r, fmt.Errorf("cannot verify store %q: %w", s.dir, err)
	}
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0)) // hashing is bound by the processors: 1 GB/s each
	for _, d := range blobs {
		g.Go(func() error {
			n, err := s.verifyBlob(ctx, d)
			mu.Lock()
			defer mu.Unlock()
			r.Bytes += n
			var damaged *DamagedError
			switch {
			case errors.As(err, &damaged):
				r.Damaged = append(r.Damaged, d)
			case errors.Is(err, fs.ErrNotExist):
				return nil // removed meanwhile
			case err != nil:
				return err
			}
			r.Blobs++
			if progress != nil {
				progress(r.Bytes, total)
			}
			return nil
		})
	}
	err = g.Wait()
	slices.SortFunc(r.Damaged, func(a, b digest.Digest) int { return slices.Compare(a[:], b[:]) })
	if err != nil {
		return r, fmt.Errorf("cannot verify store %q: %w", s.dir, err)
	}
	return r, nil
}

func (s *Store) listBlobs(r *VerifyReport) (list []digest.Digest, total int64, err error) {
	entries, err := os.ReadDir(s.path("blobs", "sha256"))
	if err != nil {
		return nil, 0, err
	}
	for _, e := range entries {
		d, err := digest.ParseHex(e.Name())
		if err != nil || !e.Type().IsRegular() {
			r.Strange = append(r.Strange, e.Name())
			continue
		}
		if fi, err := e.Info(); err == nil {
			list, total = append(list, d), total+fi.Size()
		}
	}
	return list, total, nil
}

// verifyBlob reads one blob without marking it as used.
func (s *Store) verifyBlob(ctx context.Context, d digest.Digest) (int64, error) {
	f, err := os.Open(s.blobPath(d))
	if err != nil {
		return 0, err
	}
	r := &reader{s: s, f: f, d: d, h: digest.NewHash()}
	defer r.Close()
	var n int64
	b := buffers.Get().(*[]byte)
	defer buffers.Put(b)
	for {
		if err := ctx.Err(); err != nil {
			return n, err
		}
		k, err := r.Read(*b)
		n += int64(k)
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}
