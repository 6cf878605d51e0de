// Package attestation turns reports and agreements into signed statements and
// back. It works on bytes: no network, no clock, no files.
//
// Everything is an in-toto Statement v1 in a DSSE envelope with one signature
// and no key id, the form that cosign, Kyverno and slsa-verifier were seen to
// accept:
//
//	{"payloadType":"application/vnd.in-toto+json","payload":"<base64>","signatures":[{"keyid":"","sig":"<base64>"}]}
//
// The signature covers DSSE's pre-authentication encoding of the exact payload
// bytes. Those bytes are kept as they are; a statement's digest is the sha256
// of the payload, and nothing is encoded a second time to be hashed.
//
// # Reports
//
// A rebuilder's report ([SignReport], [OpenReport]) is SLSA Provenance v1. All
// that must be equal between rebuilders is in buildDefinition, all that may
// differ in runDetails:
//
//	subject            one per platform manifest: name, digest.sha256, annotations.platform
//	buildDefinition
//	  buildType            https://quorate.dev/buildtypes/image/v1
//	  externalParameters   name, platforms, sourceDateEpoch, definition and lock ("sha256:…"); nothing else is accepted
//	  internalParameters   assembler, lockFormat
//	  resolvedDependencies definition, lock, every package, file, pin of other inputs (purl) and local tree, sorted
//	runDetails
//	  builder              id, version.quorate
//	  metadata             invocationId = NONCE/REBUILDER/ATTEMPT, startedOn, finishedOn
//	  byproducts           step/PLATFORM/NAME, files, log
//	  quorate_operator     who says to run it
//	  quorate_environment  facts of the host, as it claims
//	  quorate_surroundings what was varied on purpose
//
// Trees of files have the digest algorithm "quorateTreeV1": the sha256 of the
// canonical listing (package tree), which is not the sha256 of any file.
//
// agreement.Report.BuildDefinition is the sha256 of buildDefinition in
// canonical JSON (RFC 8785).
//
// # Agreements
//
// An agreement ([SignAgreement]) has the predicate type
// https://quorate.dev/attestation/rebuild-agreement/v0.1 and the agreed
// manifests as subjects:
//
//	nonce, lockDigest, definitionDigest, buildDefinitionDigest
//	policyDigest          sha256 of agreement.Policy.Canonical
//	rule                  threshold, distinct, allowDissent
//	results               every rebuilder of the policy: rebuilder, operator, keyFingerprint, outcome
//	                      (agree, dissent, error, timeout), reason; and of its report, if it has one:
//	                      statementDigest, builderId, subjects, environment, surroundings
//	independentOperators  operators behind the rebuilders that agree; five rebuilders of one operator are 1
//	decision              "agree"
//	agreedOn              RFC 3339, UTC
//
// It says what was judged and claims no SLSA property. In particular it is no
// claim of SLSA_BUILD_REPRODUCED, which needs two independent operators.
//
// # Refusals
//
// That rebuilders were asked and did not agree is signed too ([SignRefusal]),
// so that a dissent leaves a trace whoever publishes what. A refusal has a
// predicate type of its own, https://quorate.dev/attestation/rebuild-refusal/v0.1;
// its subjects are the lock that was asked about and every image that somebody
// built; it has no buildDefinitionDigest and no independentOperators, and
//
//	decision              "disagree" or "inconclusive"
//	reasons               why, in sentences
//	refusedOn             RFC 3339, UTC
//
// in the place of what an agreement says. No reader of agreements opens it. One
// that a signer of the policy signed undoes an agreement about the same request.
//
// # Bundles
//
// A bundle is an in-toto attestation bundle: JSON Lines, one envelope a line,
// in a file that ends in [BundleSuffix]. It holds the rebuilders' own signed
// reports and then the agreement. [OpenBundle] opens all of them with the keys
// of the reader's policy and judges again; the agreement's signer is checked
// and compared, not believed.
//
// In a registry every statement is a referrer of the image, a Sigstore bundle
// of version 0.3 around the same envelope ([SigstoreBundle]); [Referrers]
// gathers and judges those.
//
// # Summaries
//
// A summary ([SignSummary]) is a SLSA VSA about a published image. It lists
// every statement that was used by the digest of its referrer, so that readers
// notice when one is deleted or hidden; and it claims SLSA_BUILD_REPRODUCED
// only when rebuilders of two operators agree. Its policy digest is of
// agreement.Policy.Canonical. It claims no SLSA build level.
//
// # Policies
//
// A version of a policy ([SignPolicy], [FollowPolicy]) is the one statement
// with several signatures, one for each maintainer: the file beside a policy
// holds all versions, an envelope a line. Its subject is the policy by its
// canonical digest, and its predicate lists the maintainers with their keys. As
// with TUF's root role, a version has to be signed by enough of its own
// maintainers and enough of those of the version before, so that whoever trusts
// one version can follow to the next; a reader who has seen none takes the first
// as it is given. Other than TUF's metadata a version has no time of expiry, and
// nothing says which one is the newest: what was seen is remembered, and that is all.
//
// # Images
//
// containers/image (podman, skopeo, CRI-O) knows neither statements nor
// thresholds. For it [SignImage] signs in cosign's older form that a repository
// serves a manifest, with the key that signs agreements.
package attestation

