package store

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/hnvgate/hnvgate/hnv"
)

// importBatch is about how many records one transaction of an import holds.
const importBatch = 1000

// ImportFunc puts lookup records, as many as plan gives. All are checked
// together before the first is written; then they are written in transactions
// of a bounded size. So a refusal leaves nothing behind, but a failure of the
// storage half way leaves the first part, which importing again completes. With
// check nothing is written at all.
func (s *Store) ImportFunc(ctx context.Context, plan func(f *hnv.Fabric) ([]hnv.Change, error), check bool) (int64, error) {
	if err := s.acquire(ctx); err != nil {
		return 0, err
	}
	defer s.release()
	parts, err := s.rehearse(plan)
	if err != nil {
		return 0, err
	}
	revision := s.Revision()
	if check {
		return revision, nil
	}
	done, total := 0, 0
	for _, part := range parts {
		total += len(part)
	}
	for _, part := range parts {
		rev, err := s.update(ctx, func(*hnv.Fabric) ([]hnv.Change, error) { return part, nil })
		if err != nil {
			return revision, fmt.Errorf("import stopped after %d of %d records, import again to complete it: %w", done, total, err)
		}
		revision = rev
		done += len(part)
	}
	return revision, nil
}

// rehearse gives the changes in the parts that they are to be written in, if all
// of them together may be.
func (s *Store) rehearse(plan Plan) ([][]hnv.Change, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	changes, err := plan(s.fabric)
	if err != nil {
		return nil, err
	}
	for i, c := range changes {
		switch r := c.Put.(type) {
		case hnv.Record:
		case *hnv.Record:
			changes[i].Put = *r
		default:
			return nil, errors.New("import: only lookup records can be imported")
		}
	}
	undo, err := s.fabric.Apply(s.fabric.WithFollowers(changes))
	if err != nil {
		return nil, err
	}
	undo()
	return importParts(changes), nil
}

// importParts cuts an import into transactions of about importBatch records, and
// not between those of one station, unless it has thousands: what is checked of them together holds
// after each part, too.
func importParts(changes []hnv.Change) [][]hnv.Change {
	last := make(map[hnv.RecordKey]int, len(changes))
	for i, c := range changes {
		last[c.Put.(hnv.Record).RecordKey()] = i
	}
	sorted := make([]hnv.Change, 0, len(last))
	for i, c := range changes {
		if last[c.Put.(hnv.Record).RecordKey()] == i { // of two for one key the last has effect
			sorted = append(sorted, c)
		}
	}
	slices.SortStableFunc(sorted, func(a, b hnv.Change) int { return compareStations(a.Put.(hnv.Record), b.Put.(hnv.Record)) })
	var parts [][]hnv.Change
	for len(sorted) > 0 {
		n := min(importBatch, len(sorted))
		for n < min(10*importBatch, len(sorted)) && compareStations(sorted[n-1].Put.(hnv.Record), sorted[n].Put.(hnv.Record)) == 0 {
			n++
		}
		parts, sorted = append(parts, sorted[:n:n]), sorted[n:]
	}
	return parts
}

func compareStations(a, b hnv.Record) int {
	x, y := a.MAC.Bytes(), b.MAC.Bytes()
	return cmp.Or(cmp.Compare(a.VSID.Uint32(), b.VSID.Uint32()), bytes.Compare(x[:], y[:]))
}
