package agreement

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"quorate.dev/lockfile/strictyaml"
	"quorate.dev/rebuild/keyfile"
)

// PolicyEdit changes a policy file and leaves its comments and its order alone.
// What it wrote is read again and held against what was meant, so a file that
// is written in a way it does not understand is refused and not spoiled.
//
//	e, err := agreement.EditPolicy("policy.yaml", data, loadKey)
//	err = e.Rotate(agreement.RoleRebuilder, "ams", "keys/ams-2027.pub", from, until)
//	data, policy, err := e.Done(8)
type PolicyEdit struct {
	file   string
	edit   *strictyaml.Edit
	load   func(path string) ([]byte, error)
	policy *Policy
}

// EditPolicy begins to change a policy file that ParsePolicy reads.
func EditPolicy(fileName string, data []byte, loadKey func(path string) ([]byte, error)) (*PolicyEdit, error) {
	policy, err := ParsePolicy(fileName, data, loadKey)
	if err != nil {
		return nil, err
	}
	edit, err := strictyaml.NewEdit(fileName, data, limits)
	return &PolicyEdit{file: fileName, edit: edit, load: loadKey, policy: policy}, err
}

// Policy returns the policy as it was read.
func (e *PolicyEdit) Policy() *Policy { return e.policy }

// held is an entry of a policy, by its place in the file.
type held struct {
	role   Role
	field  string
	index  int
	key    *keyfile.PublicKey
	term   *Term
	former *[]FormerKey
}

// find returns the entry of that name. An empty role is any, if it is the only one.
func (e *PolicyEdit) find(role Role, name string) (*held, error) {
	var found []held
	for i := range e.policy.Rebuilders {
		if r := &e.policy.Rebuilders[i]; r.Name == name {
			found = append(found, held{RoleRebuilder, "rebuilders", i, &r.Key, &r.Term, &r.Former})
		}
	}
	for _, g := range e.policy.signerGroups() {
		for i := range *g.keys {
			if s := &(*g.keys)[i]; s.Name == name {
				found = append(found, held{g.role, g.field, i, &s.Key, &s.Term, &s.Former})
			}
		}
	}
	found = slices.DeleteFunc(found, func(h held) bool { return role != "" && h.role != role })
	switch {
	case len(found) == 0 && role != "":
		return nil, fmt.Errorf("%q has no %s named %q", e.file, role, name)
	case len(found) == 0:
		return nil, fmt.Errorf("%q names no %q", e.file, name)
	case len(found) > 1:
		return nil, fmt.Errorf("%q is a %s and a %s in %q; say which: --role", name, found[0].role, found[1].role, e.file)
	}
	return &found[0], nil
}

// Rotate gives somebody a new key, from a time on. The one before becomes a
// former key, which counts for what it signs until the other time, so that both
// count in between.
func (e *PolicyEdit) Rotate(role Role, name, keyPath string, from, until time.Time) error {
	h, err := e.find(role, name)
	if err != nil {
		return err
	}
	key, err := loadPublic(keyPath, e.load)
	if err != nil {
		return err
	}
	old := FormerKey{Key: *h.key, Term: *h.term}
	if old.Until.IsZero() || until.Before(old.Until) {
		old.Until = until
	}
	path, err := e.edit.Text(h.field, h.index, "key")
	if err != nil {
		return err
	}
	at := []any{h.field, h.index}
	item := fmt.Sprintf("{key: %s%s}", path, old.Term.format())
	if len(*h.former) > 0 {
		err = e.edit.Append("former", item, at...)
	} else {
		err = e.edit.Set("former", "["+item+"]", "key", at...)
	}
	for _, change := range []func() error{
		func() error { return e.edit.Remove("valid", at...) },
		func() error { return e.edit.Remove("revoked", at...) },
		func() error { return e.edit.Set("key", string(strictyaml.AppendText(nil, keyPath)), "", at...) },
		func() error {
			return e.edit.Set("valid", "{from: "+FormatTime(from)+"}", "key", at...)
		},
	} {
		if err == nil {
			err = change()
		}
	}
	*h.former = append(*h.former, old)
	*h.key, *h.term = key, Term{From: from}
	return err
}

