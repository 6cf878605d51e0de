package fetch

import (
	"errors"
	"fmt"
	"sync/atomic"
)

// enoughInVain is how many things in a row may fail to come, each after all its
// attempts, before the others are not asked for any more: three rounds of the eight
// that are asked for at once. A host that hangs costs minutes then; asked for
// 10,000 packages, one after the other, it cost days.
const enoughInVain = 24

// Vain notices that asking on is useless: that nothing came for long, for
// reasons that may pass but do not. Things that are not there do not count, since
// that is known at once, and each wants to be named. Its methods may be called by
// several goroutines at once.
type Vain struct{ n atomic.Int32 }

// Note takes what became of one thing, nil when it came.
func (v *Vain) Note(err error) {
	switch {
	case err == nil:
		v.n.Store(0)
	case mayPass(err):
		v.n.Add(1)
	}
}

// Skip returns an error for a thing that is not to be asked for any more; nil
// while it is.
func (v *Vain) Skip(name string) error {
	if v.n.Load() < enoughInVain {
		return nil
	}
	return &SkippedError{name}
}

// mayPass reports whether any of an error's causes is one that asking again can mend.
func mayPass(err error) bool {
	var several interface{ Unwrap() []error }
	if errors.As(err, &several) {
		for _, one := range several.Unwrap() {
			if mayPass(one) {
				return true
			}
		}
		return false
	}
	return !final(err)
}

// SkippedError says that something was not asked for, since nothing came before it.
type SkippedError struct{ Name string }

func (e *SkippedError) Error() string {
	return fmt.Sprintf("%q was not asked for: none of the %d before it could be had", e.Name, enoughInVain)
}

// SkippedLast returns errors in their order, those of what was not asked for
// behind all others: they tell no reason.
func SkippedLast(errs []error) []error {
	var told, skipped []error
	for _, err := range errs {
		var s *SkippedError
		switch {
		case err == nil:
		case errors.As(err, &s):
			skipped = append(skipped, err)
		default:
			told = append(told, err)
		}
	}
	return append(told, skipped...)
}
