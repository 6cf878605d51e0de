package rebuild

import (
	"fmt"
	"slices"
	"strings"

	"quorate.dev/lockfile/strictyaml"
	"quorate.dev/rebuild/agreement"
	"quorate.dev/rebuild/host/remote"
	"quorate.dev/rebuild/keyfile"
)

// FileName is what a file of rebuilders is usually called.
const FileName = "rebuilders.yaml"

// File is a rebuilders.yaml: who is asked, where their workers run, and by
// which rule they are judged.
//
//	rebuilders:
//	  - {name: one, operator: acme, host: {local: {}}, key: keys/one.pub}
//	  - {name: two, operator: acme, host: {local: {key: keys/two.key}}, key: keys/two.pub}
//	  - {name: ams, operator: acme, host: {docker: {endpoint: "ssh://build@ams"}}, key: keys/ams.pub}
//	  - {name: osl, operator: umbra, host: {docker: {endpoint: "tcp://osl:2376", tls: osl/}}, key: keys/osl.pub}
//	  - {name: ber, operator: umbra, host: {docker: {context: berlin}}, key: keys/ber.pub}
//	  - {name: sto, operator: nordic, host: {remote: {endpoint: "https://sto:7443", tls: sto/}}, key: keys/sto.pub}
//	policy:                        # optional when a policy file is given
//	  threshold: 2
//	  distinct: {key: 2}
//
// key is the public key that the rebuilder's reports must be signed with. A
// local worker signs with local.key, by default the file beside key whose name
// ends in .key; one in a Docker Engine with a key that never leaves the engine
// (package host/docker). tls is a folder with ca.pem, cert.pem and key.pem;
// docker: {} is the engine that the docker command would use. remote is a
// service that its operator runs (package host/remote). Paths are relative to the file.
type File struct {
	Rebuilders []FileRebuilder
	Policy     *agreement.Policy // nil when the file has none; its keys are the rebuilders'
}

// FileRebuilder is one rebuilder of a File.
type FileRebuilder struct {
	Name      string
	Operator  string
	BuilderID string // SLSA builder.id; "" when the file has none
	Key       keyfile.PublicKey
	KeyFile   string // private key of the local worker, as written: relative to the file; "" elsewhere
	Docker    *FileDocker
	Remote    *FileRemote
	keyPath   string
}

// FileDocker is the Docker Engine of a rebuilder; host/docker says what the
// parts mean. All are empty for the engine that the docker command would use.
type FileDocker struct {
	Endpoint string
	TLS      string // folder, as written: relative to the file
	Context  string
}

// FileRemote is the service of a rebuilder on somebody else's machine.
type FileRemote struct {
	Endpoint string // https://HOST:PORT
	TLS      string // folder, as written: relative to the file
}

// limits of a rebuilders file: as for a policy, and two levels more for hosts.
var limits = strictyaml.Limits{Bytes: 1 << 20, Depth: 10, Nodes: 30_000}

// hosts that have a name and no way to start workers yet.
var laterHosts = []string{"kubernetes"}

// hostKinds are the kinds of hosts, for messages.
const hostKinds = `"local", "docker" and "remote"`

type fileHost struct {
	local  *fileLocal
	docker *FileDocker
	remote *FileRemote
}

type fileLocal struct{ key string }

type filePolicy struct {
	threshold int
	distinct  map[string]int
	dissent   bool
}

type fileRebuilder struct {
	FileRebuilder
	host fileHost
}

type fileContent struct {
	rebuilders []fileRebuilder
	policy     *filePolicy
}

// ParseFile reads a rebuilders file. fileName is only used in messages; loadKey
// returns the public key file of a path as the file writes it. The error is a
// *strictyaml.Errors, which names every mistake with its place.
func ParseFile(fileName string, data []byte, loadKey func(path string) ([]byte, error)) (*File, error) {
	doc, err := strictyaml.Open(fileName, data, limits)
	if err != nil {
		return nil, err
	}
	refuseLaterHosts(doc)
	if err := doc.Err(); err != nil {
		return nil, err // they would be told again, as unknown fields
	}
	content := strictyaml.Read(doc, fileShape())
	if err := doc.Err(); err != nil {
		return nil, err
	}
	f := &File{}
	for i, r := range content.rebuilders {
		checkHost(doc, i, r.host)
		r.Docker, r.Remote = r.host.docker, r.host.remote
		if r.KeyFile, err = privateKey(r); err != nil {
			doc.Errorf(doc.At("rebuilders", i, "key"), "%v", err)
		}
		if r.Key, err = loadPublic(r.keyPath, loadKey); err != nil {
			doc.Errorf(doc.At("rebuilders", i, "key"), "%v", err)
		}
		f.Rebuilders = append(f.Rebuilders, r.FileRebuilder)
	}
	if err := doc.Err(); err != nil {
		return nil, err
	}
	checkFile(doc, f)
	if p := content.policy; p != nil {
		f.Policy = NewPolicy(f.Rebuilders, p.threshold, p.distinct)
		f.Policy.AllowDissent = p.dissent
	}
	// Before Check, which has no places: most of what it can find was found above.
	if err := doc.Err(); err != nil {
		return nil, err
	}
	if f.Policy != nil {
		if err := f.Policy.Check(); err != nil {
			doc.Errorf(doc.At("policy"), "%v", err)
		}
	}
	return f, doc.Err()
}

