//go:build !linux

package local

// cpus would be the numbers of the CPUs that we may use; affinity is Linux's.
func cpus() []int { return nil }
