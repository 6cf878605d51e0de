//go:build !linux

package local

// root returns where work folders go; there is no memory file system here.
func (h *Host) root(string) (string, bool) { return h.Scratch, false }
