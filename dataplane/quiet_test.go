package dataplane

import (
	"errors"
	"sync"
	"testing"

	"github.com/hnvgate/hnvgate/dataplane/packet"
)

// quietPipe tells how many frames its batch has while it waits.
type quietPipe struct {
	*pipe
	b     *batch
	quiet bool
	held  []int
	err   error
}

func (q *quietPipe) Quiet() bool { return q.quiet }

func (q *quietPipe) Wait() error {
	q.held = append(q.held, len(q.b.all))
	return q.err
}

// Who waits for nothing holds no frames, and has them back when something comes.
func TestQuietReaderHoldsNoFrames(t *testing.T) {
	b := newBatch(new(sync.Pool))
	q := &quietPipe{pipe: newPipe(), b: b, quiet: true}
	b.grow(3)
	for _, quiet := range []bool{true, true, false, true} {
		q.quiet = quiet
		if _, err := q.WriteBatch([]*packet.Frame{b.next()[0]}); err != nil {
			t.Fatal(err)
		}
		n, err := b.read(q)
		if n != 1 || err != nil {
			t.Fatal(n, err)
		}
		b.had(n)
	}
	if len(q.held) != 3 || q.held[0]+q.held[1]+q.held[2] != 0 {
		t.Errorf("while it waited it had %v frames", q.held)
	}
	q.err = errTest
	if n, err := b.read(q); n != 0 || !errors.Is(err, errTest) {
		t.Errorf("%d, %v", n, err)
	}
}
