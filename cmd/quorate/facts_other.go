//go:build !linux

package main

// hostFacts are known on Linux only, where builds run.
func hostFacts(string) map[string]string { return map[string]string{} }

// asOwnerOf calls f as who we are; workers build on Linux alone.
func asOwnerOf(_ string, f func()) { f() }

// freeHere is not known here.
func freeAt(string) int64 { return -1 }
