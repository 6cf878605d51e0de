// Package export writes a policy down in the words of tools that people run
// already, as far as those have words for it:
//
//	Kyverno      ImageValidatingPolicy: counts attestations of rebuilders' keys
//	Cosign       a shell script around cosign verify-attestation that counts likewise
//	Containers   policy.json of podman, skopeo and CRI-O: the release key's signature
//
// None of them judges as quorate verify does, and each export says what it
// leaves out, in its own comments and as notes: mostly dissent, the times of
// statements, and what a signer listed and somebody deleted. They take the keys
// that count at the time of writing; write them anew when the policy changes.
//
// Everything here is pure: a policy in, files out.
package export

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"quorate.dev/rebuild/agreement"
	"quorate.dev/rebuild/attestation"
	"quorate.dev/rebuild/keyfile"
)

// Files are what an export writes, by name, and what a reader should know.
type Files struct {
	Files map[string][]byte
	Notes []string
}

func (f *Files) note(format string, args ...any) {
	if n := fmt.Sprintf(format, args...); !slices.Contains(f.Notes, n) {
		f.Notes = append(f.Notes, n)
	}
}

// rebuilder is one that counts, with all keys that do now.
type rebuilder struct {
	name, operator string
	keys           []agreement.Speaker
	builders       []string // builder.id, any of them; nil for any at all
}

// counting gathers the rebuilders of a part that have a key that counts now.
func counting(p *agreement.Policy) []rebuilder {
	var all []rebuilder
	for _, s := range p.Counting(agreement.RoleRebuilder) {
		if n := len(all); n > 0 && all[n-1].name == s.Name {
			all[n-1].keys = append(all[n-1].keys, s)
			continue
		}
		all = append(all, rebuilder{name: s.Name, operator: s.Operator, keys: []agreement.Speaker{s}, builders: p.BuilderIDs(s)})
	}
	return all
}

func operators(all []rebuilder) []string {
	var names []string
	for _, r := range all {
		if !slices.Contains(names, r.operator) {
			names = append(names, r.operator)
		}
	}
	return names
}

// reachable says why a part could not be fulfilled by the keys that count now.
func reachable(part agreement.Part, all []rebuilder) error {
	if len(all) < part.Policy.Threshold {
		return fmt.Errorf("%s: the threshold is %d, but the keys of only %s count now", imagesOf(part), part.Policy.Threshold, number(len(all), "rebuilder"))
	}
	if want := part.Policy.Distinct["operator"]; len(operators(all)) < want {
		return fmt.Errorf("%s: %d operators are wanted, but the keys that count now are of %d", imagesOf(part), want, len(operators(all)))
	}
	return nil
}

func imagesOf(part agreement.Part) string {
	if len(part.Images) == 0 {
		return "all images"
	}
	return strings.Join(part.Images, ", ")
}

// leftOut notes what no export can say.
func (f *Files) leftOut(p *agreement.Policy) {
	for _, attribute := range slices.Sorted(maps.Keys(p.Distinct)) {
		if attribute != "operator" && attribute != "key" {
			f.note("distinct %s is not checked: it is in the statements and not in the keys", attribute)
		}
	}
	if p.MaxAge > 0 {
		f.note("the maximum age of reports is not checked")
	}
}

// yamlText quotes a text as YAML and JSON both read it.
func yamlText(s string) string {
	b, _ := json.Marshal(s) // of a string that cannot fail
	return string(b)
}

// Kyverno writes an ImageValidatingPolicy (policies.kyverno.io/v1beta1, tried
// with 1.19) for each rule: so many rebuilders' keys must have signed SLSA
// provenance of an image.
func Kyverno(p *agreement.Policy, name string, at time.Time) (*Files, error) {
	f := &Files{Files: map[string][]byte{}}
	var b strings.Builder
	for i, part := range p.Parts(at) {
		all := counting(part.Policy)
		if err := reachable(part, all); err != nil {
			return nil, err
		}
		if i > 0 {
			b.WriteString("---\n")
		}
		kyvernoRule(&b, fmt.Sprintf("%s-%d", name, i+1), part, all)
		f.leftOut(part.Policy)
		if slices.ContainsFunc(all, func(r rebuilder) bool { return r.builders != nil }) {
			f.note("builder ids are not checked")
		}
		if slices.ContainsFunc(part.Images, func(s string) bool { return strings.Contains(s, "*") }) {
			f.note("a star matches deeper names too, and all rules that match an image hold, not only the first")
		}
	}
	f.note("dissent is not seen: Kyverno counts who signed, and does not judge what others said")
	f.Files["kyverno.yaml"] = []byte(b.String())
	return f, nil
}

