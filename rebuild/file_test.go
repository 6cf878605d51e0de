package rebuild

import (
	"io/fs"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseFile(t *testing.T) {
	one, two := newKey(t), newKey(t)
	keys := map[string][]byte{"keys/one.pub": one.Public().PEM(), "two.pem": two.Public().PEM(), "copy.pub": one.Public().PEM(), "bad.pub": []byte("x")}
	load := func(path string) ([]byte, error) {
		if b, ok := keys[path]; ok {
			return b, nil
		}
		return nil, fs.ErrNotExist
	}
	const good = `rebuilders:
  - {name: one, operator: acme, host: {local: {}}, key: keys/one.pub}
  - {name: two, operator: umbra, host: {local: {key: secret/two.key}}, key: two.pem, builder-id: "https://umbra.example/two"}
`
	f, err := ParseFile("rebuilders.yaml", []byte(good), load)
	if err != nil {
		t.Fatal(err)
	}
	want := []FileRebuilder{
		{Name: "one", Operator: "acme", Key: one.Public(), KeyFile: "keys/one.key", keyPath: "keys/one.pub"},
		{Name: "two", Operator: "umbra", Key: two.Public(), KeyFile: "secret/two.key", keyPath: "two.pem", BuilderID: "https://umbra.example/two"},
	}
	if d := cmp.Diff(want, f.Rebuilders, cmp.AllowUnexported(FileRebuilder{}), cmp.Comparer(func(a, b FileRebuilder) bool { return a == b })); d != "" {
		t.Errorf("rebuilders (-want +got):\n%s", d)
	}
	if f.Policy != nil {
		t.Errorf("policy is %+v", f.Policy)
	}
	f, err = ParseFile("rebuilders.yaml", []byte(good+"policy: {threshold: 2, distinct: {operator: 2}, allow-dissent: true}\n"), load)
	if err != nil {
		t.Fatal(err)
	}
	if p := f.Policy; p.Threshold != 2 || p.Distinct["operator"] != 2 || !p.AllowDissent || len(p.Rebuilders) != 2 || p.Rebuilders[1].BuilderID != want[1].BuilderID {
		t.Errorf("policy is %+v", p)
	}

	f, err = ParseFile("rebuilders.yaml", []byte(strings.Replace(good, "local: {}", `docker: {endpoint: "tcp://x:2376", tls: x/}`, 1)), load)
	if err != nil {
		t.Fatal(err)
	}
	if r := f.Rebuilders[0]; r.KeyFile != "" || r.Docker == nil || *r.Docker != (FileDocker{Endpoint: "tcp://x:2376", TLS: "x/"}) {
		t.Errorf("rebuilder in an engine is %+v", r)
	}

	f, err = ParseFile("rebuilders.yaml", []byte(strings.Replace(good, "local: {}", `remote: {endpoint: "https://osl:7443", tls: osl/}`, 1)), load)
	if err != nil {
		t.Fatal(err)
	}
	if r := f.Rebuilders[0]; r.KeyFile != "" || r.Remote == nil || *r.Remote != (FileRemote{Endpoint: "https://osl:7443", TLS: "osl/"}) {
		t.Errorf("rebuilder behind a service is %+v", r)
	}

	for _, test := range []struct{ summary, yaml, want string }{
		{"a host of later", strings.Replace(good, "host: {local: {}}", `host: {kubernetes: {}}`, 1),
			`rebuilders.yaml:2:40: host "kubernetes" is not supported yet; this version starts workers on "local", "docker" and "remote"`},
		{"an unknown host", strings.Replace(good, "local: {}", "lokal: {}", 1), `rebuilders.yaml:2:40: unknown field "lokal" in rebuilders[0].host`},
		{"no kind of host", strings.Replace(good, "local: {}", "", 1), `rebuilders.yaml:2:39: expected one of "local", "docker" and "remote"`},
		{"two kinds of host", strings.Replace(good, "local: {}", "local: {}, docker: {}", 1), `rebuilders.yaml:2:39: expected one of "local", "docker" and "remote"`},
		{"an engine by two names", strings.Replace(good, "local: {}", `docker: {endpoint: "ssh://x", context: x}`, 1),
			`rebuilders.yaml:2:79: docker has both an endpoint and a context; say one`},
		{"an engine that anybody owns", strings.Replace(good, "local: {}", `docker: {endpoint: "tcp://x:2375"}`, 1), `rebuilders.yaml:2:59: without tls anybody on the way owns that machine`},
		{"a protocol that engines do not speak", strings.Replace(good, "local: {}", `docker: {endpoint: "http://x"}`, 1), `rebuilders.yaml:2:59: endpoint "http://x": expected unix://, tcp:// or ssh://`},
		{"tls where it means nothing", strings.Replace(good, "local: {}", `docker: {endpoint: "ssh://x", tls: x}`, 1), `rebuilders.yaml:2:75: tls is for an endpoint that begins with tcp://`},
		{"a service without certificates", strings.Replace(good, "local: {}", `remote: {endpoint: "https://osl:7443"}`, 1), `rebuilders.yaml:2:48: missing field "tls" in rebuilders[0].host.remote`},
		{"a service that anybody can hear", strings.Replace(good, "local: {}", `remote: {endpoint: "http://osl:7443", tls: x}`, 1), `rebuilders.yaml:2:59: endpoint "http://osl:7443": expected https://HOST:PORT`},
		{"a service at a path", strings.Replace(good, "local: {}", `remote: {endpoint: "https://osl/v1", tls: x}`, 1), `rebuilders.yaml:2:59: endpoint "https://osl/v1": expected https://HOST:PORT and no path`},
		{"no host", strings.Replace(good, "host: {local: {}}, ", "", 1), `rebuilders.yaml:2:5: `},
		{"no key file", strings.Replace(good, "keys/one.pub", "one.pub", 1), `rebuilders.yaml:2:57: cannot read key "one.pub": file does not exist`},
		{"a bad key file", strings.Replace(good, "keys/one.pub", "bad.pub", 1), `rebuilders.yaml:2:57: key "bad.pub": `},
		{"private key unknown", strings.Replace(good, "{key: secret/two.key}", "{}", 1),
			`rebuilders.yaml:3:58: cannot tell the private key's file from "two.pem", which does not end in .pub; say host: {local: {key: FILE}}`},
		{"one key for two names", strings.Replace(good, "two.pem", "copy.pub", 1), `rebuilders.yaml:3:77: names "one" and "two" have the same key; identity is key material`},
		{"one name twice", strings.Replace(good, "name: two", "name: one", 1), `rebuilders.yaml:3:12: two rebuilders are named "one"`},
		{"a policy that nothing fulfils", good + "policy: {threshold: 3}\n", `rebuilders.yaml:4:9: policy cannot be used: threshold is 3, but `},
		{"nobody", "rebuilders: []\n", "rebuilders.yaml:1:13: "},
		{"nothing", "", "rebuilders.yaml:1:1: "},
		{"a bad name", strings.Replace(good, "name: one", "name: ../one", 1), "rebuilders.yaml:2:12: name "},
	} {
		t.Run(test.summary, func(t *testing.T) {
			_, err := ParseFile("rebuilders.yaml", []byte(test.yaml), load)
			if err == nil || !strings.HasPrefix(err.Error(), test.want) {
				t.Errorf("got  %v\nwant %s…", err, test.want)
			}
		})
	}
}

func FuzzParseFile(f *testing.F) {
	f.Add([]byte("rebuilders:\n  - {name: one, operator: acme, host: {local: {}}, key: one.pub}\npolicy: {threshold: 1}\n"))
	f.Add([]byte("rebuilders: [{host: {docker: {}}}]"))
	f.Add([]byte("rebuilders: [{name: a, operator: b, key: c.pub, host: {docker: {endpoint: 'tcp://x', tls: y}}}]"))
	f.Add([]byte("rebuilders: [{name: a, operator: b, key: c.pub, host: {remote: {endpoint: 'https://x:1', tls: y}}}]"))
	f.Add([]byte("rebuilders: {}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := ParseFile("f", data, func(string) ([]byte, error) { return nil, fs.ErrNotExist })
		if err == nil {
			t.Errorf("accepted without any key: %+v", file)
		}
	})
}
