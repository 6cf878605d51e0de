package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"quorate.dev/builder/filelock"
	"quorate.dev/rebuild/agreement"
	"quorate.dev/rebuild/attestation"
)

// Limits of the files of a policy; the parsers have their own, which say more.
const (
	largestPolicy  = 4 << 20  // bytes; a policy of a thousand rebuilders has 0.2 MB
	largestHistory = 16 << 20 // bytes; a little above what attestation.OpenPolicyHistory takes
)

// readPolicy reads a policy file that is to be judged by; keys that it names
// lie beside it. See endorse for what a signed one has to hold out.
func readPolicy(path string) (*agreement.Policy, error) {
	policy, _, err := readEndorsed(path)
	return policy, err
}

// readEndorsed is readPolicy that also says who signed the policy.
func readEndorsed(path string) (*agreement.Policy, *endorsement, error) {
	data, err := readSmallFile(path, largestPolicy)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot read policy: %w", err)
	}
	policy, err := agreement.ParsePolicy(path, data, besides(path))
	if err != nil {
		return nil, nil, err
	}
	e, err := endorse(path, policy)
	return policy, e, err
}

// besides reads key files by their path relative to a policy file.
func besides(path string) func(key string) ([]byte, error) {
	return func(key string) ([]byte, error) {
		if !filepath.IsAbs(key) {
			key = filepath.Join(filepath.Dir(path), key)
		}
		return readSmallFile(key, largestKey)
	}
}

// endorsement is who stands behind a policy.
type endorsement struct {
	Name    string   `json:"name,omitempty"`
	Version int      `json:"version,omitempty"`
	Signers []string `json:"signers,omitempty"` // maintainers of this version who signed it
	First   bool     `json:"firstSeen,omitempty"`
}

func (e *endorsement) say() string {
	switch {
	case e.Name == "":
		return ""
	case len(e.Signers) == 0:
		return fmt.Sprintf("policy %s, version %d, is not signed", e.Name, e.Version)
	case e.First:
		return fmt.Sprintf("policy %s, version %d, signed by %s; it is seen for the first time, and taken as it is given", e.Name, e.Version, strings.Join(e.Signers, ", "))
	}
	return fmt.Sprintf("policy %s, version %d, signed by %s", e.Name, e.Version, strings.Join(e.Signers, ", "))
}

// historyPath is where the signatures of a policy file lie: policy.yaml has policy.intoto.jsonl.
func historyPath(policy string) string {
	return strings.TrimSuffix(policy, filepath.Ext(policy)) + attestation.BundleSuffix
}

// readHistory reads the signatures beside a policy file; nil when there are none.
func readHistory(policy string) ([]*attestation.PolicyVersion, error) {
	return openHistory(historyPath(policy))
}

func openHistory(path string) ([]*attestation.PolicyVersion, error) {
	data, err := readSmallFile(path, largestHistory)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the signatures of the policy: %w", err)
	}
	history, err := attestation.OpenPolicyHistory(data)
	if err != nil {
		return nil, fmt.Errorf("cannot read the signatures of the policy in %q: %w", path, err)
	}
	return history, nil
}

// endorse holds a policy with a name against its signatures and against what
// this user has seen of it, which it then remembers: one file for each name,
// that holds the newest version seen. A policy without a name is the user's own
// file, and so is one that nobody signed, until it was seen signed.
func endorse(path string, policy *agreement.Policy) (*endorsement, error) {
	if policy.Name == "" {
		return &endorsement{}, nil
	}
	memory, err := stateDir("policies", policy.Name+attestation.BundleSuffix)
	if err != nil {
		return nil, err
	}
	history, err := readHistory(path)
	if err != nil {
		return nil, err
	}
	for {
		e, err := endorseOnce(path, policy, history, memory)
		if !errors.Is(err, errSeenMeanwhile) {
			return e, err
		}
	}
}

// errSeenMeanwhile says that another process remembered a version while this one looked.
var errSeenMeanwhile = errors.New("another version was seen meanwhile")

func endorseOnce(path string, policy *agreement.Policy, history []*attestation.PolicyVersion, memory string) (*endorsement, error) {
	seen, err := newestSeen(memory)
	if err != nil {
		return nil, fmt.Errorf("what was seen of policy %q before: %w", policy.Name, err)
	}
	e := &endorsement{Name: policy.Name, Version: policy.Version}
	if len(history) == 0 && seen == nil {
		return e, nil
	}
	now, err := attestation.FollowPolicy(policy, history, seen)
	if err != nil {
		return nil, &untrustedPolicyError{err: err, path: path, memory: memory, seen: seen, unsigned: len(history) == 0}
	}
	e.Signers, e.First = now.SignedBy(now), seen == nil
	if seen != nil && seen.Version == now.Version {
		return e, nil
	}
	if err := remember(memory, seen, now); err != nil {
		return nil, fmt.Errorf("cannot remember that version %d of policy %q was seen: %w", now.Version, policy.Name, err)
	}
	return e, nil
}

// newestSeen is the version that a memory holds; nil when none was seen.
func newestSeen(memory string) (*attestation.PolicyVersion, error) {
	remembered, err := openHistory(memory)
	if err != nil || len(remembered) == 0 {
		return nil, err
	}
	return remembered[len(remembered)-1], nil
}

// remember replaces what a memory holds, seen, by now. It returns
// errSeenMeanwhile when that is no longer what it holds: the newer of two
// versions could be forgotten for the older one otherwise.
func remember(memory string, seen, now *attestation.PolicyVersion) error {
	data, err := attestation.WritePolicyHistory([]*attestation.PolicyVersion{now})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(memory), 0o700); err != nil {
		return err
	}
	claim, err := os.OpenFile(memory+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer claim.Close()
	if err := filelock.Wait(claim, filelock.Exclusive); err != nil {
		return err
	}
	there, err := newestSeen(memory)
	if err != nil {
		return err
	}
	if (there == nil) != (seen == nil) || there != nil && there.Version != seen.Version {
		return errSeenMeanwhile
	}
	return replaceFile(memory, data)
}

// untrustedPolicyError is a policy that is not what its maintainers signed, or
// not the newest that was seen.
type untrustedPolicyError struct {
	err          error
	path, memory string
	seen         *attestation.PolicyVersion
	unsigned     bool
}

func (e *untrustedPolicyError) Error() string {
	if e.unsigned {
		return fmt.Sprintf("policy %q in %q is not signed, but version %d was seen signed", e.seen.Name, e.path, e.seen.Version)
	}
	return fmt.Sprintf("%q: %v", e.path, e.err)
}

func (e *untrustedPolicyError) Unwrap() error { return e.err }

func (e *untrustedPolicyError) Hint() string {
	if e.unsigned {
		return fmt.Sprintf("get %q from where the policy comes from, too; if you mean another policy, give it another name", filepath.Base(historyPath(e.path)))
	}
	if e.seen == nil {
		return fmt.Sprintf("`quorate policy show %s` says who has signed and who must", e.path)
	}
	return fmt.Sprintf("get the newest policy from its maintainers; to begin anew, trusting nothing that was seen, remove %q", e.memory)
}
