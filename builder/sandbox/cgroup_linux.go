//go:build amd64 || arm64

package sandbox

// groups makes control groups for commands.
type groups struct{}

type group struct{}

func findGroups() *groups { return nil }

func (g *group) exceeded(Limits) error { return nil }