// Revoke says that what a key signs from a time on does not count. The zero key
// is the one that is in use now.
func (e *PolicyEdit) Revoke(role Role, name string, key keyfile.PublicKey, at time.Time, reason string) error {
	h, err := e.find(role, name)
	if err != nil {
		return err
	}
	term, path := h.term, []any{h.field, h.index}
	if !key.IsZero() && key != *h.key {
		i := slices.IndexFunc(*h.former, func(f FormerKey) bool { return f.Key == key })
		if i < 0 {
			return fmt.Errorf("key %.16s… is not one of %q in %q", key.Fingerprint(), name, e.file)
		}
		term, path = &(*h.former)[i].Term, append(path, "former", i)
	}
	if !term.Revoked.IsZero() && !at.Before(term.Revoked) {
		return fmt.Errorf("that key of %q is revoked already, at %s", name, FormatTime(term.Revoked))
	}
	term.Revoked, term.Reason = at, reason
	value := "{at: " + FormatTime(at)
	if reason != "" {
		value += ", reason: " + string(strictyaml.AppendText(nil, reason))
	}
	return e.edit.Set("revoked", value+"}", "key", path...)
}

// Newcomer is somebody to add to a policy.
type Newcomer struct {
	Role      Role
	Name      string
	KeyPath   string
	Operator  string // of a rebuilder
	BuilderID string // of a rebuilder; may be empty
	From      time.Time
	Until     time.Time
}

// Add enrols somebody.
func (e *PolicyEdit) Add(n Newcomer) error {
	key, err := loadPublic(n.KeyPath, e.load)
	if err != nil {
		return err
	}
	term := Term{From: n.From, Until: n.Until}
	text := fmt.Sprintf("{name: %s", strictyaml.AppendText(nil, n.Name))
	field := "rebuilders"
	if n.Role == RoleRebuilder {
		e.policy.Rebuilders = append(e.policy.Rebuilders, Rebuilder{Name: n.Name, Operator: n.Operator, Key: key, BuilderID: n.BuilderID, Term: term})
		text += fmt.Sprintf(", operator: %s", strictyaml.AppendText(nil, n.Operator))
	}
	for _, g := range e.policy.signerGroups() {
		if g.role == n.Role {
			field = g.field
			*g.keys = append(*g.keys, SignerKey{Name: n.Name, Key: key, Term: term})
		}
	}
	text += fmt.Sprintf(", key: %s", strictyaml.AppendText(nil, n.KeyPath))
	if n.BuilderID != "" {
		text += fmt.Sprintf(", builder-id: %q", n.BuilderID)
	}
	return e.edit.Append(field, text+term.format()+"}")
}

// Done gives the policy a version, when it has one, and returns the file and
// what it means now. The error is a *strictyaml.Errors for what cannot mean
// anything any more.
func (e *PolicyEdit) Done(version int) ([]byte, *Policy, error) {
	if e.policy.Version > 0 && version != e.policy.Version {
		if err := e.edit.Set("version", fmt.Sprint(version), ""); err != nil {
			return nil, nil, err
		}
		e.policy.Version = version
	}
	data := e.edit.Bytes()
	got, err := ParsePolicy(e.file, data, e.load)
	if err != nil {
		return nil, nil, err
	}
	if got.Digest() != e.policy.Digest() {
		return nil, nil, fmt.Errorf("cannot edit %q as it is written: the change would mean something else; edit it by hand:\n%s", e.file, differingLine(got, e.policy))
	}
	return data, got, nil
}

// differingLine is the first line of what was meant that is not there.
func differingLine(got, want *Policy) string {
	have := strings.Split(string(got.Canonical()), "\n")
	for line := range strings.Lines(string(want.Canonical())) {
		if !slices.Contains(have, strings.TrimSuffix(line, "\n")) {
			return strings.TrimSuffix(line, "\n")
		}
	}
	return ""
}
