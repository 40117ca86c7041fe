//go:build linux

package nat

import (
	"os"
	"reflect"
	"sync"

	"github.com/hnvgate/hnvgate/internal/nft"
)

// checked remembers how the namespaces' rules were when they were last read and
// compared, so that they are read again only after somebody changed something.
type checked struct {
	mu    sync.Mutex
	by    map[string]check // by path
	prune int              // how many there are when those of namespaces that are gone go
}

// check is what was found in a namespace.
type check struct {
	cookie     uint64 // of the namespace; a path and an inode come again
	generation uint32 // of the ruleset that had exactly the rules; 0: none was compared yet
	spec       *Spec  // whose rules; nil: Closed. Nobody changes it
}

const leastPrune = 64

// last gives what was found last, and whether this namespace was looked at before.
func (c *checked) last(path string, cookie uint64) (check, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k, ok := c.by[path]
	if !ok || k.cookie != cookie {
		return check{}, false
	}
	return k, true
}

func (c *checked) note(path string, k check) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.by[path] = k
	if len(c.by) <= c.prune {
		return
	}
	for p := range c.by {
		if !exists(p) {
			delete(c.by, p)
		}
	}
	c.prune = max(2*len(c.by), leastPrune)
}

// same tells whether nothing can differ from what was found: the same is wanted, and
// nobody changed anything.
func (k check) same(rules *nft.Conn, spec *Spec) (bool, error) {
	if k.cookie == 0 || k.generation == 0 || (k.spec == nil) != (spec == nil) || spec != nil && !reflect.DeepEqual(*k.spec, *spec) {
		return false, nil
	}
	now, err := rules.Generation()
	return now == k.generation, err
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