func kyvernoRule(b *strings.Builder, name string, part agreement.Part, all []rebuilder) {
	w := func(format string, args ...any) { fmt.Fprintf(b, format+"\n", args...) }
	w("# %s: %d of %d rebuilders must have signed; exported by quorate, not to be edited", imagesOf(part), part.Policy.Threshold, len(all))
	w("apiVersion: policies.kyverno.io/v1beta1\nkind: ImageValidatingPolicy\nmetadata:\n  name: %s", yamlText(name))
	w("spec:\n  validationActions: [Deny]\n  matchConstraints:\n    resourceRules:")
	w("      - {apiGroups: [\"\"], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [pods]}")
	w("  matchImageReferences:")
	for _, pattern := range kyvernoGlobs(part.Images) {
		w("    - glob: %s", yamlText(pattern))
	}
	w("  attestors:")
	for _, group := range attestors(all) {
		for _, a := range group {
			w("    - name: %s # %s, operator %s\n      cosign:\n        key:\n          data: |", a.id, a.rebuilder, a.operator)
			for line := range strings.Lines(string(a.key.PEM())) {
				b.WriteString("            " + line)
			}
			w("        ctlog: {insecureIgnoreTlog: true, insecureIgnoreSCT: true}")
		}
	}
	w("  attestations:\n    - name: rebuild\n      intoto: {type: %s}", yamlText(attestation.ProvenancePredicate))
	w("  validations:")
	for _, rule := range kyvernoCounts(part.Policy, all) {
		var each []string
		for _, list := range []string{"containers", "initContainers", "ephemeralContainers"} {
			each = append(each, fmt.Sprintf("images.%s.map(image, %s).all(n, n >= %d)", list, rule.count, rule.least))
		}
		w("    - expression: >-\n        %s\n      message: %s", strings.Join(each, " &&\n        "), yamlText(rule.message))
	}
}

// kyvernoGlobs writes patterns as Kyverno has them: a star there matches slashes,
// and a name stands for its tags and digests too only with a star behind it.
func kyvernoGlobs(images []string) []string {
	if len(images) == 0 {
		return []string{"*"}
	}
	var all []string
	for _, i := range images {
		i = strings.ReplaceAll(i, "**", "*")
		if strings.HasSuffix(i, "*") {
			all = append(all, i)
			continue
		}
		all = append(all, i+":*", i+"@*")
	}
	return all
}

// keyed is one key under a name that CEL can spell.
type keyed struct {
	id, rebuilder, operator string
	key                     keyfile.PublicKey
}

// attestors names the keys, those of one rebuilder together.
func attestors(all []rebuilder) [][]keyed {
	var groups [][]keyed
	n := 0
	for _, r := range all {
		var group []keyed
		for _, s := range r.keys {
			group = append(group, keyed{id: fmt.Sprintf("key%d", n), rebuilder: r.name, operator: r.operator, key: s.Key})
			n++
		}
		groups = append(groups, group)
	}
	return groups
}

// kyvernoCount is an expression over one image, and how much it must be.
type kyvernoCount struct {
	count   string
	least   int
	message string
}

func kyvernoCounts(p *agreement.Policy, all []rebuilder) []kyvernoCount {
	groups := attestors(all)
	counts := []kyvernoCount{{
		count: verified(groups), least: p.Threshold,
		message: fmt.Sprintf("the policy wants %s to have signed this image", number(p.Threshold, "rebuilder")),
	}}
	if want := p.Distinct["operator"]; want > 1 {
		byOperator := make([][]keyed, len(operators(all)))
		for _, g := range groups {
			for _, k := range g {
				i := slices.Index(operators(all), k.operator)
				byOperator[i] = append(byOperator[i], k)
			}
		}
		counts = append(counts, kyvernoCount{
			count: verified(byOperator), least: want,
			message: fmt.Sprintf("the policy wants rebuilders of %s to have signed this image", number(want, "operator")),
		})
	}
	return counts
}

