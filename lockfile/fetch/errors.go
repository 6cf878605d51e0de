package fetch

import (
	"fmt"
	"strings"
)

// shown bounds how many items a message lists; a lock may hold thousands.
const shown = 10

// UnavailableError says that no source gave the bytes of an item.
type UnavailableError struct {
	Item  Item
	Tried []Attempt // in the order of Item.Sources
}

// Attempt is what came of one source.
type Attempt struct {
	Source string
	Err    error
}

func (e *UnavailableError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "cannot fetch %q: no source gave its bytes (%s, %d bytes)", e.Item.Name, e.Item.Digest, e.Item.Size)
	for _, a := range e.Tried {
		fmt.Fprintf(&b, "\n  %s: %v", a.Source, a.Err)
	}
	if len(e.Tried) == 0 {
		b.WriteString("\n  no source is known for it")
	}
	b.WriteString("\n  ways out: \"quorate lock\" chooses current versions; \"--mirror\" names another place, such as a snapshot of the archive at the lock's date")
	return b.String()
}

// Unwrap returns the error of every source.
func (e *UnavailableError) Unwrap() []error {
	list := make([]error, len(e.Tried))
	for i, a := range e.Tried {
		list[i] = a.Err
	}
	return list
}

// OfflineError says that bytes are needed which only the network has.
type OfflineError struct {
	Missing []string // names of the items
}

func (e *OfflineError) Error() string {
	return fmt.Sprintf("cannot fetch offline: %d of the locked inputs are not in the store: %s", len(e.Missing), quoted(e.Missing))
}

func quoted(names []string) string {
	var b strings.Builder
	for i, name := range names[:min(len(names), shown)] {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%q", name)
	}
	if more := len(names) - shown; more > 0 {
		fmt.Fprintf(&b, " and %d more", more)
	}
	return b.String()
}

// Errors is what went wrong with several items, in their order.
type Errors struct {
	List []error
}

func (e *Errors) Error() string {
	var b strings.Builder
	for i, err := range e.List[:min(len(e.List), shown)] {
		if i > 0 {
			b.WriteString("\n")
		}
		b.WriteString(err.Error())
	}
	if more := len(e.List) - shown; more > 0 {
		fmt.Fprintf(&b, "\nand %d more inputs cannot be fetched", more)
	}
	return b.String()
}

// Unwrap returns all of them.
func (e *Errors) Unwrap() []error { return e.List }

// joined returns nil, the one error there is, or an *Errors.
func joined(list []error) error {
	some := SkippedLast(list)
	switch len(some) {
	case 0:
		return nil
	case 1:
		return some[0]
	}
	return &Errors{List: some}
}
