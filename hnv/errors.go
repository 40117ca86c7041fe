package hnv

import (
	"errors"
	"fmt"
)

// The kinds of refusal. Every error of this package wraps exactly one of them.
var (
	ErrInvalid  = errors.New("invalid")   // the value is wrong whatever else exists
	ErrConflict = errors.New("conflict")  // it contradicts another object
	ErrNotFound = errors.New("not found") // it names something that is not there
	ErrInUse    = errors.New("in use")    // others still depend on it
)

// refusal is a sentence for a person together with its kind. The kind is found
// by errors.Is and is not repeated in the text.
type refusal struct {
	kind error
	text string
}

func (r *refusal) Error() string { return r.text }
func (r *refusal) Unwrap() error { return r.kind }

func invalidf(format string, args ...any) error {
	return &refusal{ErrInvalid, fmt.Sprintf(format, args...)}
}

func conflictf(format string, args ...any) error {
	return &refusal{ErrConflict, fmt.Sprintf(format, args...)}
}

func notFoundf(format string, args ...any) error {
	return &refusal{ErrNotFound, fmt.Sprintf(format, args...)}
}

func inUsef(format string, args ...any) error {
	return &refusal{ErrInUse, fmt.Sprintf(format, args...)}
}

// ObjectError is a refusal together with the object of the change it is about,
// for a caller who handed in many. Its text is the refusal's own.
type ObjectError struct {
	Kind Kind
	Key  string
	Err  error
}

func (e *ObjectError) Error() string { return e.Err.Error() }
func (e *ObjectError) Unwrap() error { return e.Err }

func about(o Object, err error) error { return &ObjectError{o.Kind(), o.Key(), err} }