// refuseLaterHosts says in plain words that a host is not there yet.
func refuseLaterHosts(doc *strictyaml.Document) {
	for i := 0; doc.Has("rebuilders", i) && i < agreement.MaxRebuilders; i++ {
		for _, h := range laterHosts {
			if doc.Has("rebuilders", i, "host", h) {
				doc.Errorf(doc.Key("rebuilders", i, "host", h), "host %q is not supported yet; this version starts workers on "+hostKinds, h)
			}
		}
	}
}

// checkHost holds what one host says against itself.
func checkHost(doc *strictyaml.Document, i int, h fileHost) {
	kinds := 0
	for _, set := range []bool{h.local != nil, h.docker != nil, h.remote != nil} {
		if set {
			kinds++
		}
	}
	if kinds != 1 {
		doc.Errorf(doc.At("rebuilders", i, "host"), "expected one of "+hostKinds)
	}
	if h.docker == nil {
		return
	}
	refuse := func(field, format string, args ...any) {
		doc.Errorf(doc.At("rebuilders", i, "host", "docker", field), format, args...)
	}
	scheme, _, _ := strings.Cut(h.docker.Endpoint, "://")
	switch {
	case h.docker.Endpoint != "" && h.docker.Context != "":
		refuse("context", "docker has both an endpoint and a context; say one")
	case h.docker.Endpoint != "" && !slices.Contains([]string{"unix", "tcp", "ssh"}, scheme):
		refuse("endpoint", "endpoint %s: expected unix://, tcp:// or ssh://", strictyaml.Quote(h.docker.Endpoint))
	case h.docker.TLS != "" && scheme != "tcp":
		refuse("tls", "tls is for an endpoint that begins with tcp://")
	case h.docker.TLS == "" && scheme == "tcp":
		refuse("endpoint", "without tls anybody on the way owns that machine; name the folder of ca.pem, cert.pem and key.pem")
	}
}

// checkFile finds names and keys that stand twice.
func checkFile(doc *strictyaml.Document, f *File) {
	names := map[string]bool{}
	keys := map[keyfile.PublicKey]string{}
	for i, r := range f.Rebuilders {
		if names[r.Name] {
			doc.Errorf(doc.At("rebuilders", i, "name"), "two rebuilders are named %q", r.Name)
		}
		names[r.Name] = true
		if first, ok := keys[r.Key]; ok {
			doc.Errorf(doc.At("rebuilders", i, "key"), "names %q and %q have the same key; identity is key material", first, r.Name)
		} else {
			keys[r.Key] = r.Name
		}
	}
}

func privateKey(r fileRebuilder) (string, error) {
	if r.host.docker != nil || r.host.remote != nil {
		return "", nil
	}
	if r.host.local != nil && r.host.local.key != "" {
		return r.host.local.key, nil
	}
	base, ok := strings.CutSuffix(r.keyPath, ".pub")
	if !ok {
		return "", fmt.Errorf("cannot tell the private key's file from %s, which does not end in .pub; say host: {local: {key: FILE}}", strictyaml.Quote(r.keyPath))
	}
	return base + ".key", nil
}

func loadPublic(path string, loadKey func(string) ([]byte, error)) (keyfile.PublicKey, error) {
	data, err := loadKey(path)
	if err != nil {
		return keyfile.PublicKey{}, fmt.Errorf("cannot read key %s: %w", strictyaml.Quote(path), err)
	}
	key, err := keyfile.ParsePublic(data)
	if err != nil {
		return keyfile.PublicKey{}, fmt.Errorf("key %s: %w", strictyaml.Quote(path), err)
	}
	return key, nil
}

