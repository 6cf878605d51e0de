package remote

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"quorate.dev/lockfile/digest"
	"quorate.dev/rebuild/host"
)

const (
	// answerTime is for the head of an answer: a service on a busy machine.
	answerTime = time.Minute
	// stallTime is how long no byte of a body may move before we begin anew.
	stallTime = time.Minute
	// steadyTime is how long a transfer must have gone on for its cut to be a new misfortune.
	steadyTime = 15 * time.Second
	// The pauses between tries: a router's hiccup is over in the first, a restart in the last.
	firstPause, longestPause = 200 * time.Millisecond, 5 * time.Second
)

// line is the way to one service, and the rebuilder it is for.
type line struct {
	rebuilder string
	endpoint  string
	folder    string
	client    *http.Client
	patience  time.Duration
	queueTime time.Duration
}

func (h *Host) line(rebuilder string) (*line, error) {
	l := &line{rebuilder: rebuilder, endpoint: strings.TrimSuffix(h.Endpoint, "/"), folder: h.TLS, patience: h.Patience, queueTime: h.QueueTime}
	if l.patience == 0 {
		l.patience = defaultPatience
	}
	if l.queueTime == 0 {
		l.queueTime = defaultQueueTime
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.client == nil {
		client, err := l.newClient()
		if err != nil {
			return nil, l.failed("be asked", err)
		}
		h.client = client
	}
	l.client = h.client
	return l, nil
}

// CheckEndpoint says whether an endpoint can be one of a service.
func CheckEndpoint(endpoint string) error {
	u, err := url.Parse(endpoint)
	switch {
	case err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return errors.New("expected https://HOST:PORT")
	case strings.Trim(u.Path, "/") != "":
		return errors.New("expected https://HOST:PORT and no path")
	}
	return nil
}

func (l *line) newClient() (*http.Client, error) {
	if err := CheckEndpoint(l.endpoint); err != nil {
		return nil, err
	}
	config, err := l.tlsConfig()
	if err != nil {
		return nil, err
	}
	dialer := &net.Dialer{Timeout: 15 * time.Second, KeepAlive: 15 * time.Second}
	return &http.Client{
		// Nobody but the service itself is asked: neither a proxy of the environment, which
		// could not see inside anyway, nor where an answer points.
		Transport: &http.Transport{
			DialContext: dialer.DialContext, TLSClientConfig: config, TLSHandshakeTimeout: 20 * time.Second,
			ResponseHeaderTimeout: answerTime, MaxResponseHeaderBytes: 64 << 10, DisableCompression: true, IdleConnTimeout: 30 * time.Second,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// tlsConfig reads the folder's certificates, and says at once what is wrong with
// them: the service could only say "bad certificate".
func (l *line) tlsConfig() (*tls.Config, error) {
	file := func(name string) string { return filepath.Join(l.folder, name) }
	roots := x509.NewCertPool()
	ca, err := os.ReadFile(file("ca.pem"))
	if err != nil {
		return nil, fmt.Errorf("cannot read the certificate that the service is checked against: %w", err)
	}
	if !roots.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("%q holds no certificate", file("ca.pem"))
	}
	own, err := tls.LoadX509KeyPair(file("cert.pem"), file("key.pem"))
	if err != nil {
		return nil, fmt.Errorf("cannot use the certificate %q: %w", file("cert.pem"), err)
	}
	if now := time.Now(); now.After(own.Leaf.NotAfter) || now.Before(own.Leaf.NotBefore) {
		return nil, &expiredError{path: file("cert.pem"), from: own.Leaf.NotBefore, to: own.Leaf.NotAfter}
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots, Certificates: []tls.Certificate{own}}, nil
}

// expiredError is a certificate of ours that counts no more, or not yet.
type expiredError struct {
	path     string
	from, to time.Time
}

func (e *expiredError) Error() string {
	return fmt.Sprintf("the certificate %q is good from %s to %s only, and now it is %s", e.path,
		e.from.UTC().Format(time.DateTime), e.to.UTC().Format(time.DateTime), time.Now().UTC().Format(time.DateTime))
}

// Error is a service that did not do what it was asked.
type Error struct {
	Rebuilder string
	Endpoint  string
	What      string // what it could not: "be reached", "take the job"
	Err       error
	folder    string
}

func (e *Error) Error() string {
	return fmt.Sprintf("rebuilder %q at %s cannot %s: %v", e.Rebuilder, e.Endpoint, e.What, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// Hint says what to do about it.
func (e *Error) Hint() string {
	var refused *refusedError
	var expired *expiredError
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	cert, ca := filepath.Join(e.folder, "cert.pem"), filepath.Join(e.folder, "ca.pem")
	switch {
	case errors.As(e.Err, &refused):
		if refused.Refusal.Hint == "" {
			return ""
		}
		return "it says: " + refused.Refusal.Hint // another operator's words, and not ours
	case errors.As(e.Err, &expired):
		return fmt.Sprintf("make a new one (quorate rebuilders certificate), and have the operator of %q enrol it", e.Rebuilder)
	case errors.As(e.Err, &unknown):
		return fmt.Sprintf("the service's certificate is not the one in %q, nor signed by it: ask its operator for the right one, or somebody sits in between", ca)
	case errors.As(e.Err, &name):
		return "the endpoint in rebuilders.yaml must be a name that the service's certificate has: openssl x509 -noout -ext subjectAltName -in " + ca
	case errors.As(e.Err, &invalid) && invalid.Reason == x509.Expired:
		return fmt.Sprintf("its operator must make a new certificate and give it to you as %q; and look at this machine's clock", ca)
	case isAlert(e.Err):
		return fmt.Sprintf("it is not enrolled there, or has expired; ask the operator to write in serve.yaml: submitters: [{name: YOU, fingerprint: %q}]", Fingerprint(cert))
	case e.What == "be reached":
		return fmt.Sprintf("is quorate serve running there? try: openssl s_client -connect %s -CAfile %s -cert %s -key %s </dev/null",
			strings.TrimPrefix(e.Endpoint, "https://"), ca, cert, filepath.Join(e.folder, "key.pem"))
	}
	return ""
}

// MayPass says whether asking again may help: not against what somebody has to mend.
func (e *Error) MayPass() bool {
	var expired *expiredError
	var refused *refusedError
	switch {
	case errors.As(e.Err, &expired):
		return false
	case errors.As(e.Err, &refused) && refused.busy():
		return false // we have stood before its queue
	}
	return e.What == "be reached" && !final(e.Err)
}

func (l *line) failed(what string, err error) error {
	var same *Error
	if errors.As(err, &same) {
		return err
	}
	if isAlert(err) {
		err = fmt.Errorf("it does not accept the certificate %q (%w)", filepath.Join(l.folder, "cert.pem"), err)
	}
	return &Error{Rebuilder: l.rebuilder, Endpoint: l.endpoint, What: what, Err: err, folder: l.folder}
}

// Fingerprint is "sha256:" and the digest of the key in a certificate file, by which
// a service knows its submitters; "" when the file cannot be read.
func Fingerprint(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	cert, err := ParseCertificate(data)
	if err != nil {
		return ""
	}
	return KeyFingerprint(cert).String()
}

// ParseCertificate reads the first certificate of a PEM file.
func ParseCertificate(data []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("it does not begin with a certificate in PEM")
	}
	return x509.ParseCertificate(block.Bytes)
}

// KeyFingerprint is the sha256 of a certificate's SubjectPublicKeyInfo: of its
// key, which stays when the certificate is renewed.
func KeyFingerprint(cert *x509.Certificate) digest.Digest {
	return digest.Of(cert.RawSubjectPublicKeyInfo)
}

// refusedError is an answer that says no.
type refusedError struct {
	Refusal
	status int
	after  time.Duration // of Retry-After; 0 for none
}

func (e *refusedError) Error() string { return e.Message }

// again says whether the same may be asked later.
func (e *refusedError) again() bool {
	return e.status == http.StatusTooManyRequests || e.status >= 500
}

// busy says whether the service is well and has no room.
func (e *refusedError) busy() bool { return e.Code == CodeBusy || e.Code == CodeFull }

// maxRefusal is far above what a service says when it says no.
const maxRefusal = 64 << 10

// clip keeps what a person reads of a reason.
func clip(s string) string {
	const most = 1000
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

func readRefusal(a *http.Response) error {
	e := &refusedError{status: a.StatusCode}
	if decode(a.Body, maxRefusal, &e.Refusal) != nil || e.Message == "" {
		e.Refusal = Refusal{Message: "it answers " + a.Status + ", and not as quorate serve does"}
		if a.StatusCode == http.StatusNotFound {
			e.Code = CodeNotYours
		}
	}
	e.Message, e.Refusal.Hint = clip(e.Message), clip(e.Refusal.Hint)
	if s, err := strconv.Atoi(a.Header.Get("Retry-After")); err == nil && s > 0 {
		e.after = min(time.Duration(s)*time.Second, time.Hour)
	}
	return e
}

// request asks once. The answer's body is the caller's to close; its status is one of success.
func (l *line) request(ctx context.Context, method, path string, body io.Reader, size int64, header http.Header) (*http.Response, error) {
	q, err := http.NewRequestWithContext(ctx, method, l.endpoint+path, body)
	if err != nil {
		return nil, err
	}
	if body != nil {
		q.ContentLength = size
	}
	for name, values := range header {
		q.Header[name] = values
	}
	q.Header.Set("User-Agent", "quorate")
	a, err := l.client.Do(q)
	if err != nil {
		var where *url.Error
		if errors.As(err, &where) {
			err = where.Err // its address is said by whoever tells it
		}
		return nil, err
	}
	if a.StatusCode/100 != 2 {
		defer a.Body.Close()
		return nil, readRefusal(a)
	}
	return a, nil
}

// call asks once, with a JSON body and for a JSON answer; either may be nil.
func (l *line) call(ctx context.Context, method, path string, send, answer any) error {
	var body io.Reader
	size := int64(0)
	if send != nil {
		b, err := json.Marshal(send)
		if err != nil {
			return err
		}
		body, size = bytes.NewReader(b), int64(len(b))
	}
	ctx, cancel := context.WithTimeoutCause(ctx, answerTime+time.Duration(size>>10)*time.Millisecond*10, errors.New("no answer in time")) // 100 kB/s
	defer cancel()
	a, err := l.request(ctx, method, path, body, size, nil)
	if err != nil {
		return err
	}
	defer a.Body.Close()
	switch into := answer.(type) {
	case nil:
		return nil
	case *Status:
		s, err := readStatus(a.Body)
		if err == nil {
			*into = *s
		}
		return nonsense(err)
	}
	return nonsense(decode(a.Body, MaxAnswer, answer))
}

// nonsense is an answer that cannot be read, unless it was only cut.
func nonsense(err error) error {
	var network net.Error
	if err == nil || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &network) || errors.Is(err, context.Canceled) {
		return err
	}
	return &host.ProtocolError{Reason: err.Error()}
}

// final says whether the same question would get the same answer.
func final(err error) bool {
	var refused *refusedError
	var certificate *tls.CertificateVerificationError
	var notTLS tls.RecordHeaderError
	var nonsense *host.ProtocolError
	switch {
	case errors.As(err, &refused):
		return !refused.again()
	case errors.As(err, &certificate), errors.As(err, &notTLS), errors.As(err, &nonsense), isAlert(err):
		return true
	}
	return false
}

// isAlert says whether the other side ended the handshake, which it does when it
// does not like our certificate. (crypto/tls has no type for that.)
func isAlert(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}

// patiently does something until it is done, its error is final, or it went
// wrong for so long.
func (l *line) patiently(ctx context.Context, patience time.Duration, do func(ctx context.Context) error) error {
	pause := firstPause
	for begun := time.Now(); ; {
		tried := time.Now()
		err := do(ctx)
		var refused *refusedError
		switch {
		case err == nil || ctx.Err() != nil:
			return err
		case final(err):
			return err
		case errors.As(err, &refused) && refused.busy():
			return err // that is for whoever submits
		case time.Since(tried) > steadyTime:
			begun, pause = time.Now(), firstPause // it went well for long, and only then was cut
		case time.Since(begun) > patience:
			return err
		}
		wait := pause
		if refused != nil {
			wait = max(wait, min(refused.after, longestPause))
		}
		if err := sleep(ctx, wait); err != nil {
			return err
		}
		pause = min(2*pause, longestPause)
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// stalled ends a transfer of which no byte moves.
type stalled struct {
	r      io.Reader
	timer  *time.Timer
	within time.Duration
}

// watch makes a context that ends when the reader that wrap returns gives
// nothing for so long.
func watch(ctx context.Context, within time.Duration) (context.Context, func(io.Reader) io.Reader, context.CancelFunc) {
	ctx, cancelCause := context.WithCancelCause(ctx)
	s := &stalled{within: within}
	s.timer = time.AfterFunc(within, func() { cancelCause(fmt.Errorf("nothing came for %s", within)) })
	stop := func() {
		s.timer.Stop()
		cancelCause(nil)
	}
	return ctx, func(r io.Reader) io.Reader { s.r = r; return s }, stop
}

func (s *stalled) Read(b []byte) (int, error) {
	n, err := s.r.Read(b)
	if n > 0 {
		s.timer.Reset(s.within)
	}
	return n, err
}
