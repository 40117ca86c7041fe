package document

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"

	v1 "github.com/hnvgate/hnvgate/api/v1"
)

// walker fills a v1.Document from YAML nodes and notes the place of everything.
type walker struct {
	doc  *Document
	file string
	errs []error
}

func (w *walker) fail(n ast.Node, format string, args ...any) {
	w.errs = append(w.errs, &Error{w.place(n), fmt.Sprintf(format, args...)})
}

func (w *walker) place(n ast.Node) Place {
	// The token of a mapping is its first colon; people look for the key.
	switch m := n.(type) {
	case *ast.MappingNode:
		if len(m.Values) > 0 && !m.IsFlowStyle {
			n = m.Values[0].Key
		}
	case *ast.MappingValueNode:
		n = m.Key
	}
	p := Place{File: w.file}
	if t := n.GetToken(); t != nil && t.Position != nil {
		p.Line, p.Column = t.Position.Line, t.Position.Column
	}
	return p
}

// document adds one YAML document.
func (w *walker) document(n ast.Node) {
	if _, ok := n.(*ast.NullNode); ok {
		return
	}
	version := w.doc.APIVersion
	w.doc.APIVersion = ""
	w.value(n, reflect.ValueOf(&w.doc.Document).Elem(), "")
	if v := w.doc.APIVersion; v != "" && v != v1.APIVersion {
		p := w.doc.places["apiVersion"]
		w.errs = append(w.errs, &Error{p, fmt.Sprintf("apiVersion %q is unknown: write %s, or leave it out", v, v1.APIVersion)})
	}
	if w.doc.APIVersion == "" {
		w.doc.APIVersion = version
	}
}

func (w *walker) value(n ast.Node, v reflect.Value, path string) {
	switch n.(type) {
	case *ast.AnchorNode, *ast.AliasNode, *ast.MergeKeyNode:
		w.fail(n, "anchors and aliases are not taken: write out what is meant")
		return
	case *ast.TagNode:
		w.fail(n, "tags are not taken: leave it out")
		return
	}
	if path != "" {
		w.doc.places[path] = w.place(n)
	}
	switch v.Kind() {
	case reflect.Struct:
		w.object(n, v, path)
	case reflect.Pointer:
		if _, ok := n.(*ast.NullNode); ok {
			w.fail(n, "%s is empty: say what is in it, or leave it out", last(path))
			return
		}
		v.Set(reflect.New(v.Type().Elem()))
		w.value(n, v.Elem(), path)
	case reflect.Slice:
		w.list(n, v, path)
	default:
		w.scalar(n, v, path)
	}
}

func (w *walker) object(n ast.Node, v reflect.Value, path string) {
	var pairs []*ast.MappingValueNode
	switch m := n.(type) {
	case *ast.MappingNode:
		pairs = m.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{m}
	default:
		w.fail(n, "here must be %s, with %s, not %s", noun(v.Type()), fieldList(v.Type()), sort(n))
		return
	}
	known := fieldsOf(v.Type())
	seen := map[string]int{}
	for _, p := range pairs {
		key := keyText(p.Key)
		i, ok := known[key]
		if !ok {
			w.fail(p.Key, "unknown field %q: %s has %s", key, noun(v.Type()), fieldList(v.Type()))
			continue
		}
		if line, again := seen[key]; again {
			w.fail(p.Key, "field %q is given twice: it is in line %d already", key, line)
			continue
		}
		seen[key] = w.place(p.Key).Line
		at := key
		if path != "" {
			at = path + "." + key
		}
		w.value(p.Value, v.Field(i), at)
	}
}

// list appends, so that the lists of several documents become one.
func (w *walker) list(n ast.Node, v reflect.Value, path string) {
	if _, ok := n.(*ast.NullNode); ok {
		return
	}
	s, ok := n.(*ast.SequenceNode)
	if !ok {
		w.fail(n, "%s must be a list, not %s: begin each entry with a dash", last(path), sort(n))
		return
	}
	for _, item := range s.Values {
		at := fmt.Sprintf("%s[%d]", path, v.Len())
		e := reflect.New(v.Type().Elem()).Elem()
		w.value(item, e, at)
		v.Set(reflect.Append(v, e))
	}
}

func isList(n ast.Node) bool {
	_, ok := n.(*ast.SequenceNode)
	return ok
}

