//go:build !linux

package image

import "errors"

func exchange(_, _ string) error { return errors.ErrUnsupported }