import (
	"fmt"

	"quorate.dev/lockfile/digest"
	"quorate.dev/rebuild/agreement"
)

// Types of what is signed.
const (
	PayloadType         = "application/vnd.in-toto+json"
	StatementType       = "https://in-toto.io/Statement/v1"
	ProvenancePredicate = "https://slsa.dev/provenance/v1"
	AgreementPredicate  = "https://quorate.dev/attestation/rebuild-agreement/v0.1"
	BuildType           = "https://quorate.dev/buildtypes/image/v1"
)

// BundleSuffix ends the name of a bundle's file, as in-toto's specification wants.
const BundleSuffix = ".intoto.jsonl"

// MaxBundle is the size in bytes beyond which OpenBundle refuses: the reports of
// a thousand rebuilders of an image of 200 packages.
const MaxBundle = 64 << 20

const treeAlgorithm = "quorateTreeV1" // names no algorithm of in-toto's, so nobody takes it for a file's digest

const commitAlgorithm = "gitCommit" // in-toto's, beside the sha256 of what was taken from it

// Limits of what is read. A report of 3000 packages (a desktop) is 0.6 MB in
// its envelope, so an envelope of maxEnvelope has room for a whole archive.
const (
	maxEnvelope = 16 << 20 // bytes
	maxLines    = 4 * agreement.MaxRebuilders
	maxDepth    = 16   // nested JSON values; provenance nests 6 deep
	maxFacts    = 64   // of an environment; a worker tells about 15
	maxFact     = 1024 // bytes of one fact
	maxText     = 256  // bytes of a name or version
	maxAttempts = 1000 // of one rebuilder for one job
)

// SignatureError says that a statement is not signed by the key it has to be
// signed by: it was changed, or somebody else signed it.
type SignatureError struct {
	Want  string // fingerprint of the key enrolled; "" when any key of a policy would do
	Owner string // name in the policy of the key that does verify; "" when none does
}

func (e *SignatureError) Error() string {
	switch {
	case e.Owner != "":
		return fmt.Sprintf("statement is signed with the key of %q, expected key %.16s…", e.Owner, e.Want)
	case e.Want == "":
		return "statement is not signed by any key of the policy, or was changed afterwards"
	}
	return fmt.Sprintf("signature does not verify with key %.16s…: the statement was changed, or another key signed it", e.Want)
}

// StatementError says that a statement, signed or not, is not one of ours.
type StatementError struct {
	Message string
}

func (e *StatementError) Error() string { return e.Message }

func refuse(format string, args ...any) error {
	return &StatementError{Message: fmt.Sprintf(format, args...)}
}

// descriptor is in-toto's ResourceDescriptor, as far as we use it.
type descriptor struct {
	Name             string            `json:"name,omitempty"`
	URI              string            `json:"uri,omitempty"`
	Digest           map[string]string `json:"digest,omitempty"`
	DownloadLocation string            `json:"downloadLocation,omitempty"`
	MediaType        string            `json:"mediaType,omitempty"`
	Annotations      map[string]string `json:"annotations,omitempty"`
}

// statement is in-toto's Statement v1 around a predicate.
type statement[P any] struct {
	Type          string       `json:"_type"`
	Subject       []descriptor `json:"subject"`
	PredicateType string       `json:"predicateType"`
	Predicate     P            `json:"predicate"`
}

func sha256Set(d digest.Digest) map[string]string { return map[string]string{"sha256": d.Hex()} }

func treeSet(d digest.Digest) map[string]string { return map[string]string{treeAlgorithm: d.Hex()} }

// digestOf reads a digest set that holds exactly the algorithm.
func digestOf(d descriptor, algorithm string) (digest.Digest, error) {
	hex, ok := d.Digest[algorithm]
	if !ok || len(d.Digest) != 1 {
		return digest.Digest{}, refuse("%q must have one digest, of algorithm %s", d.Name, algorithm)
	}
	v, err := digest.ParseHex(hex)
	if err != nil {
		return digest.Digest{}, refuse("%q: %v", d.Name, err)
	}
	return v, nil
}
