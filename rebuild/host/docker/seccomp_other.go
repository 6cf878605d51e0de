//go:build !linux

package docker

import "errors"

// seccompProfile is not known here: the worker's image is made of this very
// program, which runs on Linux alone.
func seccompProfile() (string, error) {
	return "", errors.New("workers run on Linux; start them from there")
}
