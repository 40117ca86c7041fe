package v1

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/hnvgate/hnvgate/hnv"
)

// FieldError is what is wrong with one field, which Field names by its path
// inside the object: "mac", "subnets[0].prefixes[1]".
type FieldError struct {
	Field string
	Err   error
}

func (e *FieldError) Error() string { return e.Err.Error() }
func (e *FieldError) Unwrap() error { return e.Err }

// fields collects what is wrong with an object's fields, so that all of it can
// be said at once.
type fields struct{ errs []error }

func (f *fields) fail(field string, err error) {
	f.errs = append(f.errs, &FieldError{field, err})
}

func (f *fields) failf(field, format string, args ...any) { f.fail(field, invalidf(format, args...)) }

// within takes over what is wrong with a part of the object, called what.
func (f *fields) within(what string, part *fields) {
	for _, err := range part.errs {
		var fe *FieldError
		if errors.As(err, &fe) {
			err = &FieldError{fe.Field, fmt.Errorf("%s: %w", what, fe.Err)}
		}
		f.errs = append(f.errs, err)
	}
}

func (f *fields) err() error { return errors.Join(f.errs...) }

// invalid is a sentence that is an hnv.ErrInvalid without saying so.
type invalid string

func invalidf(format string, args ...any) error { return invalid(fmt.Sprintf(format, args...)) }

func (e invalid) Error() string { return string(e) }
func (e invalid) Unwrap() error { return hnv.ErrInvalid }

// read converts one field's text; an empty optional one stays unset.
func read[T any](f *fields, field, s string, parse func(string) (T, error)) T {
	v, err := parse(s)
	if err != nil {
		f.fail(field, err)
		var none T
		return none
	}
	return v
}

func optional[T any](f *fields, field, s string, parse func(string) (T, error)) T {
	if s == "" {
		var none T
		return none
	}
	return read(f, field, s, parse)
}

func (f *fields) vsid(field string, n uint32) hnv.VSID {
	if n == 0 {
		f.failf(field, "the VSID is missing")
		return hnv.VSID{}
	}
	v, err := hnv.NewVSID(n)
	if err != nil {
		f.fail(field, err)
	}
	return v
}

// named reads the name of another object.
func (f *fields) named(field, what, s string) hnv.Name {
	if s == "" {
		f.failf(field, "the name of the %s is missing", what)
		return hnv.Name{}
	}
	n, err := hnv.ParseName(s)
	if err != nil {
		f.fail(field, fmt.Errorf("%s: %w", what, err))
	}
	return n
}

// addr, prefix and addrPort read what netip reads, and say it in our words.
func (f *fields) addr(field, what, s string) netip.Addr {
	a, err := netip.ParseAddr(s)
	switch {
	case s == "":
		f.failf(field, "the %s is missing", what)
	case err != nil:
		f.failf(field, "%s %q is not an IP address", what, s)
	}
	return a
}

func (f *fields) prefix(field, what, s string) netip.Prefix {
	p, err := netip.ParsePrefix(s)
	switch {
	case s == "":
		f.failf(field, "the %s is missing", what)
	case err != nil && !strings.Contains(s, "/"):
		f.failf(field, "%s %q has no prefix length: write it as ADDRESS/LENGTH", what, s)
	case err != nil:
		f.failf(field, "%s %q is malformed: write it as ADDRESS/LENGTH", what, s)
	}
	return p
}

func (f *fields) addrPort(field, what, s string) netip.AddrPort {
	ap, err := netip.ParseAddrPort(s)
	switch {
	case s == "":
		f.failf(field, "the %s end is missing", what)
	case err != nil:
		f.failf(field, "%s end %q is malformed: write it as 203.0.113.10:443, or [2001:db8::10]:443", what, s)
	}
	return ap
}