func fileShape() strictyaml.Shape[fileContent] {
	name := strictyaml.Matching("", agreement.CheckName)
	path := strictyaml.Matching("", func(s string) error {
		if s == "" || !strictyaml.Printable(s) {
			return strictyaml.Refuse("%q is not a path of a key file", s)
		}
		return nil
	})
	uri := strictyaml.Matching("", func(s string) error {
		if !strings.Contains(s, ":") || !strictyaml.Printable(s) || strings.Contains(s, " ") {
			return strictyaml.Refuse("builder id %q must be a URI", s)
		}
		return nil
	})
	local := strictyaml.Object(strictyaml.Optional("key", "Private key that the worker signs with.", path, func(l *fileLocal, v string) { l.key = v }))
	text := strictyaml.Matching("", func(s string) error {
		if s == "" || !strictyaml.Printable(s) || strings.ContainsAny(s, " \t") {
			return strictyaml.Refuse("%q names no engine", s)
		}
		return nil
	})
	docker := strictyaml.Object(
		strictyaml.Optional("endpoint", "Where the engine is: unix://, tcp:// or ssh://.", text, func(d *FileDocker, v string) { d.Endpoint = v }),
		strictyaml.Optional("tls", "Folder with ca.pem, cert.pem and key.pem.", path, func(d *FileDocker, v string) { d.TLS = v }),
		strictyaml.Optional("context", "Context of the docker command, instead of an endpoint.", text, func(d *FileDocker, v string) { d.Context = v }),
	)
	endpoint := strictyaml.Matching("", func(s string) error {
		if err := remote.CheckEndpoint(s); err != nil {
			return strictyaml.Refuse("endpoint %q: %v", s, err)
		}
		return nil
	})
	service := strictyaml.Object(
		strictyaml.Required("endpoint", "Where the service is: https://HOST:PORT.", endpoint, func(r *FileRemote, v string) { r.Endpoint = v }),
		strictyaml.Required("tls", "Folder with ca.pem, cert.pem and key.pem.", path, func(r *FileRemote, v string) { r.TLS = v }),
	)
	host := strictyaml.Object(
		strictyaml.Optional("local", "Start the worker on this machine.", local, func(h *fileHost, v fileLocal) { h.local = &v }),
		strictyaml.Optional("docker", "Start the worker in a Docker Engine.", docker, func(h *fileHost, v FileDocker) { h.docker = &v }),
		strictyaml.Optional("remote", "Ask the service of another operator.", service, func(h *fileHost, v FileRemote) { h.remote = &v }),
	)
	rebuilder := strictyaml.Object(
		strictyaml.Required("name", "What it is called in outcomes and file names.", name, func(r *fileRebuilder, v string) { r.Name = v }),
		strictyaml.Required("operator", "Who runs it.", name, func(r *fileRebuilder, v string) { r.Operator = v }),
		strictyaml.Required("host", "Where its worker runs.", host, func(r *fileRebuilder, v fileHost) { r.host = v }),
		strictyaml.Required("key", "Public key that its reports must be signed with.", path, func(r *fileRebuilder, v string) { r.keyPath = v }),
		strictyaml.Optional("builder-id", "SLSA builder.id of its reports.", uri, func(r *fileRebuilder, v string) { r.BuilderID = v }),
	)
	policy := strictyaml.Object(
		strictyaml.Required("threshold", "How many distinct keys must say the same.", strictyaml.Integer(1, agreement.MaxRebuilders), func(p *filePolicy, v int64) { p.threshold = int(v) }),
		strictyaml.Optional("distinct", "How distinct those must be.", strictyaml.Dict("attribute", strictyaml.Text(), strictyaml.Integer(1, agreement.MaxRebuilders)),
			func(p *filePolicy, v []strictyaml.Entry[int64]) {
				p.distinct = map[string]int{}
				for _, e := range v {
					p.distinct[e.Key] = int(e.Value)
				}
			}),
		strictyaml.Optional("allow-dissent", "Sign although some rebuilders built something else.", strictyaml.Boolean(), func(p *filePolicy, v bool) { p.dissent = v }),
	)
	return strictyaml.Object(
		strictyaml.Required("rebuilders", "Who is asked.", strictyaml.NonEmpty(strictyaml.List(rebuilder)), func(f *fileContent, v []fileRebuilder) { f.rebuilders = v }),
		strictyaml.Optional("policy", "The rule they are judged by.", policy, func(f *fileContent, v filePolicy) { f.policy = &v }),
	)
}

// NewPolicy returns the policy that names exactly these rebuilders.
func NewPolicy(rebuilders []FileRebuilder, threshold int, distinct map[string]int) *agreement.Policy {
	p := &agreement.Policy{Threshold: threshold, Distinct: distinct}
	for _, r := range rebuilders {
		p.Rebuilders = append(p.Rebuilders, agreement.Rebuilder{Name: r.Name, Operator: r.Operator, Key: r.Key, BuilderID: r.BuilderID})
	}
	return p
}
