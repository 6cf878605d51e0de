//go:build !linux

package builder

import (
	"errors"
	"io"
)

// errOnlyLinux is never met: package sandbox refuses first on other systems.
var errOnlyLinux = errors.New("roots can only be made on Linux")

func extract(io.Reader, io.Writer) error { return errOnlyLinux }
func scan(io.Reader, io.Writer) error    { return errOnlyLinux }
func remove(io.Reader, io.Writer) error  { return errOnlyLinux }
func stamp(io.Reader, io.Writer) error   { return errOnlyLinux }
