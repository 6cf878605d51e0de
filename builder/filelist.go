package builder

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"iter"

	"quorate.dev/builder/sbom"
)

// fileList is an image's files with their origins, in order twice: by path, and
// by part. It implements sbom.Files.
type fileList struct {
	parts          []sbom.Part // sorted by Key; set before the first add
	byPath, byPart *sorter

	places map[string]uint32 // of parts, by key
	record []byte            // scratch
}

// noPart is the place of files that belong to no part: behind all others.
const noPart = 1<<32 - 1

func newFileList(dir string) *fileList {
	return &fileList{byPath: &sorter{dir: dir}, byPart: &sorter{dir: dir}}
}

func (l *fileList) close() {
	l.byPath.close()
	l.byPart.close()
}

// add appends a file. A record of byPath is the path, NUL, sha256, SHA-1, the
// place of the part (4 bytes) and what is said of the file; in byPart the place
// stands once more, before all.
func (l *fileList) add(f *sbom.File) error {
	if l.places == nil {
		l.places = map[string]uint32{"": noPart}
		for i, p := range l.parts {
			l.places[p.Key] = uint32(i)
		}
	}
	place, ok := l.places[f.Part]
	if !ok {
		return fmt.Errorf("%q is said to come from %q, which is no part of the image", f.Path, f.Part)
	}
	r := append(l.record[:0], f.Path...)
	r = append(r, 0)
	r = append(r, f.SHA256[:]...)
	r = append(r, f.SHA1[:]...)
	r = binary.BigEndian.AppendUint32(r, place)
	l.record = append(r, f.How...)
	if err := l.byPath.add(l.record); err != nil {
		return err
	}
	return l.byPart.add(binary.BigEndian.AppendUint32(nil, place), l.record)
}

func (l *fileList) read(f *sbom.File, record []byte) {
	at := bytes.IndexByte(record, 0)
	f.Path = string(record[:at])
	record = record[at+1:]
	record = record[copy(f.SHA256[:], record):]
	record = record[copy(f.SHA1[:], record):]
	f.Part = ""
	if place := binary.BigEndian.Uint32(record); place != noPart {
		f.Part = l.parts[place].Key
	}
	f.How = string(record[4:])
}

// ByPath implements sbom.Files.
func (l *fileList) ByPath() iter.Seq2[*sbom.File, error] { return l.each(l.byPath, 0) }

// ByPart implements sbom.Files.
func (l *fileList) ByPart() iter.Seq2[*sbom.File, error] { return l.each(l.byPart, 4) }

func (l *fileList) each(s *sorter, skip int) iter.Seq2[*sbom.File, error] {
	return func(yield func(*sbom.File, error) bool) {
		var f sbom.File
		for record, err := range s.all() {
			if err != nil {
				yield(nil, err)
				return
			}
			l.read(&f, record[skip:])
			if !yield(&f, nil) {
				return
			}
		}
	}
}
