//go:build !linux

package main

// tryFile reports why no file can be made in dir.
func tryFile(dir string) error { return makeAndRemove(dir) }
