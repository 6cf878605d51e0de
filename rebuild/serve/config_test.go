package serve

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"quorate.dev/lockfile/digest"
)

const goodConfig = `listen: "0.0.0.0:7443"
metrics: "127.0.0.1:7444"
tls: {cert: tls/cert.pem, key: tls/key.pem}
rebuilder: osl
operator: umbra
key: osl.key
state: state
submitters:
  - {name: acme, fingerprint: "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"}
  - {name: cncf, ca: cncf.pem, common-name: release}
allow: {definitions: [greeter, "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"], platforms: [linux/amd64], time: 1h, result-size: 2GiB}
`

func TestParseConfig(t *testing.T) {
	got, err := ParseConfig("serve.yaml", []byte(goodConfig))
	if err != nil {
		t.Fatal(err)
	}
	d := digest.Of([]byte("test"))
	want := &Config{
		Listen: "0.0.0.0:7443", Metrics: "127.0.0.1:7444", Cert: "tls/cert.pem", Key: "tls/key.pem", Rebuilder: "osl", Operator: "umbra",
		SigningKey: "osl.key", State: "state",
		Submitters: []Submitter{{Name: "acme", Fingerprint: d}, {Name: "cncf", CA: "cncf.pem", CommonName: "release"}},
		Allow: Allow{Names: []string{"greeter"}, Definitions: []digest.Digest{d}, Platforms: []string{"linux/amd64"},
			Definition: 1 << 20, Lock: 16 << 20, Locals: 1 << 30, Result: 2 << 30, Time: time.Hour},
		Queue: Queue{Length: 8, Parallel: 1, Each: 8}, Keep: Keep{Results: 24 * time.Hour, Disk: 50 << 30}, Grace: time.Minute,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("config (-want +got):\n%s", d)
	}
	if got.builderID() != "https://quorate.dev/builders/serve/v1/umbra/osl" {
		t.Errorf("builder id is %q", got.builderID())
	}
	change := func(old, new string) string {
		if strings.Count(goodConfig, old) != 1 {
			t.Fatalf("%q is not there once", old)
		}
		return strings.Replace(goodConfig, old, new, 1)
	}
	engine, err := ParseConfig("serve.yaml", []byte(change("key: osl.key\n", "worker: {docker: {endpoint: \"unix:///run/docker.sock\"}}\n")))
	if err != nil || engine.Worker != (Worker{Docker: true, Endpoint: "unix:///run/docker.sock"}) {
		t.Errorf("worker in an engine is %+v, %v", engine, err)
	}
	for _, test := range []struct{ summary, yaml, want string }{
		{"nobody may ask", change("submitters:\n  - {name: acme, fingerprint: \"sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\"}\n  - {name: cncf, ca: cncf.pem, common-name: release}", "submitters: []"), `serve.yaml:8:13: `},
		{"a submitter without a certificate", change(", ca: cncf.pem, common-name: release", ""), `serve.yaml:10:5: submitter "cncf": say one of certificate, fingerprint and ca`},
		{"two ways to know one", change("ca: cncf.pem, common-name: release", "ca: cncf.pem, certificate: x.pem"), `serve.yaml:10:5: submitter "cncf": say one of certificate, fingerprint and ca`},
		{"a name for one certificate", change("ca: cncf.pem, common-name", "certificate: x.pem, common-name"), `serve.yaml:10:51: common-name is for certificates of a ca`},
		{"one name twice", change("name: cncf", "name: acme"), `serve.yaml:10:12: two submitters are named "acme"`},
		{"metrics for everybody", change("127.0.0.1:7444", "0.0.0.0:7444"), `serve.yaml:2:10: metrics "0.0.0.0:7444": without TLS it is for this machine alone`},
		{"no key", change("key: osl.key\n", ""), `serve.yaml:1:1: key is missing`},
		{"a key beside an engine", change("state: state", "state: state\nworker: {docker: {}}"), `serve.yaml:6:6: key is for local workers; one in a Docker Engine signs with the key in its volume quorate-key-osl`},
		{"no address", change("0.0.0.0:7443", "0.0.0.0"), `serve.yaml:1:9: "0.0.0.0" is not HOST:PORT`},
		{"a size without a unit", change("2GiB", "\"2000\""), `serve.yaml:11:157: size "2000" is not a whole number with KiB, MiB, GiB or TiB`},
		{"nothing may be built", change("[greeter, \"sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\"]", "[]"), `serve.yaml:11:22: `},
		{"an unknown field", change("state: state", "stat: state"), `serve.yaml:7:1: unknown field "stat"`},
		{"nothing", "", "serve.yaml:1:1: "},
	} {
		t.Run(test.summary, func(t *testing.T) {
			_, err := ParseConfig("serve.yaml", []byte(test.yaml))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got  %v\nwant …%s…", err, test.want)
			}
		})
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(goodConfig))
	f.Add([]byte("worker: {docker: {}}"))
	f.Add([]byte("submitters: [{name: a, ca: b}]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := ParseConfig("f", data)
		if err != nil {
			return
		}
		// Whatever is accepted lets in only who has a certificate, and has limits.
		for _, s := range c.Submitters {
			if s.Name == "" || s.Certificate == "" && s.Fingerprint.IsZero() && s.CA == "" {
				t.Errorf("accepted the submitter %+v", s)
			}
		}
		a := c.Allow
		if len(c.Submitters) == 0 || a.Time <= 0 || a.Result <= 0 || a.Lock <= 0 || a.Definition <= 0 || a.Locals <= 0 ||
			c.Queue.Length < 1 || c.Queue.Parallel < 1 || c.Queue.Each < 1 || c.Keep.Disk <= 0 || c.Keep.Results <= 0 || c.State == "" || c.Rebuilder == "" {
			t.Errorf("accepted %+v", c)
		}
	})
}