func number(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// verified counts groups of keys of which at least one has signed. Kyverno's
// function counts keys, so a group of several is asked for by itself.
func verified(groups [][]keyed) string {
	call := func(keys []keyed) string {
		var names []string
		for _, k := range keys {
			names = append(names, "attestors."+k.id)
		}
		return fmt.Sprintf("verifyAttestationSignatures(image, attestations.rebuild, [%s])", strings.Join(names, ", "))
	}
	if !slices.ContainsFunc(groups, func(g []keyed) bool { return len(g) != 1 }) {
		return call(slices.Concat(groups...))
	}
	var terms []string
	for _, g := range groups {
		terms = append(terms, fmt.Sprintf("(%s >= 1 ? 1 : 0)", call(g)))
	}
	return strings.Join(terms, " + ")
}

// Cosign writes a shell script that asks cosign (3, by the name in $COSIGN) for
// the provenance that each rebuilder signed, and counts as the policy's rules do.
func Cosign(p *agreement.Policy, at time.Time) (*Files, error) {
	f := &Files{Files: map[string][]byte{}}
	var rules strings.Builder
	for _, part := range p.Parts(at) {
		all := counting(part.Policy)
		if err := reachable(part, all); err != nil {
			return nil, err
		}
		fmt.Fprintf(&rules, "if matches %s; then\n", shellText(imagePatterns(part.Images)))
		for _, r := range all {
			for _, s := range r.keys {
				name := fmt.Sprintf("keys/%s-%.16s.pub", r.name, s.Key.Fingerprint())
				f.Files[name] = s.Key.PEM()
				fmt.Fprintf(&rules, "  ask %s %s %s %s\n", shellText(r.name), shellText(r.operator), shellText(name), shellText(strings.Join(r.builders, " ")))
			}
		}
		fmt.Fprintf(&rules, "  judge %d %d\nfi\n", part.Policy.Threshold, max(part.Policy.Distinct["operator"], 1))
		f.leftOut(part.Policy)
	}
	f.note("dissent is not seen: cosign says who signed for this image, and not what others built")
	f.Files["verify-with-cosign.sh"] = []byte(strings.Replace(cosignScript, "@RULES@", rules.String(), 1))
	return f, nil
}

// imagePatterns is an extended regular expression for the patterns.
func imagePatterns(images []string) string {
	if len(images) == 0 {
		return ".*"
	}
	var all []string
	for _, pattern := range images {
		var segments []string
		for segment := range strings.SplitSeq(pattern, "/") {
			if segment == "**" {
				segments = append(segments, ".+")
				continue
			}
			segments = append(segments, strings.NewReplacer(".", `[.]`, "*", "[^/]*").Replace(segment))
		}
		all = append(all, strings.Join(segments, "/"))
	}
	return strings.Join(all, "|")
}

// shellText quotes for sh.
func shellText(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

const cosignScript = `#!/bin/sh
# Exported by quorate from a policy, not to be edited.
#
#   sh verify-with-cosign.sh REPOSITORY@sha256:...
#
# asks cosign which rebuilders signed provenance for exactly this image and says
# whether they are enough. Needs cosign 3 and jq. Exit code 0 when they are, 1
# when not. Dissent, the age of reports and deleted statements are not seen;
# "quorate verify" sees them.
set -u
image=${1:?say which image: REPOSITORY@sha256:...}
case $image in *@sha256:*) ;; *) echo "name the image by its digest: REPOSITORY@sha256:..." >&2; exit 2 ;; esac
cd "$(dirname "$0")" || exit 2
repository=${image%@*}
agree= operators=

# matches EXPRESSION: whether a rule is about this image.
matches() { printf '%s\n' "$repository" | grep -Eqx -- "$1"; }

# builder: the builder ids in what cosign verified.
builder() { jq -r 'if .payload then .payload | @base64d | fromjson else . end | .predicate.runDetails.builder.id'; }

# ask NAME OPERATOR KEYFILE BUILDERS: counts a rebuilder that has signed.
ask() {
  statements=$("${COSIGN:-cosign}" verify-attestation --key "$3" --insecure-ignore-tlog=true --type slsaprovenance1 "$image" 2>/dev/null) || { echo "$1: no provenance by its key" >&2; return; }
  if [ -n "$4" ]; then
    found=
    for id in $(printf '%s\n' "$statements" | builder); do
      case " $4 " in *" $id "*) found=yes ;; esac
    done
    [ -n "$found" ] || { echo "$1: signed as another builder than $4" >&2; return; }
  fi
  echo "$1 (operator $2): signed" >&2
  case " $agree " in *" $1 "*) ;; *) agree="$agree $1" ;; esac
  case " $operators " in *" $2 "*) ;; *) operators="$operators $2" ;; esac
}

# judge THRESHOLD OPERATORS: the end.
judge() {
  set -- "$1" "$2" "$(echo $agree | wc -w)" "$(echo $operators | wc -w)"
  [ "$3" -ge "$1" ] || { echo "not verified: rebuilders that have signed: $3, expected $1" >&2; exit 1; }
  [ "$4" -ge "$2" ] || { echo "not verified: operators of those: $4, expected $2" >&2; exit 1; }
  echo "$image"
  exit 0
}

@RULES@echo "not verified: the policy has no rule for $repository" >&2
exit 1
`

// Containers writes policy.json of containers/image, and what registries.d has
// to say. It knows signatures of images only, so it takes that of the release
// keys, which quorate publish makes when rebuilders agreed: it trusts them to
// have judged.
func Containers(p *agreement.Policy, at time.Time) (*Files, error) {
	f := &Files{Files: map[string][]byte{}}
	scopes := map[string][]containersRule{}
	attachments := map[string]map[string]bool{}
	for _, part := range p.Parts(at) {
		signers := part.Policy.Counting(agreement.RoleRelease)
		if len(signers) == 0 {
			return nil, fmt.Errorf("%s: no signer of the policy has a key that counts now, and containers/image knows no other", imagesOf(part))
		}
		rule := containersRule{Type: "sigstoreSigned", Identity: identity{"matchRepository"}}
		for _, s := range signers {
			rule.Keys = append(rule.Keys, base64.StdEncoding.EncodeToString(s.Key.PEM()))
		}
		if len(rule.Keys) == 1 {
			rule.Key, rule.Keys = rule.Keys[0], nil
		} else {
			f.note("several signers need a containers/image that knows keyDatas (5.33 and later)")
		}
		for _, pattern := range part.Images {
			scope, ok := scopeOf(pattern)
			switch {
			case !ok:
				f.note("%s is left out: a scope is a registry, a namespace or a repository", pattern)
				continue
			case scope != pattern && !strings.HasSuffix(pattern, "/**"):
				f.note("%s becomes the namespace %s, which has deeper names too", pattern, scope)
			}
			if scopes[scope] == nil { // the first rule decides
				scopes[scope] = []containersRule{rule}
				attachments[scope] = map[string]bool{"use-sigstore-attachments": true}
			}
		}
		if len(part.Images) == 0 {
			scopes[""] = []containersRule{rule}
		}
	}
	if len(scopes) == 0 {
		return nil, fmt.Errorf("no rule of the policy names a registry")
	}
	f.note("it trusts the release key to have counted: rebuilders' own reports are not looked at")
	registries := map[string]any{"docker": attachments}
	if _, all := scopes[""]; all {
		registries = map[string]any{"default-docker": map[string]bool{"use-sigstore-attachments": true}}
	}
	policy := map[string]any{
		"default":    []containersRule{{Type: "reject"}},
		"transports": map[string]any{"docker": scopes},
	}
	for name, content := range map[string]any{"policy.json": policy, "registries.d/quorate.yaml": registries} {
		b, err := json.MarshalIndent(content, "", "  ")
		if err != nil {
			return nil, err
		}
		f.Files[name] = append(b, '\n')
	}
	return f, nil
}

type containersRule struct {
	Type     string   `json:"type"`
	Key      string   `json:"keyData,omitempty"`
	Keys     []string `json:"keyDatas,omitempty"`
	Identity identity `json:"signedIdentity,omitzero"`
}

type identity struct {
	Type string `json:"type"`
}

// scopeOf returns the scope that a pattern is, or lies in.
func scopeOf(pattern string) (string, bool) {
	scope := strings.TrimSuffix(strings.TrimSuffix(pattern, "/**"), "/*")
	host, _, _ := strings.Cut(scope, "/")
	registry := strings.ContainsAny(host, ".:") || host == "localhost"
	return scope, registry && !strings.Contains(scope, "*")
}
