package serve

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"quorate.dev/lockfile/digest"
	"quorate.dev/rebuild/host/remote"
)

// known is a submitter and what its certificate must be.
type known struct {
	name        string
	fingerprint digest.Digest  // of key or certificate; zero with roots
	roots       *x509.CertPool // nil with a fingerprint
	commonName  string
}

// loadCertificate reads the service's own certificate. One that nobody would
// accept is better noticed now.
func loadCertificate(c *Config, now time.Time) (tls.Certificate, error) {
	own, err := tls.LoadX509KeyPair(c.Cert, c.Key)
	if err != nil {
		return own, fmt.Errorf("cannot use the certificate %q: %w", c.Cert, err)
	}
	if now.After(own.Leaf.NotAfter) || now.Before(own.Leaf.NotBefore) {
		return own, fmt.Errorf("the certificate %q is good from %s to %s only, and now it is %s", c.Cert,
			own.Leaf.NotBefore.UTC().Format(time.DateTime), own.Leaf.NotAfter.UTC().Format(time.DateTime), now.UTC().Format(time.DateTime))
	}
	return own, nil
}

func loadSubmitters(c *Config) ([]known, error) {
	var all []known
	for _, s := range c.Submitters {
		k := known{name: s.Name, fingerprint: s.Fingerprint, commonName: s.CommonName}
		switch {
		case s.Certificate != "":
			cert, err := readCertificate(s.Certificate)
			if err != nil {
				return nil, fmt.Errorf("submitter %q: %w", s.Name, err)
			}
			k.fingerprint = remote.KeyFingerprint(cert)
		case s.CA != "":
			data, err := os.ReadFile(s.CA)
			if err != nil {
				return nil, fmt.Errorf("submitter %q: %w", s.Name, err)
			}
			k.roots = x509.NewCertPool()
			if !k.roots.AppendCertsFromPEM(data) {
				return nil, fmt.Errorf("submitter %q: %q holds no certificate", s.Name, s.CA)
			}
		}
		all = append(all, k)
	}
	return all, nil
}

func readCertificate(path string) (*x509.Certificate, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	cert, err := remote.ParseCertificate(data)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", path, err)
	}
	return cert, nil
}

// identify says whose certificate this is. Those that are enrolled by themselves
// come first, so that one out of a CA's many can have a name of its own.
func (s *Service) identify(chain []*x509.Certificate) (string, error) {
	if len(chain) == 0 {
		return "", errors.New("no certificate was shown")
	}
	leaf, now := chain[0], s.Now()
	if now.After(leaf.NotAfter) || now.Before(leaf.NotBefore) {
		return "", fmt.Errorf("certificate %s is good from %s to %s only", leaf.Subject, leaf.NotBefore.UTC().Format(time.DateTime), leaf.NotAfter.UTC().Format(time.DateTime))
	}
	key, whole := remote.KeyFingerprint(leaf), digest.Of(leaf.Raw)
	for _, k := range s.submitters {
		if k.roots == nil && (k.fingerprint == key || k.fingerprint == whole) {
			return k.name, nil
		}
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	for _, k := range s.submitters {
		if k.roots == nil || k.commonName != "" && k.commonName != leaf.Subject.CommonName {
			continue
		}
		o := x509.VerifyOptions{Roots: k.roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
		if _, err := leaf.Verify(o); err == nil {
			return k.name, nil
		}
	}
	return "", fmt.Errorf("certificate %s with the key %s is enrolled for nobody", leaf.Subject, key)
}

// tlsConfig lets nobody in who is not enrolled: strangers do not get as far as a
// request. Every request is held against the certificate again, because
// certificates expire while connections last.
func (s *Service) tlsConfig() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{s.certificate}, NextProtos: []string{"http/1.1"},
		// Any, because verifying is ours: pinned certificates have no CA.
		ClientAuth: tls.RequireAnyClientCert, SessionTicketsDisabled: true,
		VerifyConnection: func(c tls.ConnectionState) error {
			_, err := s.identify(c.PeerCertificates)
			if err != nil {
				s.metrics.refuse("handshake")
			}
			return err
		},
	}
}

// boundedListener has so many connections at once, and others wait.
type boundedListener struct {
	net.Listener
	places chan struct{}
}

func (l *boundedListener) Accept() (net.Conn, error) {
	l.places <- struct{}{}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.places
		return nil, err
	}
	return &connection{Conn: c, leave: sync.OnceFunc(func() { <-l.places })}, nil
}

// connection closes so that the other side can still read why.
type connection struct {
	net.Conn
	leave   func()
	trusted atomic.Bool // the handshake is over
}

// lingerTime and lingerBytes are for a client that has not yet noticed that its
// handshake was refused, and sends its request.
const (
	lingerTime  = 500 * time.Millisecond
	lingerBytes = 64 << 10
)

// Close of a refused handshake reads what is still coming: the system would answer it
// with a reset, which overtakes our alert, and the client could not say what is wrong.
func (c *connection) Close() error {
	defer c.leave()
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok && !c.trusted.Load() && half.CloseWrite() == nil {
		_ = c.Conn.SetReadDeadline(time.Now().Add(lingerTime))
		_, _ = io.CopyN(io.Discard, c.Conn, lingerBytes)
	}
	return c.Conn.Close()
}

// handshakeDone is told by the server when a connection has made it to a request.
func handshakeDone(c net.Conn, state http.ConnState) {
	if t, ok := c.(*tls.Conn); ok && state == http.StateActive {
		if own, ok := t.NetConn().(*connection); ok {
			own.trusted.Store(true)
		}
	}
}