func (w *walker) scalar(n ast.Node, v reflect.Value, path string) {
	if _, ok := n.(*ast.NullNode); ok {
		if strings.HasSuffix(path, "]") {
			w.fail(n, "an entry of the list is empty")
		}
		return
	}
	switch v.Kind() {
	case reflect.String:
		text, ok := scalarText(n)
		if !ok {
			w.fail(n, "%s must be a text, not %s", last(path), sort(n)+quoteHint(n))
			return
		}
		v.SetString(text)
	case reflect.Bool:
		b, ok := n.(*ast.BoolNode)
		if !ok {
			w.fail(n, "%s must be true or false, not %s", last(path), sort(n))
			return
		}
		v.SetBool(b.Value)
	case reflect.Uint16, reflect.Uint32, reflect.Uint64:
		if _, ok := n.(*ast.IntegerNode); !ok {
			w.fail(n, "%s must be a whole number, not %s", last(path), sort(n))
			return
		}
		text := n.GetToken().Value
		u, err := strconv.ParseUint(text, 10, v.Type().Bits())
		if err != nil {
			w.fail(n, "%s must be a whole decimal number from 0 to %d, not %s", last(path), ^uint64(0)>>(64-v.Type().Bits()), text)
			return
		}
		v.SetUint(u)
	default:
		panic("document: v1 has a field of a kind that is not read: " + v.Type().String())
	}
}

// scalarText gives a text field's value. What looks like a number is taken as
// it is written: a name or MAC address of digits needs no quotes.
func scalarText(n ast.Node) (string, bool) {
	switch s := n.(type) {
	case *ast.StringNode:
		return s.Value, true
	case *ast.LiteralNode:
		return s.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode:
		return n.GetToken().Value, true
	}
	return "", false
}

// quoteHint helps where YAML takes the colons of an address or community for its own.
func quoteHint(n ast.Node) string {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return ": put text with colons in quotes"
	}
	return ""
}

func keyText(k ast.MapKeyNode) string {
	if text, ok := scalarText(k); ok {
		return text
	}
	return k.String()
}

// sort says what a node is, for people.
func sort(n ast.Node) string {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping"
	case *ast.SequenceNode:
		return "a list"
	case *ast.NullNode:
		return "nothing"
	case *ast.BoolNode:
		return n.GetToken().Value + " (put it in quotes to mean the text)"
	case *ast.StringNode, *ast.LiteralNode:
		return fmt.Sprintf("the text %q", n.GetToken().Value)
	}
	return n.GetToken().Value
}

func last(path string) string {
	if i := strings.LastIndexByte(path, '.'); i >= 0 {
		return path[i+1:]
	}
	return path
}

// noun calls a type of v1 by the word of the field.
func noun(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[v1.Document]():
		return "a document"
	case reflect.TypeFor[v1.LookupRecord]():
		return "a lookup record"
	case reflect.TypeFor[v1.CustomerRoute]():
		return "a customer route"
	case reflect.TypeFor[v1.ProviderAddress]():
		return "a provider address"
	case reflect.TypeFor[v1.ProviderRoute]():
		return "a provider route"
	case reflect.TypeFor[v1.NATMapping]():
		return "a NAT mapping"
	case reflect.TypeFor[v1.ACL]():
		return "an ACL"
	case reflect.TypeFor[v1.Attachment]():
		return "an attachment"
	case reflect.TypeFor[v1.S2SConnection]():
		return "a site-to-site connection"
	case reflect.TypeFor[v1.BGPRouter]():
		return "a BGP router"
	case reflect.TypeFor[v1.S2SPeer](), reflect.TypeFor[v1.BGPPeer]():
		return "a peer"
	case reflect.TypeFor[v1.S2SProbe]():
		return "a probe"
	case reflect.TypeFor[v1.PrefixMap]():
		return "a map of prefixes"
	case reflect.TypeFor[v1.AttachmentRoute]():
		return "a route"
	case reflect.TypeFor[v1.BGPNetwork]():
		return "a network"
	case reflect.TypeFor[v1.BGPAggregate]():
		return "an aggregate"
	case reflect.TypeFor[v1.BGPPolicy]():
		return "a policy"
	case reflect.TypeFor[v1.ACLRule](), reflect.TypeFor[v1.BGPRule]():
		return "a rule"
	case reflect.TypeFor[v1.BGPCommunityEdit]():
		return "a change of communities"
	case reflect.TypeFor[v1.BGPGracefulRestart]():
		return "graceful restart"
	case reflect.TypeFor[v1.BGPMaxPrefixes]():
		return "a limit of prefixes"
	case reflect.TypeFor[v1.BGPBFD]():
		return "BFD"
	case reflect.TypeFor[v1.NAT](), reflect.TypeFor[v1.QoS](), reflect.TypeFor[v1.Learning]():
		return strings.ToLower(t.Name())
	}
	return "a " + strings.ToLower(strings.TrimPrefix(t.Name(), "BGP"))
}

func fieldsOf(t reflect.Type) map[string]int {
	out := map[string]int{}
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		out[name] = i
	}
	return out
}

func fieldList(t reflect.Type) string {
	var names []string
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}
