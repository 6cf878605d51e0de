//go:build !linux

package store

func freeBytes(string) int64 { return -1 }

// bootID is unknown here. Builds run on Linux; elsewhere a store only holds blobs and notes.
func bootID() string { return "" }
