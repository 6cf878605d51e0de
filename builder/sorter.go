package builder

import (
	"bufio"
	"bytes"
	"cmp"
	"container/heap"
	"encoding/binary"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
)

// sorter brings records into the order of their bytes, more of them than memory
// holds: what goes beyond one run is sorted, written to a file of the folder dir,
// and merged when it is read. Records that are the same are all kept.
//
//	s := &sorter{dir: dir}
//	err := s.add(record)
//	for record, err := range s.all() { … } // as often as wanted, once nothing more is added
//	err = s.close()
type sorter struct {
	dir   string // of the caller, who removes it
	limit int    // bytes of a run; 0 for runBytes

	data []byte // of the records that are in memory, one after the other
	at   []span // where each of them is
	file *os.File
	runs []span64 // in file
	size int64    // of file
}

type (
	span   struct{ start, end int }
	span64 struct{ start, end int64 }
)

// runBytes is how much of a sorter is in memory. The list of an image of 10,000
// files fits into one run; one of a million makes 100 runs, which is as many
// small buffers when they are merged.
const runBytes = 2 << 20

// mergeBuffer is what is read at once of each run.
const mergeBuffer = 16 << 10

// add adds a record, which is given in parts.
func (s *sorter) add(parts ...[]byte) error {
	start := len(s.data)
	for _, p := range parts {
		s.data = append(s.data, p...)
	}
	s.at = append(s.at, span{start, len(s.data)})
	if len(s.data) < cmp.Or(s.limit, runBytes) {
		return nil
	}
	if err := s.spill(); err != nil {
		return fmt.Errorf("cannot keep a list aside: %w", err)
	}
	return nil
}

func (s *sorter) order() {
	slices.SortFunc(s.at, func(a, b span) int { return bytes.Compare(s.data[a.start:a.end], s.data[b.start:b.end]) })
}

// spill writes the run in memory behind those of the file.
func (s *sorter) spill() (err error) {
	if s.file == nil {
		if s.file, err = os.CreateTemp(s.dir, "sorted"); err != nil {
			return err
		}
	}
	s.order()
	w := bufio.NewWriterSize(s.file, 64<<10)
	run := span64{start: s.size}
	var length [binary.MaxVarintLen64]byte
	for _, r := range s.at {
		n := binary.PutUvarint(length[:], uint64(r.end-r.start))
		w.Write(length[:n])            //nolint:errcheck // Flush tells
		w.Write(s.data[r.start:r.end]) //nolint:errcheck // as above
		s.size += int64(n + r.end - r.start)
	}
	run.end = s.size
	s.runs = append(s.runs, run)
	s.data, s.at = s.data[:0], s.at[:0]
	return w.Flush()
}

// all yields the records in order. A record is the receiver's until the next
// one; an error comes last, with a nil record.
func (s *sorter) all() iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		s.order()
		next := &merge{{memory: s}}
		for _, r := range s.runs {
			*next = append(*next, &run{file: bufio.NewReaderSize(io.NewSectionReader(s.file, r.start, r.end-r.start), mergeBuffer)})
		}
		kept := (*next)[:0]
		for _, r := range *next {
			if r.advance() {
				kept = append(kept, r)
			} else if r.err != nil {
				yield(nil, r.err)
				return
			}
		}
		*next = kept
		heap.Init(next)
		for len(*next) > 0 {
			first := (*next)[0]
			if !yield(first.record, nil) {
				return
			}
			switch {
			case first.advance():
				heap.Fix(next, 0)
			case first.err != nil:
				yield(nil, first.err)
				return
			default:
				heap.Pop(next)
			}
		}
	}
}

// close gives up the file.
func (s *sorter) close() {
	if s.file != nil {
		_ = s.file.Close()
		_ = os.Remove(s.file.Name())
		s.file = nil
	}
}

// run is a sorted list that is read record by record: of a file, or of what a
// sorter has in memory.
type run struct {
	file   *bufio.Reader
	memory *sorter
	n      int // of memory's records that were read

	record []byte
	err    error
}

// advance reads the next record and reports whether there is one.
func (r *run) advance() bool {
	if r.memory != nil {
		if r.n == len(r.memory.at) {
			return false
		}
		at := r.memory.at[r.n]
		r.record = r.memory.data[at.start:at.end]
		r.n++
		return true
	}
	length, err := binary.ReadUvarint(r.file)
	if err == io.EOF {
		return false
	}
	if err == nil {
		r.record = slices.Grow(r.record[:0], int(length))[:length]
		_, err = io.ReadFull(r.file, r.record)
	}
	if err != nil {
		r.err = fmt.Errorf("cannot read a list that was kept aside: %w", err)
	}
	return err == nil
}

// merge is a heap of runs, that with the first record on top.
type merge []*run

func (m merge) Len() int           { return len(m) }
func (m merge) Less(i, j int) bool { return bytes.Compare(m[i].record, m[j].record) < 0 }
func (m merge) Swap(i, j int)      { m[i], m[j] = m[j], m[i] }
func (m *merge) Push(x any)        { *m = append(*m, x.(*run)) }
func (m *merge) Pop() any {
	last := len(*m) - 1
	r := (*m)[last]
	*m = (*m)[:last]
	return r
}
