package document

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	v1 "github.com/hnvgate/hnvgate/api/v1"
)

// Source is one file.
type Source struct {
	Name string // for people
	Data []byte
}

// Document is what the files hold together, and where in them each thing is.
type Document struct {
	v1.Document
	places map[string]Place
}

// Place is a position in a file; lines and columns count from 1.
type Place struct {
	File         string
	Line, Column int
}

func (p Place) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// Error is one thing that is wrong and its place.
type Error struct {
	Place   Place
	Message string
}

func (e *Error) Error() string { return e.Place.String() + ": " + e.Message }

// maxErrors bounds what is told at once.
const maxErrors = 50

// Parse reads all files; the error joins an *Error for each thing that is wrong.
func Parse(sources ...Source) (*Document, error) {
	d := &Document{places: map[string]Place{}}
	var errs []error
	for _, s := range sources {
		errs = append(errs, d.read(s)...)
	}
	if len(errs) > maxErrors {
		n := len(errs) - maxErrors
		errs = append(errs[:maxErrors], fmt.Errorf("and %d more", n))
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return d, nil
}

func (d *Document) read(s Source) []error {
	return d.parse(s, func(w *walker, bodies []body) {
		for _, b := range bodies {
			w.document(b)
		}
	})
}

// body is what a YAML document holds.
type body = ast.Node

// parse has walk look at the YAML documents of a file.
func (d *Document) parse(s Source, walk func(w *walker, bodies []body)) (errs []error) {
	defer func() {
		// The YAML parser is not ours; what it cannot digest is malformed.
		if p := recover(); p != nil {
			errs = []error{&Error{Place{File: s.Name}, "malformed YAML"}}
		}
	}()
	if depth := nesting(s.Data); depth > maxNesting {
		return []error{&Error{Place{File: s.Name}, fmt.Sprintf("brackets are nested %d deep: a document needs 5 at most", depth)}}
	}
	file, err := parser.ParseBytes(s.Data, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return []error{syntaxError(s.Name, err)}
	}
	w := walker{doc: d, file: s.Name}
	var bodies []body
	for _, doc := range file.Docs {
		if doc.Body != nil {
			bodies = append(bodies, doc.Body)
		}
	}
	walk(&w, bodies)
	return w.errs
}

// maxNesting bounds the recursion of the parser.
const maxNesting = 100

// nesting is how deep brackets could be nested at most.
func nesting(b []byte) int {
	depth, deepest := 0, 0
	for _, c := range b {
		switch c {
		case '[', '{':
			depth++
			deepest = max(deepest, depth)
		case ']', '}':
			depth = max(depth-1, 0)
		}
	}
	return deepest
}

func syntaxError(file string, err error) error {
	place := Place{File: file}
	message := strings.TrimSpace(err.Error())
	var detailed interface {
		GetToken() *token.Token
		GetMessage() string
	}
	if errors.As(err, &detailed) {
		message = detailed.GetMessage()
		if t := detailed.GetToken(); t != nil && t.Position != nil {
			place.Line, place.Column = t.Position.Line, t.Position.Column
		}
	}
	return &Error{place, "malformed YAML: " + message}
}

// Place finds where a location of a problem ("body.tenants[0].encap") is; for
// one that is not in the files, where the object is that it belongs to.
func (d *Document) Place(location string) (Place, bool) {
	at := strings.TrimPrefix(location, "body.")
	for at != "" {
		if p, ok := d.places[at]; ok {
			return p, true
		}
		i := strings.LastIndexAny(at, ".[")
		if i < 0 {
			break
		}
		at = at[:i]
	}
	return Place{}, false
}

// Marshal writes a value of package v1 as YAML; for a v1.Document, what Parse
// reads.
func Marshal(v any) ([]byte, error) {
	b, err := yaml.MarshalWithOptions(v, yaml.IndentSequence(false), yaml.UseLiteralStyleIfMultiline(false))
	if err != nil {
		return nil, fmt.Errorf("write YAML: %w", err)
	}
	return slices.Clip(b), nil
}
