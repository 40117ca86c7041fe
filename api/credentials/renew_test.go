package credentials_test

import (
	"os"
	"testing"
	"time"

	"github.com/hnvgate/hnvgate/api/credentials"
	"github.com/hnvgate/hnvgate/api/credentials/credentialstest"
)

func TestRenewal(t *testing.T) {
	ca := credentialstest.New(t, "ca")
	dir := t.TempDir()
	live := ca.Issue(dir, credentialstest.Leaf{Name: "a"})
	now := time.Unix(1_800_000_000, 0)
	s, err := credentials.OpenAt(live, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	is := func(when, name string, generation uint64, well bool) {
		t.Helper()
		set := s.Current()
		if got := set.Certificate.Leaf.Subject.CommonName; got != name || set.Generation != generation || (s.Err() == nil) != well {
			t.Errorf("%s: %s, generation %d, %v; want %s, %d, well %v", when, got, set.Generation, s.Err(), name, generation, well)
		}
	}
	is("at first", "a", 1, true)
	ca.Issue(dir, credentialstest.Leaf{Name: "b"})
	is("within the same second", "a", 1, true)
	now = now.Add(credentials.LookEvery)
	is("renewed", "b", 2, true)
	now = now.Add(credentials.LookEvery)
	is("nothing changed", "b", 2, true)

	// The certificate is there already, its key is not yet.
	next := ca.Issue(t.TempDir(), credentialstest.Leaf{Name: "c"})
	write(t, live.Certificate, read(t, next.Certificate))
	now = now.Add(credentials.LookEvery)
	is("half renewed", "b", 2, false)
	write(t, live.Key, read(t, next.Key))
	now = now.Add(credentials.LookEvery)
	is("wholly renewed", "c", 3, true)

	if err := os.Remove(live.Key); err != nil {
		t.Fatal(err)
	}
	now = now.Add(credentials.LookEvery)
	is("without a key", "c", 3, false)
	write(t, live.Key, read(t, next.Key))
	now = now.Add(-time.Hour) // somebody set the clock
	is("the key is back", "c", 4, true)
}
