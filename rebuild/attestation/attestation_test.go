package attestation

import (
	"bytes"
	"context"
	"crypto"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	provenancepb "github.com/in-toto/attestation/go/predicates/provenance/v1"
	spb "github.com/in-toto/attestation/go/v1"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	"google.golang.org/protobuf/encoding/protojson"

	"quorate.dev/lockfile"
	"quorate.dev/lockfile/definition"
	"quorate.dev/lockfile/digest"
	"quorate.dev/rebuild/agreement"
	"quorate.dev/rebuild/keyfile"
)

var ctx = context.Background()

// testKeys loads the keys of testPEM.
var testKeys = sync.OnceValue(func() []*keyfile.Key {
	dir, err := os.MkdirTemp("", "quorate-keys-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	var keys []*keyfile.Key
	for block := range strings.SplitAfterSeq(testPEM, "-----END PRIVATE KEY-----\n") {
		if block == "" {
			continue
		}
		path := filepath.Join(dir, "key")
		if err := os.WriteFile(path, []byte(block), 0o600); err != nil {
			panic(err)
		}
		key, err := keyfile.Load(path, nil)
		if err != nil {
			panic(err)
		}
		keys = append(keys, key)
	}
	return keys
})

// testPEM holds private keys that are used nowhere else: a, b, c, release, stranger.
// They are constant so that all processes of a fuzzing run have the same.
const testPEM = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg7w6LAv8XTrAcoU5u
O/KhCMoZTjoIvHwPMrBS2B+6wlmhRANCAAQ8Whca3sRMuenH9zswGtbD6xKC+0kB
iEzeuP79NXt5Zf2Gx6CmceoZHPdvtool06AfcMFqjcUoFW/++cF39sb9
-----END PRIVATE KEY-----
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgDf6TI+obIXjOkAxd
kRPyyhCvvkc91GsCVKn68tJkr9KhRANCAASChy+t2lv7Gic0zLHfILqeWj7aXBdT
q5lbaUktR3L5XXN7w34Em1btk9yiQ3uOD7d7bVXyi73N7etqsRL+ZGgl
-----END PRIVATE KEY-----
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgzO1sF9x1X96rNTc5
M8hmrUjzfdfTqzhb0gk14L6/zl+hRANCAARO3mVM4vaYLi7/ElMQl9xoSJY7ZLMY
LX7vggsarj7L3EoHzOPYw4qG1lK1u4dlT4wRUPbJnBomKl8yyVINgwbQ
-----END PRIVATE KEY-----
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgvJIuHK0t0bkFJKtx
ymt8KHaA8XhB32fcyXP+vrPaVGChRANCAASB6+IbK2a5j4PNOGA59uf8GtJcuQBI
D2F5NcjaJJL5WinGhCqF0iHNAhp1juJ58ZCFZUiyB7YSCtlKc4hnmvfq
-----END PRIVATE KEY-----
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgYNw8eUPTJ181idPK
nYHiCbeo4vj7JLbZHYl+7Nd6F7ihRANCAATgcCFCHTNRUFCS28MnyTlVXmteEZQh
B3w6L9WdZIv7MylFID7ig2wLQAlxEoDvCTurk3yiUkyJ6lxgk8SZTdYe
-----END PRIVATE KEY-----
`

func keyOf(name string) *keyfile.Key {
	return testKeys()[strings.Index("abcrs", name[:1])]
}

func of(s string) digest.Digest { return digest.Of([]byte(s)) }

var amd64 = definition.Platform{OS: "linux", Architecture: "amd64"}

// record is what a worker knows after building the image.
func record(who, image string, change ...func(*BuildRecord)) BuildRecord {
	r := BuildRecord{
		Rebuilder: who, BuilderID: "https://acme.example/builders/" + who, Operator: "acme",
		Nonce: "0123456789abcdef", Attempt: 1, Version: "0.1.0",
		Name: "greeter", Platforms: []definition.Platform{amd64}, Epoch: time.Unix(1793491200, 0), Assembler: 3,
		Definition: of("quorate.yaml"), LockDigest: of("quorate.lock"),
		Lock: &lockfile.Lock{
			Format: 1, Assembler: 3, Requests: lockfile.Requests{Suite: "bookworm"},
			Files: []lockfile.File{{Name: "logo", URL: "https://example.org/logo.tar.gz", SHA256: of("logo")}},
			Platforms: []lockfile.Platform{
				{Platform: amd64, Packages: []lockfile.Package{
					{Name: "g++", Version: "4:12.2.0-3", Arch: "amd64", SHA256: of("g++")},
					{Name: "tzdata", Version: "2024a-0+deb12u1", Arch: "all", SHA256: of("tzdata")},
				}},
				{Platform: definition.Platform{OS: "linux", Architecture: "arm64"}, Packages: []lockfile.Package{
					{Name: "g++", Version: "4:12.2.0-3", Arch: "arm64", SHA256: of("g++ arm64")},
				}},
			},
		},
		Locals:       []Local{{Name: "app", Tree: of("app")}},
		Subjects:     []agreement.Subject{{Name: "greeter", Platform: "linux/amd64", Digest: of(image)}},
		Steps:        []agreement.StepDigest{{Platform: "linux/amd64", Step: "compile", Tree: of("out")}},
		FileList:     of("files"),
		Log:          of("log of " + who),
		Environment:  map[string]string{"kernel": "6.1.0-" + who, "cpu-vendor": "GenuineIntel"},
		Surroundings: map[string]string{"cpus": "1"},
		Started:      time.Unix(1793500000, 5), Finished: time.Unix(1793500060, 0),
	}
	for _, c := range change {
		c(&r)
	}
	return r
}

func signed(t testing.TB, who, image string, change ...func(*BuildRecord)) []byte {
	t.Helper()
	envelope, err := SignReport(ctx, record(who, image, change...), keyOf(who))
	if err != nil {
		t.Fatal(err)
	}
	return envelope
}

func payloadOf(t testing.TB, envelope []byte) []byte {
	t.Helper()
	s, err := unpack(envelope)
	if err != nil {
		t.Fatal(err)
	}
	return s.payload
}

const wantReport = `{"_type":"https://in-toto.io/Statement/v1","predicate":{"buildDefinition":{` +
	`"buildType":"https://quorate.dev/buildtypes/image/v1",` +
	`"externalParameters":{"definition":"DEFINITION","lock":"LOCK","name":"greeter","platforms":["linux/amd64"],"sourceDateEpoch":"1793491200"},` +
	`"internalParameters":{"assembler":"3","lockFormat":"1"},"resolvedDependencies":[` +
	`{"digest":{"sha256":"G++"},"uri":"pkg:deb/debian/g%2B%2B@4:12.2.0-3?arch=amd64&distro=bookworm"},` +
	`{"digest":{"sha256":"TZDATA"},"uri":"pkg:deb/debian/tzdata@2024a-0%2Bdeb12u1?arch=all&distro=bookworm"},` +
	`{"digest":{"sha256":"DEFHEX"},"mediaType":"application/yaml","name":"definition","uri":"quorate.yaml"},` +
	`{"digest":{"sha256":"LOGO"},"downloadLocation":"https://example.org/logo.tar.gz","name":"file/logo",` +
	`"uri":"pkg:generic/logo?checksum=sha256:LOGO&download_url=https%3A%2F%2Fexample.org%2Flogo.tar.gz"},` +
	`{"digest":{"quorateTreeV1":"APP"},"name":"local/app"},` +
	`{"digest":{"sha256":"LOCKHEX"},"mediaType":"application/yaml","name":"lock","uri":"quorate.lock"}]},` +
	`"runDetails":{"builder":{"id":"https://acme.example/builders/a","version":{"quorate":"0.1.0"}},"byproducts":[` +
	`{"digest":{"sha256":"FILES"},"name":"files"},{"digest":{"sha256":"LOG"},"name":"log"},` +
	`{"annotations":{"platform":"linux/amd64"},"digest":{"quorateTreeV1":"OUT"},"name":"step/compile"}],` +
	`"metadata":{"finishedOn":"2026-11-01T02:27:40Z","invocationId":"0123456789abcdef/a/1","startedOn":"2026-11-01T02:26:40Z"},` +
	`"quorate_environment":{"cpu-vendor":"GenuineIntel","kernel":"6.1.0-a"},"quorate_operator":"acme","quorate_surroundings":{"cpus":"1"}}},` +
	`"predicateType":"https://slsa.dev/provenance/v1","subject":[{"annotations":{"platform":"linux/amd64"},"digest":{"sha256":"IMAGE"},"name":"greeter"}]}`

func TestReportBytes(t *testing.T) {
	want := strings.NewReplacer(
		"DEFINITION", of("quorate.yaml").String(), "LOCKHEX", of("quorate.lock").Hex(), "LOCK", of("quorate.lock").String(), "DEFHEX", of("quorate.yaml").Hex(),
		"G++", of("g++").Hex(), "TZDATA", of("tzdata").Hex(), "LOGO", of("logo").Hex(), "APP", of("app").Hex(),
		"FILES", of("files").Hex(), "LOG", of("log of a").Hex(), "OUT", of("out").Hex(), "IMAGE", of("x").Hex(),
	).Replace(wantReport)
	got := string(payloadOf(t, signed(t, "a", "x")))
	if diff := cmp.Diff(strings.Split(want, ","), strings.Split(got, ",")); diff != "" {
		t.Error(diff)
	}
}

func TestOpenReport(t *testing.T) {
	envelope := signed(t, "a", "x")
	got, err := OpenReport(envelope, keyOf("a").Public())
	if err != nil {
		t.Fatal(err)
	}
	want := &agreement.Report{
		Rebuilder: "a", KeyFingerprint: keyOf("a").Public().Fingerprint(), BuilderID: "https://acme.example/builders/a", Operator: "acme",
		Nonce: "0123456789abcdef", Attempt: 1,
		Lock: of("quorate.lock"), Definition: of("quorate.yaml"), BuildDefinition: got.BuildDefinition,
		Subjects:    []agreement.Subject{{Name: "greeter", Platform: "linux/amd64", Digest: of("x")}},
		Steps:       []agreement.StepDigest{{Platform: "linux/amd64", Step: "compile", Tree: of("out")}},
		FileList:    of("files"),
		Log:         of("log of a"),
		Environment: map[string]string{"kernel": "6.1.0-a", "cpu-vendor": "GenuineIntel"}, Surroundings: map[string]string{"cpus": "1"},
		Started: time.Unix(1793500000, 0).UTC(), Finished: time.Unix(1793500060, 0).UTC(),
		Statement: digest.Of(payloadOf(t, envelope)),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// What must be equal is in buildDefinition, what may differ is not.
func TestBuildDefinition(t *testing.T) {
	definitionOf := func(change ...func(*BuildRecord)) digest.Digest {
		t.Helper()
		r := record("a", "x", change...)
		payload, err := r.payload()
		if err != nil {
			t.Fatal(err)
		}
		report, err := parseReport(payload)
		if err != nil {
			t.Fatal(err)
		}
		return report.BuildDefinition
	}
	base := definitionOf()
	for summary, change := range map[string]func(*BuildRecord){
		"rebuilder": func(r *BuildRecord) { r.Rebuilder, r.BuilderID, r.Operator = "b", "https://b.example", "umbra" },
		"request":   func(r *BuildRecord) { r.Nonce, r.Attempt = "other", 2 },
		"times":     func(r *BuildRecord) { r.Started, r.Finished = r.Started.Add(time.Hour), r.Finished.Add(2*time.Hour) },
		"host":      func(r *BuildRecord) { r.Environment, r.Surroundings, r.Version = nil, nil, "" },
		"result": func(r *BuildRecord) {
			r.Subjects[0].Digest, r.Steps, r.FileList, r.Log = of("y"), nil, digest.Digest{}, digest.Digest{}
		},
		"order of the lock": func(r *BuildRecord) {
			p := r.Lock.Platforms[0].Packages
			p[0], p[1] = p[1], p[0]
		},
	} {
		if definitionOf(change) != base {
			t.Errorf("%s changes the build definition, which only inputs may", summary)
		}
	}
	for summary, change := range map[string]func(*BuildRecord){
		"lock":       func(r *BuildRecord) { r.LockDigest = of("other") },
		"definition": func(r *BuildRecord) { r.Definition = of("other") },
		"epoch":      func(r *BuildRecord) { r.Epoch = r.Epoch.Add(time.Second) },
		"assembler":  func(r *BuildRecord) { r.Assembler++ },
		"package":    func(r *BuildRecord) { r.Lock.Platforms[0].Packages[0].SHA256 = of("other") },
		"file":       func(r *BuildRecord) { r.Lock.Files[0].SHA256 = of("other") },
		"local tree": func(r *BuildRecord) { r.Locals[0].Tree = of("other") },
		"platform":   func(r *BuildRecord) { r.Platforms = append(r.Platforms, r.Lock.Platforms[1].Platform) },
	} {
		if definitionOf(change) == base {
			t.Errorf("another %s does not change the build definition", summary)
		}
	}
}

// in-toto's own types are the judge of what we write.
func TestReportIsProvenance(t *testing.T) {
	var st spb.Statement
	if err := protojson.Unmarshal(payloadOf(t, signed(t, "a", "x")), &st); err != nil {
		t.Fatal(err)
	}
	if err := st.Validate(); err != nil {
		t.Error(err)
	}
	predicate, err := protojson.Marshal(st.GetPredicate())
	if err != nil {
		t.Fatal(err)
	}
	var p provenancepb.Provenance
	// Extension fields (quorate_…) are what SLSA lets producers add and consumers ignore.
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(predicate, &p); err != nil {
		t.Fatal(err)
	}
	if err := p.Validate(); err != nil {
		t.Error(err)
	}
	if n := len(p.GetBuildDefinition().GetResolvedDependencies()); n != 6 {
		t.Errorf("in-toto sees %d dependencies, expected 6", n)
	}
}

// go-securesystemslib's own verifier accepts our envelopes.
func TestEnvelopeIsDSSE(t *testing.T) {
	var e dsse.Envelope
	if err := json.Unmarshal(signed(t, "a", "x"), &e); err != nil {
		t.Fatal(err)
	}
	verifier, err := dsse.NewEnvelopeVerifier(dsseVerifier{keyOf("a").Public()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := verifier.Verify(ctx, &e); err != nil {
		t.Error(err)
	}
	if e.Signatures[0].KeyID != "" {
		t.Errorf("key id %q, expected none: cosign refuses those it did not make", e.Signatures[0].KeyID)
	}
}

type dsseVerifier struct{ key keyfile.PublicKey }

func (v dsseVerifier) Verify(_ context.Context, data, sig []byte) error {
	return v.key.Verify(data, sig)
}
func (v dsseVerifier) KeyID() (string, error)   { return "", nil }
func (v dsseVerifier) Public() crypto.PublicKey { return nil }

func TestSignReportRefuses(t *testing.T) {
	for _, test := range []struct {
		summary string
		change  func(*BuildRecord)
		err     string
	}{
		{"no subject", func(r *BuildRecord) { r.Subjects = nil }, "not an in-toto statement: at least one subject required"},
		{"subject without a digest", func(r *BuildRecord) { r.Subjects[0].Digest = digest.Digest{} }, `"greeter": digest "` + strings.Repeat("0", 64) + `" is all zeros, which stands for none`},
		{"subject twice", func(r *BuildRecord) { r.Subjects = append(r.Subjects, r.Subjects[0]) }, `statement names image "greeter" for "linux/amd64" twice`},
		{"no lock", func(r *BuildRecord) { r.Lock = nil }, "the record has no lock"},
		{"no lock digest", func(r *BuildRecord) { r.LockDigest = digest.Digest{} }, `lock: digest "" does not begin with "sha256:"`},
		{"bad nonce", func(r *BuildRecord) { r.Nonce = "a/b" }, `invocation id "a/b/a/1" is not NONCE/REBUILDER/ATTEMPT`},
		{"attempt 0", func(r *BuildRecord) { r.Attempt = 0 }, `invocation id "0123456789abcdef/a/0" is not NONCE/REBUILDER/ATTEMPT`},
		{"no builder id", func(r *BuildRecord) { r.BuilderID = "" }, `builder id "" must be a URI`},
		{"finished before it started", func(r *BuildRecord) { r.Finished = r.Started.Add(-time.Minute) },
			"report says that the build finished (2026-11-01T02:25:40Z) before it started (2026-11-01T02:26:40Z)"},
		{"no platform", func(r *BuildRecord) { r.Platforms = nil }, "report names no platform"},
		{"escape sequence in a fact", func(r *BuildRecord) { r.Environment["kernel"] = "\x1b[2J" }, `environment: "kernel" must be printable text of at most 1024 bytes`},
		{"too many facts", func(r *BuildRecord) {
			for i := range 70 {
				r.Surroundings[fmt.Sprintf("f%d", i)] = "x"
			}
		}, "surroundings has 71 facts; at most 64 are read"},
	} {
		t.Run(test.summary, func(t *testing.T) {
			_, err := SignReport(ctx, record("a", "x", test.change), keyOf("a"))
			if want := "cannot make a report: " + test.err; err == nil || err.Error() != want {
				t.Errorf("error\n%v\nexpected\n%s", err, want)
			}
		})
	}
}

// forge signs a changed payload, as a rebuilder with a key and bad intent would.
func forge(t testing.TB, who string, payload []byte) []byte {
	t.Helper()
	envelope, err := sign(ctx, payload, keyOf(who))
	if err != nil {
		t.Fatal(err)
	}
	return envelope
}

func TestOpenReportRefuses(t *testing.T) {
	good := signed(t, "a", "x")
	payload := string(payloadOf(t, good))
	change := func(old, new string) []byte {
		if !strings.Contains(payload, old) {
			t.Fatalf("%q is not in the report", old)
		}
		return forge(t, "a", []byte(strings.Replace(payload, old, new, 1)))
	}
	remake := func(f func(*dsse.Envelope)) []byte {
		var e dsse.Envelope
		if err := json.Unmarshal(good, &e); err != nil {
			t.Fatal(err)
		}
		f(&e)
		b, _ := json.Marshal(e)
		return b
	}
	badSignature := fmt.Sprintf("signature does not verify with key %.16s…: the statement was changed, or another key signed it", keyOf("a").Public().Fingerprint())

	for _, test := range []struct {
		summary  string
		envelope []byte
		err      string
	}{
		{"bad signature", remake(func(e *dsse.Envelope) { e.Signatures[0].Sig = base64.StdEncoding.EncodeToString([]byte("no")) }), badSignature},
		{"wrong key", forge(t, "b", []byte(payload)), badSignature},
		{"payload changed after signing", remake(func(e *dsse.Envelope) {
			e.Payload = base64.StdEncoding.EncodeToString([]byte(strings.Replace(payload, of("x").Hex(), of("y").Hex(), 1)))
		}), badSignature},
		{"no signature", remake(func(e *dsse.Envelope) { e.Signatures = nil }), "envelope has 0 signatures, expected exactly one"},
		{"two signatures", remake(func(e *dsse.Envelope) { e.Signatures = append(e.Signatures, e.Signatures[0]) }), "envelope has 2 signatures, expected exactly one"},
		{"another payload type", remake(func(e *dsse.Envelope) { e.PayloadType = "text/plain" }), `envelope has payload type "text/plain", expected "application/vnd.in-toto+json"`},
		{"not base64", remake(func(e *dsse.Envelope) { e.Payload = "###" }), "payload is not base64: illegal base64 data at input byte 0"},
		{"empty", nil, "cannot read envelope: it is not JSON: unexpected EOF"},
		{"truncated", good[:len(good)/2], "cannot read envelope: it is not JSON: unexpected EOF"},
		{"two values", append(bytes.Clone(good), good...), "cannot read envelope: it has more than one JSON value"},
		{"huge", bytes.Repeat([]byte(" "), maxEnvelope+1), fmt.Sprintf("envelope has %d bytes; at most %d are read", maxEnvelope+1, maxEnvelope)},
		{"deep", bytes.Repeat([]byte("["), 1000), "cannot read envelope: it nests more than 16 deep"},
		{"a link, not a statement", change(`"_type":"https://in-toto.io/Statement/v1"`, `"_type":"link"`), `payload has type "link", expected "https://in-toto.io/Statement/v1"`},
		{"another predicate", change("https://slsa.dev/provenance/v1", "https://slsa.dev/provenance/v0.2"), `statement has predicate type "https://slsa.dev/provenance/v0.2", expected "https://slsa.dev/provenance/v1"`},
		{"another build type", change(BuildType, "https://example.org/bake"), `report has build type "https://example.org/bake", expected "https://quorate.dev/buildtypes/image/v1"`},
		{"unknown external parameter", change(`"sourceDateEpoch"`, `"flags":"-O3","sourceDateEpoch"`), `report has the external parameter "flags", which is unknown here and may mean anything`},
		{"unknown field", change(`"quorate_operator"`, `"quorate_shade":"x","quorate_operator"`), `cannot read report: unknown field "quorate_shade"`},
		{"name in another case", change(`"builder":{"id"`, `"builder":{"ID"`), `cannot read report: it has a field that is null, empty or spelled in another case; expected "unDetails\":{\"builder\":{\"id\":\"https://acme.example/builders/a\",\"v"…`},
		{"name twice", change(`"subject":`, `"subject":[],"subject":`), `cannot read statement: it names "subject" twice`},
		{"name twice in another case", change(`"subject":`, `"Subject":[],"subject":`), `cannot read statement: it names "subject" twice`},
		{"empty subject", change(`"subject":[`+payload[strings.Index(payload, `"subject":[`)+len(`"subject":[`):len(payload)-2]+`]`, `"subject":[]`), "not an in-toto statement: at least one subject required"},
		{"subject without sha256", change(`{"sha256":"`+of("x").Hex()+`"},"name":"greeter"`, `{"sha1":"`+strings.Repeat("a", 40)+`"},"name":"greeter"`), `"greeter" must have one digest, of algorithm sha256`},
		{"two locks", change(`{"sha256":"`+of("quorate.lock").Hex(), `{"sha256":"`+of("other").Hex()), fmt.Sprintf("report names two digests of its lock: %s and %s", of("quorate.lock"), of("other"))},
		{"no lock among the dependencies", change(`,{"digest":{"sha256":"`+of("quorate.lock").Hex()+`"},"mediaType":"application/yaml","name":"lock","uri":"quorate.lock"}`, ""), "dependencies do not name the definition and the lock once each"},
		{"no invocation id", change("0123456789abcdef/a/1", "0123456789abcdef"), `invocation id "0123456789abcdef" is not NONCE/REBUILDER/ATTEMPT`},
		{"attempt with a sign", change("0123456789abcdef/a/1", "0123456789abcdef/a/+1"), `invocation id "0123456789abcdef/a/+1" is not NONCE/REBUILDER/ATTEMPT`},
		{"fraction of a second", change("2026-11-01T02:26:40Z", "2026-11-01T02:26:40.5Z"), `startedOn "2026-11-01T02:26:40.5Z" is not a time such as 2026-11-01T00:00:00Z`},
		{"unknown byproduct", change(`"name":"files"`, `"name":"fries"`), `report has the unknown byproduct "fries"`},
		{"epoch as a number", change(`"sourceDateEpoch":"1793491200"`, `"sourceDateEpoch":1793491200`), "cannot read report: cannot unmarshal number into Go struct field externalParameters.predicate.buildDefinition.externalParameters.sourceDateEpoch of type string"},
		{"epoch with a zero before", change(`"1793491200"`, `"01793491200"`), `sourceDateEpoch, assembler or lockFormat is "01793491200", expected a decimal number`},
	} {
		t.Run(test.summary, func(t *testing.T) {
			report, err := OpenReport(test.envelope, keyOf("a").Public())
			if err == nil {
				t.Fatal("accepted")
			}
			if report != nil {
				t.Error("a refused report came back")
			}
			got := err.Error()
			if len(test.err) > 120 && strings.HasPrefix(got, test.err) {
				got = test.err
			}
			if got != test.err {
				t.Errorf("error\n%s\nexpected\n%s", err, test.err)
			}
			var bad *SignatureError
			var malformed *StatementError
			if errors.As(err, &bad) == errors.As(err, &malformed) {
				t.Errorf("error is a %T, expected *SignatureError or *StatementError", err)
			}
		})
	}
}

func policy(threshold int, change ...func(*agreement.Policy)) *agreement.Policy {
	p := &agreement.Policy{
		Threshold: threshold,
		Rebuilders: []agreement.Rebuilder{
			{Name: "a", Operator: "acme", Key: keyOf("a").Public()},
			{Name: "b", Operator: "acme", Key: keyOf("b").Public()},
			{Name: "c", Operator: "umbra", Key: keyOf("c").Public()},
		},
		Signers: []agreement.SignerKey{{Name: "release", Key: keyOf("release").Public()}},
	}
	for _, c := range change {
		c(p)
	}
	return p
}

func TestOpenSubmission(t *testing.T) {
	p := policy(2)
	if s := OpenSubmission(signed(t, "a", "x"), p, "a"); s.Err != nil || s.Report.Rebuilder != "a" || s.Rebuilder != "a" {
		t.Errorf("a good report is not opened: %v", s.Err)
	}
	for _, test := range []struct {
		summary, name string
		envelope      []byte
		err           string
	}{
		{"signed by another rebuilder", "b", signed(t, "a", "x"), fmt.Sprintf("statement is signed with the key of \"a\", expected key %.16s…", keyOf("b").Public().Fingerprint())},
		{"signed by a stranger", "a", forge(t, "stranger", payloadOf(t, signed(t, "a", "x"))),
			fmt.Sprintf("signature does not verify with key %.16s…: the statement was changed, or another key signed it", keyOf("a").Public().Fingerprint())},
		{"no such rebuilder", "d", signed(t, "a", "x"), `"d" is no rebuilder of the policy`},
		{"no envelope", "a", []byte("{}"), `envelope has payload type "", expected "application/vnd.in-toto+json"`},
	} {
		s := OpenSubmission(test.envelope, p, test.name)
		if s.Err == nil || s.Err.Error() != test.err || s.Report != nil || s.Rebuilder != test.name {
			t.Errorf("%s: error\n%v\nexpected\n%s", test.summary, s.Err, test.err)
		}
	}
}

func TestCanonical(t *testing.T) {
	// The first two are RFC 8785's own examples, as far as they have no fractions.
	for _, test := range []struct{ in, want string }{
		{`{"\u20ac":"Euro Sign","\r":"Carriage Return","\ufb33":"Hebrew Letter Dalet With Dagesh","1":"One","\ud83d\ude00":"Emoji: Grinning Face","\u0080":"Control","\u00f6":"Latin Small Letter O With Diaeresis"}`,
			`{"\r":"Carriage Return","1":"One","` + "\u0080" + `":"Control","ö":"Latin Small Letter O With Diaeresis","€":"Euro Sign","😀":"Emoji: Grinning Face","` + "\ufb33" + `":"Hebrew Letter Dalet With Dagesh"}`},
		{`{"string":"\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/","literals":[null,true,false]}`,
			`{"literals":[null,true,false],"string":"€$\u000f\nA'B\"\\\\\"/"}`},
		{` { "b" : [ 1 , -2 ] , "a" : { } , "c":"<&>" } `, `{"a":{},"b":[1,-2],"c":"<&>"}`},
	} {
		tree, err := parseTree([]byte(test.in))
		if err != nil {
			t.Errorf("%s: %v", test.in, err)
			continue
		}
		got, err := canonical(tree)
		if err != nil || string(got) != test.want {
			t.Errorf("%s becomes\n%s (%v), expected\n%s", test.in, got, err, test.want)
		}
	}
	for _, in := range []string{"1.5", "1e3", "9007199254740993", "-0", "18446744073709551616"} {
		tree, err := parseTree([]byte(in))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := canonical(tree); err == nil {
			t.Errorf("number %s becomes %s, expected an error", in, got)
		}
	}
}

// The bytes of the canonical form are its own canonical form.
func FuzzCanonical(f *testing.F) {
	f.Add([]byte(`{"a":[1,"\u0000",{"b":null}]}`))
	f.Add([]byte(`"\ud800"`))
	f.Fuzz(func(t *testing.T, data []byte) {
		tree, err := parseTree(data)
		if err != nil {
			return
		}
		once, err := canonical(tree)
		if err != nil {
			return
		}
		tree, err = parseTree(once)
		if err != nil {
			t.Fatalf("cannot read %q again: %v", once, err)
		}
		if twice, err := canonical(tree); err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("%q becomes %q (%v)", once, twice, err)
		}
	})
}

func FuzzOpenReport(f *testing.F) {
	f.Add(payloadOf(f, signed(f, "a", "x")))
	f.Add([]byte(`{"_type":"https://in-toto.io/Statement/v1","predicateType":"https://slsa.dev/provenance/v1","subject":[],"predicate":{}}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		// Signing first lets the fuzzer reach what lies behind the signature.
		envelope, err := sign(ctx, payload, keyOf("a"))
		if err != nil {
			return
		}
		report, err := OpenReport(envelope, keyOf("a").Public())
		if err == nil && (len(report.Subjects) == 0 || report.Lock.IsZero() || report.Rebuilder == "") {
			t.Fatalf("an empty report was accepted: %+v", report)
		}
		_, _ = OpenReport(payload, keyOf("a").Public())
	})
}

// Inputs of every kind that a lock pins are dependencies that readers accept.
func TestReportOfPins(t *testing.T) {
	const commit = "0123456789abcdef0123456789abcdef01234567"
	pins := func(r *BuildRecord) {
		r.Lock.Requests.Inputs = []lockfile.InputRequest{
			{Name: "deps", Kind: lockfile.KindGo},
			{Name: "source", Kind: lockfile.KindGit, Ask: lockfile.Facts{"url": "https://example.org/source.git"}},
		}
		r.Lock.Pins = []lockfile.Pin{
			{Input: "deps", Name: "golang.org/x/text", Version: "v0.30.0", SHA256: of("text"), Path: "golang.org/x/text/@v/v0.30.0.zip"},
			{Input: "source", Name: "source", Version: commit, SHA256: of("source"), Path: "source"},
			{Input: "source", Name: "source", Version: commit, SHA256: of("other"), Path: "other", Platform: "linux/arm64"},
		}
	}
	envelope := signed(t, "a", "x", pins)
	if _, err := OpenReport(envelope, keyOf("a").Public()); err != nil {
		t.Fatal(err)
	}
	payload := string(payloadOf(t, envelope))
	for _, want := range []string{
		`{"digest":{"sha256":"` + of("text").Hex() + `"},"name":"go/deps/golang.org/x/text/@v/v0.30.0.zip","uri":"pkg:golang/golang.org/x/text@v0.30.0"}`,
		`{"digest":{"gitCommit":"` + commit + `","sha256":"` + of("source").Hex() + `"},"name":"git/source/source","uri":"git+https://example.org/source.git@` + commit + `"}`,
	} {
		if !strings.Contains(payload, want) {
			t.Errorf("no %s in\n%s", want, payload)
		}
	}
	if strings.Contains(payload, of("other").Hex()) {
		t.Error("a pin of another platform is a dependency")
	}
	elsewhere := forge(t, "a", []byte(strings.Replace(payload, `"name":"git/source/source"`, `"name":"git0source/source"`, 1)))
	if _, err := OpenReport(elsewhere, keyOf("a").Public()); err == nil || !strings.Contains(err.Error(), "must have one digest") {
		t.Errorf("a second digest of anything: %v", err)
	}
}
