package gomodtest

import (
	"io/fs"
	"path"
	"time"
)

// info is a file as golang.org/x/mod/zip looks at it.
type info struct{ f file }

func (i info) Name() string       { return path.Base(i.f.name) }
func (i info) Size() int64        { return int64(len(i.f.data)) }
func (i info) Mode() fs.FileMode  { return 0o644 }
func (i info) ModTime() time.Time { return time.Time{} }
func (i info) IsDir() bool        { return false }
func (i info) Sys() any           { return nil }
