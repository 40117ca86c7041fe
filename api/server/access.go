package server

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/http"
	"strings"

	v1 "github.com/hnvgate/hnvgate/api/v1"
)

// access is what a client on another machine may do, each including what stands
// before it.
type access uint8

const (
	noAccess access = iota
	mayRead
	mayReport // what it learned
	mayAll
)

// names says what the holders of names may do.
type names struct {
	exact   map[string]access // as common name or URI
	dns     map[string]access // likewise in lower case: DNS names have no case
	unnamed access            // of a client with none of the names
}

func newNames(o TLSOptions) names {
	n := names{exact: map[string]access{}, dns: map[string]access{}}
	if len(o.Allow) == 0 {
		n.unnamed = mayAll
	}
	// From the most rights to the least, which stand.
	for _, l := range []struct {
		names []string
		may   access
	}{{o.Allow, mayAll}, {o.Peers, mayReport}, {o.ReadOnly, mayRead}} {
		for _, name := range l.names {
			n.exact[name] = l.may
			n.dns[strings.ToLower(name)] = l.may
		}
	}
	return n
}

// of tells what the certificate's holder may do, and how to call it.
func (n names) of(c *x509.Certificate) (who string, may access) {
	found := false
	take := func(name string, a access, ok bool) {
		if ok && (!found || a < may) {
			who, may, found = name, a, true
		}
	}
	a, ok := n.exact[c.Subject.CommonName]
	take(c.Subject.CommonName, a, ok && c.Subject.CommonName != "")
	for _, d := range c.DNSNames {
		a, ok := n.dns[strings.ToLower(d)]
		take(d, a, ok)
	}
	for _, u := range c.URIs {
		a, ok := n.exact[u.String()]
		take(u.String(), a, ok)
	}
	if !found {
		return called(c), n.unnamed
	}
	return who, may
}

// called is a certificate's first name, for people.
func called(c *x509.Certificate) string {
	switch {
	case c.Subject.CommonName != "":
		return c.Subject.CommonName
	case len(c.DNSNames) > 0:
		return c.DNSNames[0]
	case len(c.URIs) > 0:
		return c.URIs[0].String()
	}
	return "serial number " + c.SerialNumber.Text(16)
}

// needs is the least access that a request takes.
func needs(r *http.Request) access {
	switch {
	case r.Method == http.MethodGet, r.Method == http.MethodHead:
		return mayRead
	case r.Method == http.MethodPost && r.URL.Path == learnedPath:
		return mayReport
	}
	return mayAll
}

// learnedPath is where peers report what they learned.
const learnedPath = "/v1/learned-records"

// admit lets a request through where its client may make it.
func (l *TLSListener) admit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		refuse := func(who, detail string) {
			l.log.warn("refused a client", "client", who, "from", r.RemoteAddr, "method", r.Method, "path", r.URL.Path, "why", detail)
			w.Header().Set("Connection", "close")
			writeProblem(w, http.StatusForbidden, v1.ProblemForbidden, detail)
		}
		cert, err := l.verify(r)
		if err != nil {
			refuse("", err.Error())
			return
		}
		who, may := l.names.of(cert)
		switch {
		case may == noAccess:
			refuse(who, fmt.Sprintf("the client certificate of %s opens nothing here: none of its names is in listen.allow, listen.peers or listen.readOnly of gatewayd.yaml", who))
			return
		case may < needs(r) && may == mayReport:
			refuse(who, fmt.Sprintf("%s may only read and report learned records: listen.peers of gatewayd.yaml says so", who))
			return
		case may < needs(r):
			refuse(who, fmt.Sprintf("%s may only read: listen.readOnly of gatewayd.yaml says so", who))
			return
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callerKey{}, who)))
	})
}

// callerKey finds the client's name in the context of a request from another
// machine.
type callerKey struct{}

// caller names who made a request; empty: somebody at the socket.
func caller(ctx context.Context) string {
	who, _ := ctx.Value(callerKey{}).(string)
	return who
}
