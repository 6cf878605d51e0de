//go:build !linux

package docker

// self is not known here: only time tells what is dead.
func self() owner { return owner{} }

func processStart(string) string { return "" }
