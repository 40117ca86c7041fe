package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	v1 "github.com/hnvgate/hnvgate/api/v1"
)

// counter is a gateway with one tenant whose connection limit counts; its ETag
// is the count.
type counter struct {
	mu      sync.Mutex
	n       uint32
	puts    int
	deny    bool // as if others were faster each time
	missing bool
}

func (c *counter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	refuse := func(status int, urn string) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(v1.Problem{Type: urn, Status: status, Detail: "tenant contoso was changed meanwhile"})
	}
	if c.missing {
		refuse(404, v1.ProblemNotFound)
		return
	}
	if r.Method == http.MethodPut {
		c.puts++
		if c.deny || r.Header.Get("If-Match") != fmt.Sprintf(`"%d"`, c.n) {
			refuse(412, v1.ProblemPrecondition)
			return
		}
		var t v1.Tenant
		if err := json.NewDecoder(r.Body).Decode(&t); err != nil {
			refuse(422, v1.ProblemInvalid)
			return
		}
		c.n = t.Gateway.NAT.ConnectionLimit
	}
	w.Header().Set("ETag", fmt.Sprintf(`"%d"`, c.n))
	_ = json.NewEncoder(w).Encode(v1.Tenant{Name: "contoso", Gateway: &v1.Gateway{NAT: &v1.NAT{ConnectionLimit: c.n}}})
}

func increment(t *v1.Tenant) error {
	t.Gateway.NAT.ConnectionLimit++
	return nil
}

func TestUpdatesOfManyWritersAreAllKept(t *testing.T) {
	const writers = 16
	gw := &counter{}
	c := serve(t, gw.ServeHTTP)
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			if _, err := c.UpdateTenant(t.Context(), "contoso", increment); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if gw.n != writers {
		t.Errorf("%d of %d changes were kept", gw.n, writers)
	}
}

func TestUpdateThatNeverComesThrough(t *testing.T) {
	gw := &counter{deny: true}
	_, err := serve(t, gw.ServeHTTP).UpdateTenant(t.Context(), "contoso", increment)
	var busy *Busy
	var p *v1.Problem
	if !errors.As(err, &busy) || !errors.As(err, &p) || !strings.Contains(err.Error(), "tenant contoso is changed by others again and again") {
		t.Errorf("%v", err)
	}
	if gw.puts != maxAttempts {
		t.Errorf("%d attempts, want %d", gw.puts, maxAttempts)
	}
}

func TestUpdateEndsWithWhatIsRefused(t *testing.T) {
	gw := &counter{missing: true}
	c := serve(t, gw.ServeHTTP)
	var p *v1.Problem
	if _, err := c.UpdateTenant(t.Context(), "contoso", increment); !errors.As(err, &p) || p.Status != 404 {
		t.Errorf("%v", err)
	}
	gw.missing = false
	no := errors.New("no")
	if _, err := c.UpdateTenant(t.Context(), "contoso", func(*v1.Tenant) error { return no }); !errors.Is(err, no) || gw.puts != 0 {
		t.Errorf("%v after %d writes", err, gw.puts)
	}
}
